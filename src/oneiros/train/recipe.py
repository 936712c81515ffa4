"""One opening for all training: from settings to a model in a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from oneiros.records import Trainable
from oneiros.train.fit import FitResult, fit_from
from oneiros.train.order import Order
from oneiros.train.settings import Settings
from oneiros.train.state import only_training, opening_state

S = TypeVar("S", bound=Settings)


class Save(Protocol):
    """Writes the model into a folder, beside the settings of its training."""

    def __call__(self, folder: Path, *, recipe: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Recipe:
    """What one kind of training brings to the engine.

    title: of the progress bar. num_samples: of the training set. make_batch: (indices, seeds) -> batch, of some of
    them, with an int64 key of random numbers for each. save: writes the model for use. measure: (step, picture) ->
    numbers for that step's row in metrics.jsonl; draws to the path `picture`, if at all.
    `save` and `measure` find the averaged weights in the model, `measure` finds it in eval mode, too.
    """

    title: str
    model: Trainable
    num_samples: int
    make_batch: Callable[[Sequence[int], Tensor], Any]
    save: Save
    measure: Callable[[int, Path], Mapping[str, float]]


def train(settings: S, prepare: Callable[[S], Recipe]) -> FitResult:
    """Train what `prepare` makes of the settings, into the run folder `settings.out`, or go on with the run there.

    prepare: may take long (it reads data); what is wrong with the run folder is said before it.
    Raises as `fit`, and ValueError or OSError, in one line, for what is wrong with the data, the settings or a folder.
    """
    settings = settings.completed()
    with only_training(settings.out):
        return _train(settings, prepare)


def _train(settings: S, prepare: Callable[[S], Recipe]) -> FitResult:
    keep = ("warmup_steps",)  # no setting: it follows from the steps that the run began with
    state, config = opening_state(settings.out, settings.fit_config(), resume=settings.resume, keep=keep)
    recipe = prepare(settings)
    order = Order(recipe.num_samples, batch_size=config.batch_size, seed=config.seed)

    def make_batch(step: int, samples: Sequence[int]) -> Any:
        return recipe.make_batch(order.indices(step, samples), order.seeds(step, samples))

    def save_model(model: nn.Module, folder: Path) -> None:
        recipe.save(folder, recipe=settings.to_json())

    def pictures(model: nn.Module, step: int) -> Mapping[str, float]:
        return recipe.measure(step, settings.out / "pictures" / f"step_{step:06d}.png")

    return fit_from(
        state,
        recipe.model,
        make_batch,
        out=settings.out,
        config=config,
        save_model=save_model,
        pictures=pictures,
        title=recipe.title,
    )
