"""Released KPConvX checkpoints, made here in their layout: read, run as their code runs them, and refused."""

import pickle
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from oneiros.points.nn import kernel_points
from oneiros.points.nn.unet import PRESETS, PointUNet
from oneiros.points.official_weights import load_official_weights, official_name
from oneiros.records import PointBatch

GRID, SCALING, SHELLS = 0.1, 2.0, (1, 4, 7)
NUM_KERNEL_POINTS = sum(SHELLS)
DIMS, DEPTHS, GROUPS = (16, 32, 48), (2, 1, 2), 8


def checkpoint(*, classifier=False, gates=True, expand_output=True) -> dict[str, torch.Tensor]:
    """Random tensors by the names of the released code (models/KPNext.py and the blocks it is built of)."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def draw(*shape):
        return torch.randn(shape, generator=generator) / max(shape[-1], 1) ** 0.5

    def norm(name, dim):
        state[f"{name}.norm.batch_norm.weight"] = 1 + draw(dim)
        state[f"{name}.norm.batch_norm.bias"] = draw(dim)
        state[f"{name}.norm.batch_norm.running_mean"] = draw(dim)
        state[f"{name}.norm.batch_norm.running_var"] = 0.5 + draw(dim).abs()
        state[f"{name}.norm.batch_norm.num_batches_tracked"] = torch.tensor(7)

    shells = kernel_points.repulsion((0.0, 0.4, 0.8), SHELLS).float()

    def kernel(level):
        """Turned about the vertical and moved a little, differently in every block, as where blocks share none."""
        yaw = torch.rand((), generator=generator) * 2 * torch.pi
        turn = torch.tensor([[yaw.cos(), -yaw.sin(), 0], [yaw.sin(), yaw.cos(), 0], [0, 0, 1]])
        moved = shells @ turn + torch.randn(shells.shape, generator=generator) * 0.001
        return moved * 2.1 * GRID * SCALING**level

    def block(name, level, dim, out_dim, gated):
        hidden = 4 * (out_dim if expand_output else dim)
        state[f"{name}.conv.weights"] = draw(NUM_KERNEL_POINTS, dim)
        state[f"{name}.conv.kernel_points"] = kernel(level)
        if gated:
            gates_out = NUM_KERNEL_POINTS * dim // GROUPS
            state[f"{name}.conv.alpha_mlp.0.weight"] = draw(dim, dim)
            state[f"{name}.conv.alpha_mlp.1.norm.bias"] = draw(dim)
            state[f"{name}.conv.alpha_mlp.3.weight"] = draw(gates_out, dim)
            state[f"{name}.conv.grpnorm.weight"] = 1 + draw(gates_out)
            state[f"{name}.conv.grpnorm.bias"] = draw(gates_out)
        norm(f"{name}.conv_norm", dim)
        state[f"{name}.up_mlp.0.weight"] = draw(hidden, dim)
        norm(f"{name}.up_mlp.1", hidden)
        state[f"{name}.down_mlp.0.weight"] = draw(out_dim, hidden)
        norm(f"{name}.down_mlp.1", out_dim)
        if dim != out_dim:
            state[f"{name}.mlp_downcut.0.weight"] = draw(out_dim, dim)
            norm(f"{name}.mlp_downcut.1", out_dim)

    state["stem.conv.weights"] = draw(NUM_KERNEL_POINTS, 1, 5, DIMS[0])
    state["stem.conv.kernel_points"] = kernel(0)
    norm("stem.norm", DIMS[0])
    for level, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        for number in range(depth):
            out_dim = DIMS[level + 1] if level + 1 < len(DIMS) and number == depth - 1 else dim
            block(f"encoder_{level + 1}.{number}", level, dim, out_dim, gates and level > 0)
    if classifier:
        state["head.0.mlp.weight"], state["head.0.norm.norm.bias"] = draw(256, DIMS[-1]), draw(256)
        state["head.2.weight"], state["head.2.bias"] = draw(6, 256), draw(6)
        return state
    for level in range(len(DIMS) - 1):
        state[f"decoder_unary_{level + 1}.mlp.weight"] = draw(DIMS[level], 2 * DIMS[level + 1])
        norm(f"decoder_unary_{level + 1}.norm", DIMS[level])
        block(f"decoder_layer_{level + 1}", level, DIMS[level], DIMS[level], gates)
    state["head.0.mlp.weight"] = draw(DIMS[0], DIMS[0])
    norm("head.0.norm", DIMS[0])
    state["head.1.weight"], state["head.1.bias"] = draw(6, DIMS[0]), draw(6)
    return state


def oracle(state, batch, pyramid, sigma):
    """The released network's forward pass in evaluation, written out over its own tensors."""

    def act(x):
        return F.leaky_relu(x, 0.1)

    def norm(name, x):
        get = {
            part: state[f"{name}.norm.batch_norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        }
        return F.batch_norm(x, get["running_mean"], get["running_var"], get["weight"], get["bias"])

    def around(level, kernel):
        here = pyramid.levels[level]
        padded = torch.cat([here.xyz, torch.full((1, 3), 1e6)])
        distance, nearest = (padded[here.neighbors] - here.xyz[:, None])[:, :, None].sub(kernel).norm(dim=3).min(2)
        present = here.neighbors < len(here.xyz)
        return here.neighbors, nearest, (1 - distance / (sigma * SCALING**level)).clamp_min(0) * present

    def conv(name, x, level):
        weights = state[f"{name}.weights"].expand(len(x), -1, -1)
        if f"{name}.alpha_mlp.0.weight" in state:
            gates = x @ state[f"{name}.alpha_mlp.0.weight"].T + state[f"{name}.alpha_mlp.1.norm.bias"]
            gates = (act(gates) @ state[f"{name}.alpha_mlp.3.weight"].T).T[None]
            gates = F.group_norm(
                gates, NUM_KERNEL_POINTS, state[f"{name}.grpnorm.weight"], state[f"{name}.grpnorm.bias"]
            )
            gates = gates[0].T.sigmoid().reshape(len(x), NUM_KERNEL_POINTS, -1, 1)
            weights = (weights.unflatten(2, (gates.shape[2], -1)) * gates).flatten(2)
        neighbors, nearest, influence = around(level, state[f"{name}.kernel_points"])
        chosen = weights.gather(1, nearest[..., None].expand(-1, -1, x.shape[1]))
        return (F.pad(x, (0, 0, 0, 1))[neighbors] * chosen * influence[..., None]).sum(1)

    def block(name, x, level):
        y = act(norm(f"{name}.conv_norm", conv(f"{name}.conv", x, level)))
        y = act(norm(f"{name}.up_mlp.1", y @ state[f"{name}.up_mlp.0.weight"].T))
        y = norm(f"{name}.down_mlp.1", y @ state[f"{name}.down_mlp.0.weight"].T)
        if f"{name}.mlp_downcut.0.weight" in state:
            x = norm(f"{name}.mlp_downcut.1", x @ state[f"{name}.mlp_downcut.0.weight"].T)
        return act(x + y)

    neighbors, nearest, influence = around(0, state["stem.conv.kernel_points"])
    inputs = F.pad(batch.features, (0, 0, 0, 1))[neighbors] * influence[..., None]
    x = torch.einsum("nhi,nhio->no", inputs, state["stem.conv.weights"][:, 0][nearest])
    x, skips = act(norm("stem.norm", x)), []
    for level, depth in enumerate(DEPTHS):
        for number in range(depth):
            x = block(f"encoder_{level + 1}.{number}", x, level)
        if level + 1 < len(DEPTHS):
            skips.append(x)
            parents = pyramid.levels[level].parents
            x = torch.stack([x[parents == parent].amax(0) for parent in range(len(pyramid.levels[level + 1].xyz))])
    if "head.2.weight" in state:
        last = pyramid.levels[-1].offsets.tolist()
        x = torch.stack([x[start:end].mean(0) for start, end in pairwise(last)])
        x = act(x @ state["head.0.mlp.weight"].T + state["head.0.norm.norm.bias"])
        return x @ state["head.2.weight"].T + state["head.2.bias"]
    for level in reversed(range(len(DEPTHS) - 1)):
        x = (
            torch.cat([x[pyramid.levels[level].parents], skips[level]], 1)
            @ state[f"decoder_unary_{level + 1}.mlp.weight"].T
        )
        x = block(f"decoder_layer_{level + 1}", act(norm(f"decoder_unary_{level + 1}.norm", x)), level)
    x = act(norm("head.0.norm", x @ state["head.0.mlp.weight"].T))
    return x @ state["head.1.weight"].T + state["head.1.bias"]


def batch_of_two() -> PointBatch:
    generator = torch.Generator().manual_seed(3)
    xyz = torch.rand(130, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.3])
    return PointBatch(xyz, torch.randn(130, 5, generator=generator), None, torch.tensor([0, 80, 130]))


@pytest.mark.parametrize("options", [{}, {"expand_output": False}, {"gates": False}, {"classifier": True}])
@pytest.mark.parametrize("sigma", [None, -0.3])
def test_the_network_computes_what_the_released_code_does(options, sigma, tmp_path):
    state, batch = checkpoint(**options), batch_of_two()
    torch.save(state, tmp_path / "net.pth")
    network = load_official_weights(tmp_path / "net.pth", sigma=sigma)
    assert not network.training
    config = network.config
    assert (config.grid, config.scaling) == (GRID, SCALING)
    pyramid = config.pyramid(batch.xyz, batch.offsets)
    expected = oracle(state, batch, pyramid, 2.1 * GRID if sigma is None else sigma)
    with torch.no_grad():
        got = network(batch, pyramid)
    torch.testing.assert_close(got, expected, atol=2e-4 * float(expected.abs().max()), rtol=1e-3)


def test_sizes_are_read_from_the_tensors(tmp_path):
    torch.save(checkpoint(), tmp_path / "net.pth")
    config = load_official_weights(tmp_path / "net.pth", grid=0.5, num_neighbors=(4, 5, 6)).config
    assert (config.dims, config.depths, config.groups) == (DIMS, DEPTHS, GROUPS)
    assert (config.in_dim, config.num_classes, config.gated_from, config.gate_norm) == (5, 6, 1, "pack")
    assert (config.grid, config.num_neighbors, sum(config.shell_points)) == (0.5, (4, 5, 6), NUM_KERNEL_POINTS)


def test_kernel_points_come_from_the_file(tmp_path):
    state = checkpoint()
    state["encoder_2.0.conv.kernel_points"] += 0.01
    torch.save(state, tmp_path / "net.pth")
    network = load_official_weights(tmp_path / "net.pth")
    assert torch.equal(network.encoder[1][0].conv.kernel_points, state["encoder_2.0.conv.kernel_points"])


@pytest.mark.parametrize("wrapper", ["model_state_dict", "state_dict"])
def test_wrapped_checkpoints(wrapper, tmp_path):
    state = checkpoint()
    wrapped = {f"module.backbone.{name}": tensor for name, tensor in state.items()}
    wrapped["module.criterion.weight"] = torch.ones(6)
    torch.save({"epoch": 3, wrapper: wrapped}, tmp_path / "wrapped.pth")
    untracked = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    save_file(untracked, tmp_path / "plain.safetensors")
    networks = [load_official_weights(tmp_path / name) for name in ("wrapped.pth", "plain.safetensors")]
    batch = batch_of_two()
    assert torch.equal(networks[0](batch), networks[1](batch))


def test_an_official_network_keeps_its_weights_through_their_layout(tmp_path):
    config = replace(PRESETS["official-S"], in_dim=5, num_classes=13)
    network = PointUNet(config)
    state = {official_name(name): tensor for name, tensor in network.state_dict().items()}
    assert len(state) == len(network.state_dict())
    state["stem.conv.weights"] = state["stem.conv.weights"][:, None]
    torch.save(state, tmp_path / "net.pth")
    loaded = load_official_weights(tmp_path / "net.pth")
    assert loaded.config == replace(config, gate_norm="pack")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.update({"encoder_1.0.extra": torch.ones(1)}), r"encoder_1\.0\.extra .* no place"),
        (lambda state: state.pop("encoder_2.0.up_mlp.1.norm.batch_norm.bias"), r"encoder_2\.0\.up_mlp\.1.* missing"),
        (lambda state: state.pop("encoder_1.0.conv.weights"), r"lacks encoder_1\.0\.conv\.weights"),
        (lambda state: state.pop("head.1.weight"), r"lacks head\.1\.weight"),
        (lambda state: state.update({"head.1.bias": torch.ones(7)}), r"head\.1\.bias is \(7,\); expected \(6,\)"),
        (lambda state: state.update({"stem.conv.weights": torch.ones(12, 5, 1, 16)}), "rigid"),
        (lambda state: state.update({"head.1.bias": "text"}), r"head\.1\.bias is a str"),
        (lambda state: state["encoder_1.0.conv.kernel_points"].zero_(), "give the grid"),
    ],
)
def test_files_that_do_not_fit(change, words, tmp_path):
    state = checkpoint()
    change(state)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=words) as raised:
        load_official_weights(tmp_path / "net.pth")
    assert "net.pth" in str(raised.value)
    assert "\n" not in str(raised.value)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was executed",))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match=r"absent\.pth"):
        load_official_weights(tmp_path / "absent.pth")
    torch.save({"model_state_dict": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps([1, 2], protocol=2))
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("bomb.pth", "text.pth", "raw.pth", "text.safetensors", "empty.pth"):
        with pytest.raises(ValueError, match=name) as raised:
            load_official_weights(tmp_path / name)
        assert "\n" not in str(raised.value)
