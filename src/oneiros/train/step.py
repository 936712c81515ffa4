"""One optimiser step, the same on any number of micro-batches and processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from oneiros.records import Loss, Trainable
from oneiros.train.config import FitConfig
from oneiros.train.log import Speed
from oneiros.train.optim import Ema, learning_rate, make_optimizer, rescale_and_clip, set_learning_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MakeBatch = Callable[[int, Sequence[int]], Any]


class Stepper:
    """The training state and its update: weights, their moving average, the optimiser and the number of steps done."""

    def __init__(self, model: Trainable, make_batch: MakeBatch, config: FitConfig, fabric: Fabric) -> None:
        self.model, self.make_batch, self.config, self.fabric = model, make_batch, config, fabric
        self.shards = config.shards(fabric.global_rank, fabric.world_size)
        self.step, self.speed = 0, Speed()
        self.module, self.optimizer = fabric.setup(_Passing(model), make_optimizer(model, config))
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.ema = Ema(model, config.ema_decay)

    def do(self, asked_to_stop: Callable[[], bool] = lambda: False) -> tuple[dict[str, float], bool]:
        """One optimiser step. Returns its numbers by name, and whether any process was asked to stop before its end.

        Raises ValueError, with the weights as they were, for a loss or gradient that is not finite.
        """
        started = time.perf_counter()
        _seed((self.config.seed << 32) + self.step, self.fabric.device)
        rate = learning_rate(self.step, self.config)
        set_learning_rate(self.optimizer, rate)
        names, sums = self._gradients()
        sums = torch.cat([sums, sums.new_tensor([float(asked_to_stop())])])
        weight, frames, *losses, stops = cast(Tensor, self.fabric.all_reduce(sums, reduce_op="sum")).tolist()
        values = {name: loss / weight if weight else math.nan for name, loss in zip(names, losses, strict=True)}
        self._check_finite("loss", values["loss"])
        # DDP has averaged over processes what each summed over its micro-batches
        norm = rescale_and_clip(self.parameters, self.fabric.world_size / weight, self.config.clip_norm)
        self._check_finite("gradient's norm", norm)
        self._update()
        self.speed.add(time.perf_counter() - started, samples=self.config.batch_size, frames=frames)
        return values | {"gradient_norm": norm, "learning_rate": rate}, stops > 0

    def batch(self, samples: Sequence[int]) -> Any:
        return self.make_batch(self.step, samples).to(self.fabric.device)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError, in one line, where the state is another model's."""
        groups = self.optimizer.state_dict()["param_groups"]  # ours: rates and the like follow from the config
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = state["optimizer"]["state"]
        try:
            if any(_shapes(moments[index]) != _moment_shapes(parameters[index]) for index in moments):
                raise ValueError("the optimiser's moments are of other shapes")
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the run to resume trained another model than the one asked for: {reason}") from error
        self.step = state["step"]

    def _gradients(self) -> tuple[list[str], Tensor]:
        """Gradients of the weighted sum of this process's losses; sums of weight, frames and the named losses."""
        names, sums = [], torch.zeros((), device=self.fabric.device)
        for i, samples in enumerate(self.shards):
            batch = self.batch(samples)
            weight, frames = self._weight(batch, len(samples))
            with self._sync_gradients(i == len(self.shards) - 1):
                total, parts = self.module(lambda batch=batch: batch)
                if total.requires_grad:  # else only `after_step` learns
                    self.fabric.backward(total * weight)
            names = ["loss", *parts]
            losses = torch.stack([total.detach().float(), *(part.float() for part in parts.values())])
            sums = sums + torch.cat([torch.stack([weight, frames]), weight * losses])
        return names, sums

    def _weight(self, batch: Any, num_samples: int) -> tuple[Tensor, Tensor]:
        """A micro-batch's share in the step's mean loss, and its number of frames: scalars on the device."""
        valid = getattr(batch, "valid", None)
        if valid is None:
            valid = torch.ones(num_samples, 1, dtype=torch.bool, device=self.fabric.device)
        frames = valid.sum().float()
        items = self.model.loss_weight(batch)
        return (frames if items is None else items.float()) / valid.numel(), frames

    def _sync_gradients(self, now: bool) -> AbstractContextManager[None]:
        if now or self.fabric.world_size == 1:
            return nullcontext()
        return self.fabric.no_backward_sync(self.module)

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.after_step()
        self.ema.update(self.step)
        self.step += 1

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise ValueError(
                f"the {what} became {value} in step {self.step + 1}; the last checkpoint is from before. Look at the "
                f"data with `oneiros inspect`, or try a learning rate below {self.config.learning_rate:g} or float32"
            )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _moment_shapes(parameter: Tensor) -> dict[str, torch.Size]:
    """Of what AdamW keeps of a parameter."""
    return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}


class _Passing(nn.Module):
    """The model as Fabric and DDP can wrap it: they walk through inputs and outputs and refuse frozen records."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Callable[[], Any]) -> tuple[Tensor, dict[str, Tensor]]:
        loss: Loss = self.model(batch())
        return loss.total, loss.parts


def _seed(seed: int, device: torch.device) -> None:
    """torch.manual_seed for the devices in use; it would queue a call per step for each kind of device never used."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
