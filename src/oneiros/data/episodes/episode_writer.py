"""One episode being recorded: checked row by row, its frames encoded as they come.

It may be recorded apart from its dataset, in another process: what is complete travels to `DatasetWriter.append`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av.error
import numpy as np

from oneiros.data.depth import MAX_CODE, codes_to_depth, depth_to_codes
from oneiros.data.episodes.features import ACTION, CONFIDENCE, DONE, REWARD, STATE, TRUNCATED
from oneiros.data.episodes.format import RecordingFormat
from oneiros.data.episodes.statistics import ImageStatistics, Statistics
from oneiros.data.video import VideoEncoder, keep
from oneiros.records import ActionSpec, Camera


@dataclass(frozen=True)
class RecordedEpisode:
    """A complete episode that is in no dataset yet.

    videos: files by camera. columns: actions, how sure they are, states and outcomes, a row for each frame. statistics:
    of images by camera: colours in [0, 1], depth in millimetres, labels as they are. foreign: its film is coded by
    others, so that it is joined to no other.
    """

    task: str
    num_rows: int
    videos: Mapping[str, Path]
    columns: Mapping[str, np.ndarray]
    statistics: Mapping[str, Statistics]
    foreign: bool = False


class EpisodeApart:
    """Records the episode that is to follow `num_episodes` others in the dataset `path`, which another process writes.

    Takes the place of a `DatasetWriter`; afterwards `recorded` is what that one's `append` takes. folder: the
    episode's own, on a disk that both see.
    """

    recorded: RecordedEpisode | None = None

    def __init__(self, fmt: RecordingFormat, folder: Path, *, path: Path, num_episodes: int) -> None:
        self._format, self._folder = fmt, folder
        self.path, self.num_episodes = path, num_episodes

    @contextmanager
    def episode(self, *, task: str) -> Iterator[EpisodeWriter]:
        """As `DatasetWriter.episode`."""
        with new_episode(self._format, self._folder, f"{self.path}: episode {self.num_episodes}") as episode:
            yield episode
            self.recorded = episode.finish(task)


class EpisodeWriter:
    """Takes the rows of one episode; made by `new_episode`.

    name: how error messages call it. folder: where its videos grow.
    """

    def __init__(self, fmt: RecordingFormat, folder: Path, name: str) -> None:
        self._format, self._folder, self._name = fmt, folder, name
        self._actions: list[np.ndarray] = []
        self._states: list[np.ndarray] = []
        self._outcomes: list[tuple[float, bool, bool]] = []
        self._confidences: list[np.ndarray] = []
        self._encoders: dict[str, VideoEncoder] = {}
        self._statistics = {camera.name: _image_statistics(camera) for camera in fmt.cameras}
        self._ended = False
        self.kept_film: Path | None = None
        self.num_rows = 0

    def keep_film(self, path: Path) -> None:
        """Of the only camera, store this film's frames as they are coded (see `video.can_be_kept`), instead of encoding
        those that `add` is given, which are the same, and all of them."""
        assert len(self._format.cameras) == 1
        self.kept_film = path

    def add(
        self,
        *,
        images: Mapping[str, np.ndarray],
        action: int | np.ndarray | Sequence[float] | None = None,
        state: np.ndarray | Sequence[float] | None = None,
        reward: float | None = None,
        terminated: bool = False,
        truncated: bool = False,
        confidence: float = 1.0,
    ) -> None:
        """Append a row: what was seen, what was done then, and what came of it.

        images: by camera name: rgb uint8 (H, W, 3), depth float (H, W) in metres, labels whole numbers (H, W) < 4096.
        action: an index, A keys held (0 or 1), or A numbers; None in the last row, where nothing is done any more.
        state: S numbers, where the dataset has states.
        confidence: of the action, where the dataset has that; 0 where it is not known, when it may be None in any row.
        reward, terminated, truncated: where the dataset has outcomes, what Gymnasium's `step` returned for the action;
            no reward in the last row, where nothing is done any more. A row that ended the episode can only be followed
            by the last picture.

        Raises ValueError naming the row when a value does not fit, OSError when the disk is full.
        """
        if self._ended:
            raise self._error("has no action, so the episode ended there; no row can follow", self.num_rows - 1)
        frames = self._check_images(images)
        if self._format.outcomes:
            self._outcomes.append(self._check_outcome(reward, terminated, truncated))
            self._ended = reward is None
        if self._format.action_spec is not None:
            self._actions.append(self._check_action(self._format.action_spec, action))
            self._ended |= action is None and not (self._format.confidence and confidence == 0)
        if self._format.confidence:
            self._confidences.append(np.array([confidence], np.float32))
        if self._format.state_names:
            self._states.append(self._check_state(state))
        try:
            for name, frame in frames.items():
                if self.kept_film is None:
                    self._encoder(name).add(frame)
                self._statistics[name].add(frame)
        except (av.error.FFmpegError, OSError) as error:
            raise save_error(self._name, error) from error
        self.num_rows += 1

    def finish(self, task: str) -> RecordedEpisode:
        """Complete the video files. Raises ValueError where there are no rows, OSError when the disk is full."""
        if self.num_rows == 0:
            raise ValueError(f"{self._name} has no frames; add at least one")
        try:
            if self.kept_film is not None:
                keep(self.kept_film, self._video(self._format.cameras[0]), fps=self._format.fps)
            for encoder in self._encoders.values():
                encoder.close()
        except (av.error.FFmpegError, OSError) as error:
            raise save_error(self._name, error) from error
        self._encoders = {}
        videos = {camera.name: self._video(camera) for camera in self._format.cameras}
        statistics = {each.name: self._statistics[each.name].result(_meaning(each)) for each in self._format.cameras}
        return RecordedEpisode(task, self.num_rows, videos, self._columns(), statistics, self.kept_film is not None)

    def abandon(self) -> None:
        """Let go of whatever is still open."""
        for encoder in self._encoders.values():
            encoder.abandon()
        self._encoders = {}

    def _video(self, camera: Camera) -> Path:
        return self._folder / f"{camera.name}.mp4"

    def _columns(self) -> dict[str, np.ndarray]:
        kept = {ACTION: self._actions, CONFIDENCE: self._confidences, STATE: self._states}
        columns = {name: np.stack(each) for name, each in kept.items() if each}
        if self._outcomes:
            reward, terminated, truncated = zip(*self._outcomes, strict=True)
            columns[REWARD] = np.array(reward, np.float32)
            columns[DONE], columns[TRUNCATED] = np.array(terminated) | np.array(truncated), np.array(truncated)
        return columns

    def _encoder(self, name: str) -> VideoEncoder:
        if name not in self._encoders:
            camera = next(camera for camera in self._format.cameras if camera.name == name)
            self._encoders[name] = VideoEncoder(
                self._video(camera),
                height=camera.height,
                width=camera.width,
                fps=self._format.fps,
                codes=camera.kind != "rgb",
                lossless=camera.lossless,
            )
        return self._encoders[name]

    def _check_images(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        expected = [camera.name for camera in self._format.cameras]
        if set(images) != set(expected):
            raise self._error(f"has images {sorted(images)}; it needs {sorted(expected)}")
        return {
            camera.name: self._check_image(camera, np.asarray(images[camera.name])) for camera in self._format.cameras
        }

    def _check_image(self, camera: Camera, image: np.ndarray) -> np.ndarray:
        """The frame as it is stored."""
        size = (camera.height, camera.width)
        expected, fits = {
            "rgb": (f"uint8 {(*size, 3)}", image.dtype == np.uint8 and image.shape == (*size, 3)),
            "depth": (f"float {size} in metres", image.dtype.kind == "f" and image.shape == size),
            "labels": (f"whole numbers {size}", image.dtype.kind in "iu" and image.shape == size),
        }[camera.kind]
        if not fits:
            raise self._error(f"{camera.name} is {image.dtype} {image.shape}; it must be {expected}")
        if camera.kind == "labels" and (image.min() < 0 or image.max() > MAX_CODE):
            raise self._error(f"{camera.name} has labels {image.min()} to {image.max()}; they must be 0 to {MAX_CODE}")
        if camera.kind == "depth":
            return depth_to_codes(image, camera)
        return image if camera.kind == "rgb" else image.astype(np.uint16)

    def _check_action(self, spec: ActionSpec, action: int | np.ndarray | Sequence[float] | None) -> np.ndarray:
        if spec.kind == "discrete":
            value = np.asarray(0 if action is None else action)
            if value.size != 1 or value.dtype.kind not in "iu" or not 0 <= value.item() < spec.size:
                raise self._error(f"action is {action}; it must be 0 to {spec.size - 1} ({', '.join(spec.names)})")
            return value.reshape(1).astype(np.int64)
        value = np.zeros(spec.size) if action is None else np.asarray(action)
        return self._vector("action", value, spec.names, keys=spec.kind == "keys")

    def _check_outcome(self, reward: float | None, terminated: bool, truncated: bool) -> tuple[float, bool, bool]:
        """What the step paid, whether it ended the episode, and whether it only cut it off. The last picture, after
        which nothing is done, pays nothing, and says once more how the episode ended."""
        _, ended, cut = self._outcomes[-1] if self._outcomes else (0.0, False, False)
        if reward is None:
            return 0.0, ended, cut
        if ended or cut:
            raise self._error("ended the episode; only a last picture can follow", self.num_rows - 1)
        if not abs(float(reward)) <= float(np.finfo(np.float32).max):  # NaN is not, either
            raise self._error(f"reward is {reward}; it must be a finite number")
        return float(reward), bool(terminated), bool(truncated and not terminated)

    def _check_state(self, state: np.ndarray | Sequence[float] | None) -> np.ndarray:
        return self._vector("state", np.asarray([] if state is None else state), self._format.state_names)

    def _vector(self, what: str, value: np.ndarray, names: Sequence[str], *, keys: bool = False) -> np.ndarray:
        if value.shape != (len(names),):
            raise self._error(f"{what} has shape {value.shape}; it must be ({len(names)},): {', '.join(names)}")
        value = value.astype(np.float32)
        bad = ~np.isin(value, (0, 1)) if keys else ~np.isfinite(value)
        if bad.any():
            wrong = int(bad.argmax())
            right = "0 or 1" if keys else "a finite number"
            raise self._error(f"{what} {names[wrong]} is {value[wrong]}; it must be {right}")
        return value

    def _error(self, text: str, row: int | None = None) -> ValueError:
        return ValueError(f"{self._name}, row {self.num_rows if row is None else row}: {text}")


@contextmanager
def new_episode(fmt: RecordingFormat, folder: Path, name: str) -> Iterator[EpisodeWriter]:
    """An episode whose videos grow in `folder`, which is emptied before. name: how error messages call it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    episode = EpisodeWriter(fmt, folder, name)
    try:
        yield episode
    finally:
        episode.abandon()


def save_error(name: str, error: Exception) -> OSError:
    """One line for whatever the disk or the encoder said."""
    reason = getattr(error, "strerror", None) or str(error)
    return OSError(f"{name} could not be saved ({reason}); every episode before it is complete and readable")


def _image_statistics(camera: Camera) -> ImageStatistics:
    rgb = camera.kind == "rgb"
    return ImageStatistics(
        height=camera.height, width=camera.width, channels=3 if rgb else 1, num_values=256 if rgb else MAX_CODE + 1
    )


def _meaning(camera: Camera) -> np.ndarray:
    """What each stored value stands for in the statistics."""
    if camera.kind == "rgb":
        return np.arange(256) / 255
    codes = np.arange(MAX_CODE + 1)
    return codes_to_depth(codes, camera).astype(np.float64) * 1000 if camera.kind == "depth" else codes.astype(float)
