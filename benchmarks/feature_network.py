"""Train the network of the Frechet distance in `oneiros eval`, and show that the distance rises with what is wrong.

    oneiros record doom:health_gathering --episodes 300 --out hg
    oneiros record doom:my_way_home --episodes 300 --out maze
    oneiros record doom:basic --episodes 24 --out basic
    oneiros record doom:defend_the_center --episodes 24 --out centre
    oneiros record doom:deadly_corridor --episodes 24 --out corridor
    oneiros record metaworld:drawer-open-v3,door-open-v3 --policy expert --expert-noise 0.3 --keep all --episodes 8 \\
        --out robot
    python benchmarks/feature_network.py hg maze basic centre corridor robot

Of each dataset all but the last tenth of the episodes is learned from. A quarter of all pairs are no recordings
but coloured shapes that move before a texture, drawn at random. Five minutes on one thread of a busy machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import oneiros.world.evaluation.frechet as package
from oneiros.data.episodes.clips import load_frames, split_episodes, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_model, to_uint8
from oneiros.world.evaluation.frechet.network import FEATURES, WEIGHTS, FeatureNetwork, pair_features
from oneiros.world.metrics import frechet_distance

SIZE, BATCH, EPISODES = 64, 24, 80
SPOILS = ("blur", "noise", "checkerboard", "blocks", "misplaced")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(package.__path__[0]) / WEIGHTS)
    options = parser.parse_args()
    learned, unseen = zip(*map(episodes, options.data), strict=True)
    network = train(learned, options.steps)
    save_file(network.state_dict(), options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    for path, clips in zip(options.data, unseen, strict=True):
        print(path.name, show(network, clips))


def episodes(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Episodes (T, h, w, 3) to learn from, and some that are not."""
    dataset = Dataset.open(path)
    learn, keep = split_episodes([episode.index for episode in dataset.episodes])
    chosen = [learn[i] for i in spread(EPISODES, len(learn))]
    loaded = load_frames(dataset, [*chosen, *keep], height=SIZE, width=SIZE)
    frames = {each.index: each.content for each in loaded}
    return [frames[i] for i in chosen], [frames[i] for i in keep]


def train(learned: tuple[list[np.ndarray], ...], steps: int) -> FeatureNetwork:
    torch.manual_seed(0)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    network, thumbnails = FeatureNetwork(), 2 * 3 * 16
    head = nn.Linear(FEATURES, len(SPOILS) + 2 + thumbnails)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    began = time.perf_counter()
    for step in range(steps):
        before, after = recorded(learned, rng)
        shapes = drawn(BATCH // 3, generator)
        before, after = torch.cat([before, shapes[0]]), torch.cat([after, shapes[1]])
        content = F.adaptive_avg_pool2d(torch.cat([after, 4 * (after - before)], 1), 4).flatten(1)
        before, after, levels = spoil(before, after, generator)
        before, after, order = misorder(before, after, generator)
        guess = head(network(before, after))
        spoils, orders, contents = guess.split([len(SPOILS), 2, thumbnails], 1)
        told = F.mse_loss(spoils, levels) * 10
        loss = told + F.binary_cross_entropy_with_logits(orders, order) + 2 * F.mse_loss(contents, content)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}  loss {loss:.3f}  spoils {told:.3f}  {time.perf_counter() - began:.0f} s", flush=True)
    standardise(network.eval(), learned, rng, generator)
    return network


@torch.no_grad()
def standardise(
    network: FeatureNetwork, learned: tuple[list[np.ndarray], ...], rng, generator: torch.Generator
) -> None:
    found = []
    for _ in range(100):
        before, after, _ = spoil(*recorded(learned, rng), generator)
        found.append(network(before, after))
    features = torch.cat(found)
    network.mean, network.deviation = features.mean(0), features.std(0)


def recorded(learned: tuple[list[np.ndarray], ...], rng) -> tuple[Tensor, Tensor]:
    """Pairs (BATCH, 3, h, w) of frames one step apart, each dataset equally often, mirrored half of the time."""
    pairs = []
    for _ in range(BATCH):
        several = learned[rng.integers(len(learned))]
        episode = several[rng.integers(len(several))]
        row = rng.integers(len(episode) - 1)
        pair = episode[row : row + 2]
        pairs.append(pair[:, :, ::-1] if rng.random() < 0.5 else pair)
    frames = to_model(np.ascontiguousarray(np.stack(pairs)))
    return frames[:, 0], frames[:, 1]


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes and discs of any colour that move by a few pixels before a texture of any coarseness, which moves too."""

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    steps = torch.arange(SIZE).float()
    before, after = [], []
    for _ in range(count):
        grain = int(torch.randint(1, 17, (), generator=generator))
        rough = F.interpolate(random(1, 3, SIZE // grain + 2, SIZE // grain + 2), scale_factor=grain, mode="bilinear")
        floor = random(3, 1, 1) + random(1).item() * (rough[0, :, :SIZE, :SIZE] - 0.5)
        shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
        pair = [floor, floor.roll(shift, (1, 2))]
        for _ in range(int(torch.randint(0, 6, (), generator=generator))):
            centre, radius, colour = random(2) * SIZE, 1 + 12 * random(1) ** 2, random(3, 1, 1)
            move, box = 4 * (random(2) - 0.5), random(1) < 0.5
            for number in range(2):
                row, column = ((steps - each).abs() for each in centre + number * move)
                inside = (
                    torch.maximum(row[:, None], column) < radius if box else row[:, None] ** 2 + column**2 < radius**2
                )
                pair[number] = torch.where(inside, colour, pair[number])
        before.append(pair[0])
        after.append(pair[1])
    return (torch.stack(before) * 2 - 1).clamp(-1, 1), (torch.stack(after) * 2 - 1).clamp(-1, 1)


def spoil(before: Tensor, after: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The pair, each spoil on three times in ten, and how much of it, 0 to 1: (M, number of spoils)."""
    shape = (len(before), len(SPOILS))
    levels = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)
    spoiled = [
        torch.stack([spoil_one(frame, level.tolist(), generator) for frame, level in zip(frames, levels, strict=True)])
        for frames in (before, after)
    ]
    return spoiled[0], spoiled[1], levels


def spoil_one(frame: Tensor, levels: list[float], generator: torch.Generator) -> Tensor:
    """(3, h, w) in [-1, 1], blurred by up to 2.5 pixels, with noise of up to 40 levels, and so on."""
    amount = dict(zip(SPOILS, levels, strict=True))
    if amount["misplaced"] > 0:
        frame = frame.clone()
        for _ in range(1 + int(7 * amount["misplaced"])):
            places = torch.randint(0, SIZE - 12, (4,), generator=generator).tolist()
            frame[:, places[0] : places[0] + 12, places[1] : places[1] + 12] = frame[
                :, places[2] : places[2] + 12, places[3] : places[3] + 12
            ].clone()
    if amount["blur"] > 0:
        frame = blurred(frame, 2.5 * amount["blur"])
    if amount["blocks"] > 0:
        side = int(2 + 5 * amount["blocks"])
        small = F.adaptive_avg_pool2d(frame, SIZE // side)
        frame = F.interpolate(small[None], size=frame.shape[-2:], mode="nearest")[0]
    if amount["checkerboard"] > 0:
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        frame = frame + 0.25 * amount["checkerboard"] * (((rows + columns) % 2) * 2.0 - 1)
    if amount["noise"] > 0:
        frame = frame + 0.32 * amount["noise"] * torch.randn(frame.shape, generator=generator)
    return frame.clamp(-1, 1)


def blurred(frames: Tensor, sigma: float) -> Tensor:
    """(..., 3, h, w) by a Gaussian of so many pixels."""
    reach = int(3 * sigma) + 1
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).view(1, 1, -1)
    flat = frames.reshape(-1, 1, *frames.shape[-2:])
    flat = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(flat, weights[..., None]), weights[:, :, None]).reshape(frames.shape)


def misorder(before: Tensor, after: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The pair, sometimes backwards, sometimes twice the same; and which: float (M, 2)."""
    draw = torch.rand(len(before), generator=generator)
    backwards, still = draw < 0.25, draw > 0.85
    swap, stay = backwards[:, None, None, None], still[:, None, None, None]
    first = torch.where(swap, after, before)
    return first, torch.where(stay, first, torch.where(swap, before, after)), torch.stack([backwards, still], 1).float()


def show(network: FeatureNetwork, unseen: list[np.ndarray]) -> str:
    """Distances of spoiled pairs from the same pairs, by spoil at levels 1/8 ... 1, over episodes not learned from."""
    clips = torch.from_numpy(np.concatenate([np.stack([e[:-1], e[1:]], 1) for e in unseen]))[:600]
    real = pair_features(network, clips).flatten(0, 1)
    generator, lines = torch.Generator().manual_seed(1), []
    halves = frechet_distance(real[::2], real[1::2])
    for spoiled in SPOILS:
        values = []
        for level in (0.125, 0.25, 0.5, 1.0):
            levels = [level * (name == spoiled) for name in SPOILS]
            frames = [spoil_one(frame, levels, generator) for frame in to_model(clips).flatten(0, 1)]
            wrong = to_uint8(torch.stack(frames)).unflatten(0, clips.shape[:2])
            values.append(frechet_distance(pair_features(network, wrong).flatten(0, 1), real))
        lines.append(f"{spoiled} {' '.join(f'{value:.2f}' for value in values)}")
    return f"halves {halves:.3f}  " + "  ".join(lines)


if __name__ == "__main__":
    main()
