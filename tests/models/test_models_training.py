"""The loop: it learns, stops, resumes to the bit after kill -9, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fivenines.errors import ConfigError, ModelError, ResourceError
from fivenines.models.batching import Batch, LengthBatches
from fivenines.models.checkpoints import CHECKPOINT, read_checkpoint, remove_checkpoint, write_checkpoint
from fivenines.models.losses import classification_loss
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig, TrainingResult

CONFIG = TrainingConfig(epochs=3, learning_rate=1e-2, batch_size=16, precision="float32", threads=1)
N = 160


def points(seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(N, 4)).astype(np.float32))
    return x, (x[:, 0] + 0.5 * x[:, 1] > 0).long()


def source(config: TrainingConfig, seed: int = 0, repeats: int = 1) -> LengthBatches:
    x, y = points(seed)

    def collate(rows: Any) -> Batch:
        return {"x": x[rows % N], "y": y[rows % N]}

    return LengthBatches([1] * (N * repeats), collate, config.batch_size, seed=config.seed)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 2))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return classification_loss(model(batch["x"]), batch["y"])


def accuracy(model: nn.Module) -> float:
    x, y = points()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def weights(model: nn.Module) -> dict[str, list[Any]]:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


class Interrupting:
    """A loss that sends Ctrl-C to its own process at a step, and counts its calls."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, batch)


def test_it_learns_and_reports() -> None:
    model = network()
    result = train(model, source(CONFIG), loss, CONFIG, validate=accuracy)
    assert result.stopped == "finished"
    assert (result.steps, result.epochs) == (30, 3.0)
    assert len(result.losses) == 30
    assert [step for step, _ in result.metrics] == [10, 20, 30]
    assert result.best_metric == accuracy(model) > 0.9
    assert np.mean(result.losses[-5:]) < 0.75 * np.mean(result.losses[:5])
    assert not model.training
    assert TrainingResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"epochs": 0.5}, 5),
        ({"epochs": 2.25}, 23),
        ({"max_steps": 7}, 7),
        ({"accumulate": 4, "epochs": 2}, 6),
        ({"accumulate": 100, "epochs": 2}, 2),
    ],
)
def test_number_of_steps(change: dict[str, Any], steps: int) -> None:
    config = replace(CONFIG, **change)
    assert train(network(), source(config), loss, config).steps == steps


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    small = replace(CONFIG, accumulate=2, max_steps=1)
    model, same = network().eval(), network().eval()
    for module in (*model, *same):  # type: ignore[misc]
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batches = list(source(small).batches(0))[:2]

    class One:
        def batches(self, epoch: int) -> Any:
            return iter([{k: torch.cat([b[k] for b in batches]) for k in batches[0]}])

        def __len__(self) -> int:
            return 1

    train(model, source(small), loss, small)
    train(same, One(), loss, replace(CONFIG, max_steps=1))
    for a, b in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_same_seed_same_weights_and_global_streams_untouched() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global stream is what is tested
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads())  # type: ignore[index]  # noqa: NPY002
    a, b, c = network(), network(), network()
    train(a, source(CONFIG), loss, CONFIG)
    train(b, source(CONFIG), loss, CONFIG, validate=accuracy)  # evaluating must not change the training
    train(c, source(CONFIG), loss, replace(CONFIG, seed=1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert before[2] == torch.get_num_threads()
    final = train(network(), source(CONFIG), loss, CONFIG, validate=accuracy)
    assert final.best_step is not None
    assert weights(a) != weights(c)
    if final.best_step == final.steps:
        assert weights(a) == weights(b)


def test_early_stopping_keeps_the_best_weights() -> None:
    config = replace(CONFIG, epochs=50, evaluate_every=2, patience=3)
    seen: list[dict[str, Any]] = []
    metrics = iter([0.1, 0.5, 0.4, 0.5, 0.3])  # a tie is no gain

    def validate(model: nn.Module) -> float:
        assert not model.training
        seen.append(weights(model))
        return next(metrics)

    model = network()
    result = train(model, source(config), loss, config, validate=validate)
    assert (result.stopped, result.steps, result.best_step, result.best_metric) == ("patience", 10, 4, 0.5)
    assert weights(model) == seen[1]


def test_time_limit_stops_cleanly_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1000, max_minutes=0.3 / 60)

    def slow(model: nn.Module, batch: Batch) -> Tensor:
        time.sleep(0.005)
        return loss(model, batch)

    model = network()
    first = train(model, source(config), slow, config, folder=tmp_path, validate=accuracy)
    assert first.stopped == "time"
    assert 0 < first.steps < 200
    assert first.best_metric == accuracy(model)
    again = train(network(), source(config), slow, config, folder=tmp_path, validate=accuracy)
    assert (again.stopped, again.steps) == ("time", first.steps)
    longer = replace(config, max_minutes=0.6 / 60)
    more = train(network(), source(config), slow, longer, folder=tmp_path, validate=accuracy)
    assert more.steps > first.steps
    assert more.losses[: first.steps] == first.losses


def test_the_rate_falls_in_time_for_the_limit() -> None:
    config = replace(CONFIG, epochs=1000, max_minutes=0.4 / 60, evaluate_every=5)
    moves: list[float] = []
    model = network()
    before = [p.detach().clone() for p in model.parameters()]

    def slow(model: nn.Module, batch: Batch) -> Tensor:
        time.sleep(0.005)
        return loss(model, batch)

    @torch.no_grad()
    def moved(current: nn.Module) -> float:
        pairs = list(zip(current.parameters(), before, strict=True))
        moves.append(sum(float((p - q).abs().sum()) for p, q in pairs))
        for p, q in pairs:
            q.copy_(p)
        return 0.0

    result = train(model, source(config), slow, config, validate=moved)
    assert result.stopped == "time"
    assert moves[-2] < 0.5 * max(moves)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_models_training import CONFIG, accuracy, loss, network, source, weights
from fivenines.models.training import train
from dataclasses import replace
import json
config = replace(CONFIG, epochs=6, evaluate_every=7, checkpoint_every_seconds=0, accumulate=2)
pause = float(sys.argv[3])
def slow(model, batch):
    time.sleep(pause)
    return loss(model, batch)
model = network()
print("ready", flush=True)
result = train(model, source(config), slow, config, validate=accuracy, folder=Path(sys.argv[2]))
print(json.dumps([result.to_dict() | {"seconds": 0}, weights(model)]))
"""


def _start(folder: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder), str(pause)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.split("\n")[1]


@pytest.mark.slow
def test_a_run_killed_by_sigkill_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = _finish(_start(tmp_path / "calm", 0.0))
    folder = tmp_path / "killed"
    for _ in range(2):
        at = (folder / CHECKPOINT).stat().st_mtime_ns if folder.exists() else 0
        process = _start(folder, 0.03)
        limit = time.monotonic() + 60
        while time.monotonic() < limit:  # until it has written since it started
            if (folder / CHECKPOINT).exists() and (folder / CHECKPOINT).stat().st_mtime_ns > at:
                break
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    content = read_checkpoint(folder)
    assert content is not None
    assert 0 < content["state"]["step"] < 30
    assert _finish(_start(folder, 0.0)) == undisturbed
    assert _finish(_start(folder, 0.0)) == undisturbed  # done: nothing is trained again


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    calm = network()
    expected = train(calm, source(CONFIG), loss, CONFIG)
    interrupting = Interrupting(at=13)
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell started the tests in the background
    with pytest.raises(KeyboardInterrupt):
        train(network(), source(CONFIG), interrupting, CONFIG, folder=tmp_path)
    content = read_checkpoint(tmp_path)
    assert content is not None
    assert content["state"]["step"] == 13
    assert signal.getsignal(signal.SIGINT) is before
    counting = Interrupting(at=0)
    model = network()
    result = train(model, source(CONFIG), counting, CONFIG, folder=tmp_path)
    assert counting.calls == 30 - 13
    assert result.losses == expected.losses
    assert weights(model) == weights(calm)


@pytest.mark.parametrize("change", [{"max_steps": 13}, {"patience": 1, "evaluate_every": 13, "epochs": 9}])
def test_ctrl_c_at_the_last_step_takes_no_step_more(tmp_path: Path, change: dict[str, Any]) -> None:
    config = replace(CONFIG, **change)
    metrics = [0.9, 0.1]

    def validate(model: nn.Module) -> float:
        return metrics[min(1, int(counting.calls > 13))]

    counting = Interrupting(at=13 if "max_steps" in change else 26)
    with pytest.raises(KeyboardInterrupt):
        train(network(), source(config), counting, config, folder=tmp_path, validate=validate)
    calls = counting.calls
    result = train(network(), source(config), counting, config, folder=tmp_path, validate=validate)
    assert counting.calls == calls == result.steps
    assert result.stopped == ("finished" if "max_steps" in change else "patience")
    assert result.best_step == (10 if "max_steps" in change else 13)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(network(), source(CONFIG), loss, CONFIG, folder=tmp_path)
    message = "must be of the same data and settings"
    with pytest.raises(ConfigError, match=message):
        train(network(), source(CONFIG), loss, replace(CONFIG, learning_rate=1e-3), folder=tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(network(), source(CONFIG, seed=1), loss, CONFIG, folder=tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(network(), source(CONFIG), loss, CONFIG, folder=tmp_path, about="another loss")
    # where and how fast it runs is not part of what it is
    train(network(), source(CONFIG), loss, replace(CONFIG, max_minutes=60), folder=tmp_path)
    remove_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"checkpoint .*checkpoint.pt must be readable, .* Delete"):
        train(network(), source(CONFIG), loss, CONFIG, folder=tmp_path)


def test_a_full_disk_is_a_resource_error_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"step": 1})
    full = tmp_path / f"{CHECKPOINT}.{os.getpid()}.tmp"
    full.symlink_to("/dev/full")  # every write there fails with ENOSPC
    with pytest.raises(ResourceError, match=r"checkpoint in .* GB free\) must be written, .* Make room"):
        write_checkpoint(tmp_path, {"step": 2, "big": torch.zeros(100_000)})
    assert read_checkpoint(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"must be written, got Not a directory"):
        write_checkpoint(tmp_path / "file" / "folder", {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(value: float) -> None:
    def broken(model: nn.Module, batch: Batch) -> Tensor:
        return loss(model, batch) * value

    with pytest.raises(ModelError, match=r"training loss at step 1 .* must be finite, got (nan|inf). Lower"):
        train(network(), source(CONFIG), broken, CONFIG)


def test_a_metric_that_is_no_number() -> None:
    with pytest.raises(ModelError, match=r"validation metric at step 10 must be a number, got nan"):
        train(network(), source(CONFIG), loss, CONFIG, validate=lambda model: float("nan"))


def test_no_data() -> None:
    empty = LengthBatches([], lambda rows: {}, 4)
    with pytest.raises(ConfigError, match="training data must hold at least one batch, got 0"):
        train(network(), empty, loss, CONFIG)


def test_the_bar_shows_loss_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    train(network(), source(CONFIG), loss, CONFIG, progress=True)
    shown = capsys.readouterr().out
    assert "30/30" in shown
    assert "loss" in shown
    train(network(), source(CONFIG), loss, CONFIG)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive number, got 0."),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, got nan."),
        ({"learning_rate": "fast"}, "learning_rate must be a positive number, got fast."),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0."),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1, got 2.5."),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\), got 1.0."),
        ({"decay": "exponential"}, "decay must be linear, cosine or none, got exponential."),
        ({"precision": "float16"}, "precision must be auto, float32 or bfloat16, got float16."),
        ({"patience": 0}, "patience must be None or an integer of at least 1, got 0."),
        ({"max_minutes": -1}, "max_minutes must be None or a positive number, got -1."),
        ({"layer_decay": 0}, r"layer_decay must lie in \(0, 1\], got 0."),
        ({"weight_decay": -0.1}, "weight_decay must be a number of at least 0, got -0.1."),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1."),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**change)
