"""The dynamics written a second time, from the spec: dense, slow, in float64, one sample at a time."""

import math

import torch
from torch import Tensor

from oneiros.world.nn.dynamics import Dynamics


def groups_of(height: int, width: int, m: int) -> list[list[int]]:
    if m == 1:
        return [[i] for i in range(height * width)]
    count = height * width // m
    splits = [(p, count // p) for p in range(1, count + 1) if count % p == 0]
    splits = [(p, q) for p, q in splits if height % p == 0 and width % q == 0]
    p, q = sorted(splits, key=lambda s: (abs(s[0] - s[1]), s[0]))[0]
    bits = max(1, math.ceil(math.log2(count))) if count > 1 else 1
    numbers = sorted(range(count), key=lambda i: sum(((i >> b) & 1) << (bits - 1 - b) for b in range(bits)))
    return [
        [y * width + x for y in range(height) for x in range(width) if y % p == g // q and x % q == g % q]
        for g in numbers
    ]


def norm(x: Tensor, gain: Tensor | None = None) -> Tensor:
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return x if gain is None else x * gain


def turn(x: Tensor, place: tuple[int, int, int] | None, periods: tuple[float, ...]) -> Tensor:
    """One element's heads (H, d) turned to (time, row, column); None is a meta token."""
    channels = int(x.shape[-1] * 7 / 8 / 3) // 2 * 2
    pairs = channels // 2
    half = 3 * pairs
    out = x.clone()
    for axis in range(3):
        for i in range(pairs):
            a, b = axis * pairs + i, half + axis * pairs + i
            if place is None:
                out[:, a] = out[:, b] = 0
                continue
            period = 4 * (periods[axis] / 4) ** (i / (pairs - 1) if pairs > 1 else 0)
            angle = 2 * math.pi * place[axis] / period
            out[:, a] = x[:, a] * math.cos(angle) - x[:, b] * math.sin(angle)
            out[:, b] = x[:, a] * math.sin(angle) + x[:, b] * math.cos(angle)
    return out


def oracle_logits(dynamics: Dynamics, grid: tuple[int, int], codes: Tensor, conditions: Tensor) -> Tensor:
    """codes (T, N), conditions (T, D) -> logits (T, N, K) in raster order."""
    w = {name: tensor.double() for name, tensor in dynamics.state_dict().items()}
    m, window, head_dim = dynamics.layout.tokens_per_step, dynamics.window, dynamics.head_dim
    num_codes, groups = grid[0] * grid[1], groups_of(*grid, m)
    conditions = conditions.double()

    rows, places, order = [*w["meta"]], [None] * len(w["meta"]), [None] * len(w["meta"])
    answers = []  # (row, frame, code) of every prediction
    for t in range(len(codes)):
        for step in range(num_codes // m + 1):
            for i in range(m):
                own = groups[step - 1][i] if step else num_codes
                target = groups[step][i] if step < len(groups) else num_codes
                content = conditions[t]
                if step:
                    vector = w["codebook"][codes[t, own]]
                    content = content + w["enter.weight"] @ vector + w["enter.bias"]
                if target < num_codes:
                    answers.append((len(rows), t, target))
                rows.append(content + w["own_position.weight"][own] + w["target_position.weight"][target])
                place = own if step else target
                places.append((t, place // grid[1], place % grid[1]))
                order.append((t, step))

    def sees(query: int, key: int) -> bool:
        if order[key] is None:
            return True
        if order[query] is None:
            return False
        (t_q, s_q), (t_k, s_k) = order[query], order[key]
        return 0 <= t_q - t_k < window and (t_k < t_q or s_k <= s_q)

    mask = torch.tensor([[sees(q, k) for k in range(len(rows))] for q in range(len(rows))])
    x, first = torch.stack(rows), None
    for layer in range(len(dynamics.blocks)):
        name = f"blocks.{layer}."
        normed = norm(x, w[name + "attention_norm.weight"])
        query, key = (normed @ w[name + "attention.query_key.weight"].T).chunk(2, -1)
        value = (normed @ w[name + "attention.value.weight"].T).unflatten(-1, (-1, head_dim))
        query, key = (norm(v.unflatten(-1, (-1, head_dim))) for v in (query, key))
        query, key = (
            torch.stack([turn(element, place, dynamics.periods) for element, place in zip(v, places, strict=True)])
            for v in (query, key)
        )
        if first is None:
            first = value
        else:
            gate = normed @ w[name + "attention.gate.weight"].T + w[name + "attention.gate.bias"]
            share = gate.sigmoid()[..., None]
            value = (1 - share) * value + share * first
        scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(head_dim)
        read = torch.einsum("hqk,khd->qhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), value)
        x = x + read.flatten(1) @ w[name + "attention.output.weight"].T
        normed = norm(x, w[name + "feed_forward_norm.weight"])
        expanded, gate = (normed @ w[name + "feed_forward.expand.weight"].T).chunk(2, -1)
        x = x + (expanded * gate * gate.sigmoid()) @ w[name + "feed_forward.contract.weight"].T

    leaving = norm(x, w["output_norm.weight"]) @ w["leave.weight"].T + w["leave.bias"]
    logits = torch.zeros(len(codes), num_codes, len(w["codebook"]), dtype=torch.float64)
    for row, t, code in answers:
        distance = (leaving[row] - w["codebook"]).square().sum(-1).sqrt()
        logits[t, code] = -w["log_scale"].exp() * distance
    return logits
