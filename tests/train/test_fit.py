"""What the engine does with a batch, a disk and a number that is not one."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from oneiros.records import Loss, Trainable
from oneiros.train.fit import fit
from oneiros.train.log import read_metrics
from oneiros.train.state import load_state
from tests.train import toy
from tests.train.toy import CONFIG


def losses(out) -> list[float]:
    return [row["loss"] for row in read_metrics(out / "metrics.jsonl")]


def test_the_toy_is_learned(tmp_path):
    toy.train(tmp_path, replace(CONFIG, steps=300, log_every=20))
    assert losses(tmp_path)[-1] < 0.1 * losses(tmp_path)[0]


def test_a_step_is_adamw_on_the_clipped_gradient(tmp_path):
    """The engine against the same steps written out."""
    config = replace(CONFIG, steps=5, ema_decay=0.0, warmup_steps=0, final_lr_fraction=1.0, clip_norm=0.3)
    toy.train(tmp_path, config)
    model, make_batch = toy.Toy(), toy.batches(config)
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": biases, "weight_decay": 0.0},
            {"params": [model.gain], "weight_decay": 0.0, "lr": 0.5 * config.learning_rate},
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )
    for step in range(config.steps):
        optimizer.zero_grad()
        model(make_batch(step, range(config.batch_size))).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    saved = load_file(tmp_path / "model.safetensors")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(saved[name], parameter.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_changes_nothing(tmp_path, accumulate):
    """Also where micro-batches hold different numbers of valid frames."""
    toy.train(tmp_path / "whole", CONFIG)
    toy.train(tmp_path / "split", replace(CONFIG, accumulate=accumulate))
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    whole, split = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "split"))
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=1e-5)


def test_a_model_may_say_how_many_items_its_loss_is_a_mean_over(tmp_path):
    class FirstFrames(toy.Toy):
        """Half of the batch has no item at all."""

        def forward(self, batch):
            wanted = self.wanted(batch)
            errors = (self.layers(batch.inputs) * self.gain - batch.targets).square().mean(-1)
            return Loss((errors * wanted).sum() / wanted.sum(), {})

        def wanted(self, batch):
            return batch.valid & (batch.inputs[..., :1].sum(-1) > 0)

        def loss_weight(self, batch):
            return self.wanted(batch).sum()

    for name, accumulate in (("whole", 1), ("split", 2)):
        config = replace(CONFIG, accumulate=accumulate)
        fit(FirstFrames(), toy.batches(config), out=tmp_path / name, config=config, save_model=toy.save_weights)
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_after_step_is_called_once_a_step_however_many_micro_batches(tmp_path):
    toy.train(tmp_path, replace(CONFIG, accumulate=4))
    assert load_state(tmp_path)["model"]["steps_seen"] == CONFIG.steps


def test_a_batch_that_does_not_divide(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size 8 does not divide .* choose a multiple of 3"):
        toy.train(tmp_path, replace(CONFIG, accumulate=3))


def test_averaged_weights_are_saved_for_use_and_trained_ones_to_go_on(tmp_path):
    toy.train(tmp_path)
    state, saved = load_state(tmp_path), load_file(tmp_path / "model.safetensors")
    name = "layers.0.weight"
    assert torch.equal(saved[name], state["ema"][name])
    assert not torch.equal(saved[name], state["model"][name])


def test_pictures_see_averaged_weights_in_eval_mode_and_change_nothing(tmp_path):
    seen = {}

    def pictures(model, step):
        seen[step] = (model.training, model.layers[0].weight.detach().clone())
        torch.rand(7)

    toy.train(tmp_path / "with", replace(CONFIG, picture_every=4), pictures=pictures)
    toy.train(tmp_path / "without")
    assert list(seen) == [4, 8, 12]
    assert not any(training for training, _ in seen.values())
    assert torch.equal(seen[12][1], load_file(tmp_path / "with" / "model.safetensors")["layers.0.weight"])
    drawn, plain = (load_state(tmp_path / name)["model"] for name in ("with", "without"))
    assert all(torch.equal(drawn[name], plain[name]) for name in plain)


def test_what_pictures_measure_stands_in_their_row(tmp_path):
    config = replace(CONFIG, picture_every=4, log_every=6)
    toy.train(tmp_path, config, pictures=lambda model, step: {"held_out": step / 2})
    rows = [(row["step"], row.get("held_out")) for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert rows == [(4, 2.0), (6, None), (8, 4.0), (12, 6.0)]


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    def pictures(model, step):
        raise OSError("No space left on device")

    assert toy.train(tmp_path, pictures=pictures).step == CONFIG.steps
    assert "no picture of step 12: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, where):
    class Breaking(toy.Toy):
        def forward(self, batch):
            loss = super().forward(batch)
            if self.steps_seen < 5:
                return loss
            factor = math.nan if where == "loss" else (self.never_used.sum() - 3).sqrt() * 0 + 1  # gradient 0 * inf
            return Loss(loss.total * factor, loss.parts)

    with pytest.raises(ValueError, match=r"became nan in step 6; .* learning rate below 0\.01"):
        fit(Breaking(), toy.batches(CONFIG), out=tmp_path, config=CONFIG, save_model=toy.save_weights)
    state = load_state(tmp_path)
    assert state["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_a_model_without_parameters(tmp_path):
    with pytest.raises(ValueError, match="Trainable has no parameters to train"):
        fit(Trainable(), toy.batches(CONFIG), out=tmp_path, config=CONFIG, save_model=toy.save_weights)


def test_a_model_that_only_has_forward_trains_by_the_valid_frames(tmp_path):
    class Plain(Trainable):
        """As `Toy`, without anything else that the engine may ask for."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(toy.DIM, toy.DIM)

        def forward(self, batch):
            errors = (self.layer(batch.inputs) - batch.targets).square().mean(-1)
            return Loss((errors * batch.valid).sum() / batch.valid.sum(), {})

    for name, accumulate in (("whole", 1), ("split", 2)):
        config = replace(CONFIG, accumulate=accumulate)
        fit(Plain(), toy.batches(config), out=tmp_path / name, config=config, save_model=toy.save_weights)
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_a_module_that_is_no_trainable_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Linear is no oneiros\.records\.Trainable; derive it from that"):
        fit(nn.Linear(2, 2), toy.batches(CONFIG), out=tmp_path, config=CONFIG, save_model=toy.save_weights)
    assert not any(tmp_path.iterdir())


def test_a_run_folder_tells_the_machine(tmp_path):
    toy.train(tmp_path)
    told = json.loads((tmp_path / "environment.json").read_text())
    assert told["versions"]["torch"] == torch.__version__
    assert told["machine"]["cores"]
    assert told["precision"] == "32-true"
    assert {path.name for path in tmp_path.iterdir()} == {
        "state.pt",
        "model.safetensors",
        "metrics.jsonl",
        "environment.json",
    }


def test_lines_without_a_terminal_and_an_estimate_before(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("oneiros.console.FIRST_LINE_AFTER", 0.0)
    toy.train(tmp_path, replace(CONFIG, steps=60))
    told = capsys.readouterr().err.splitlines()
    assert "60 steps of" in told[0]
    assert "a checkpoint takes" in told[0]
    assert "step 1/60  loss" in told[1]
    for unit in ("samples/s", "frames/s", "left"):
        assert unit in told[1]


def test_bf16_trains_too(tmp_path):
    toy.train(tmp_path, replace(CONFIG, steps=300, precision="bf16", log_every=20))
    assert losses(tmp_path)[-1] < 0.2 * losses(tmp_path)[0]
    assert load_state(tmp_path)["model"]["layers.0.weight"].dtype == torch.float32
