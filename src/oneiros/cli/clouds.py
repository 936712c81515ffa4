"""`oneiros clouds`: depth frames of a dataset as files of points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from oneiros.data.clouds.cloud import Cloud
    from oneiros.data.episodes.dataset import Dataset

_DESCRIPTION = """\
Turn depth frames into clouds, coloured and labelled where colours and labels were recorded.

  oneiros record doom:my_way_home --depth --labels --episodes 60 --out maze
  oneiros clouds maze --out scenes --together        a cloud of each episode, all its frames in one world
  oneiros clouds maze --out frames --stride 10       a cloud of every tenth frame
  oneiros inspect scenes/episode_000000.laz

Points are in metres, z up. Where no pose of the camera was recorded, each frame has the camera for its origin.
"""


@dataclass(frozen=True)
class CloudsCommand:
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A LeRobot dataset with depth."""
    out: Path
    """The folder for the clouds."""
    stride: int = 1
    """Take every so many frames."""
    together: bool = False
    """Write one cloud for each episode instead of one for each frame."""
    episodes: int | None = None
    """Only so many episodes, from the first on. Default: all."""
    camera: str | None = None
    """The depth camera. Default: the first."""
    format: Literal["laz", "las", "ply", "npy"] = "laz"
    """The kind of file."""


def main(arguments: list[str]) -> None:
    write_clouds(tyro.cli(CloudsCommand, prog="oneiros clouds", args=arguments, description=_DESCRIPTION))


def write_clouds(command: CloudsCommand) -> None:
    """Raises ValueError for a dataset without depth, intrinsics or such an episode."""
    from oneiros.console import bars
    from oneiros.data.clouds.formats import write_cloud
    from oneiros.data.clouds.from_depth import has_pose
    from oneiros.data.episodes.dataset import Dataset

    if command.episodes is not None and command.episodes < 1:
        raise ValueError(f"--episodes is {command.episodes}; it must be at least 1")
    dataset = Dataset.open(command.data)
    if command.together and not has_pose(dataset):
        raise ValueError(f"{command.data}: its states have no x, y, z, yaw of the camera; --together needs them")
    num_files = num_points = 0
    episodes = dataset.episodes[: command.episodes]
    with bars(transient=True) as track:
        advance = track("writing clouds", len(episodes))
        for episode in episodes:
            for name, cloud in _named_clouds(dataset, episode.index, command):
                write_cloud(command.out / f"{name}.{command.format}", cloud)
                num_files, num_points = num_files + 1, num_points + len(cloud)
            advance(1)
    print(f"{command.out}: {num_files:,} clouds of {num_points:,} points in all")


def _named_clouds(dataset: Dataset, episode: int, command: CloudsCommand) -> Iterator[tuple[str, Cloud]]:
    from oneiros.data.clouds.cloud import concatenate
    from oneiros.data.clouds.from_depth import clouds

    frames = clouds(dataset, episode, stride=command.stride, camera=command.camera)
    if command.together:
        yield f"episode_{episode:06d}", concatenate([*frames])
        return
    for number, cloud in enumerate(frames):
        yield f"episode_{episode:06d}_frame_{number * command.stride:06d}", cloud
