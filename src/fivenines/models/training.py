"""The one training loop: whatever is trained, the loss is a function and the batches come from a source.

    data   an object with ``batches(epoch)`` and ``len()``      fivenines.models.batching.BatchSource
    loss   (model, batch) -> scalar tensor, a mean over the batch
    train  runs it: AdamW, warm-up and decay, clipping, bfloat16, checkpoints, early stopping

A run that is killed, interrupted or out of time goes on from its checkpoint when it is started again with the
same folder, and on a CPU ends with the same bits as an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import Batch, BatchSource, to_device
from fivenines.models.checkpoints import (
    random_states,
    read_checkpoint,
    restore_random_states,
    write_checkpoint,
)
from fivenines.models.devices import autocast, isolated
from fivenines.models.optimizers import learning_rate_factor, make_optimizer, parameter_groups
from fivenines.models.training_config import TrainingConfig, TrainingResult

__all__ = ["LossFunction", "TrainingConfig", "TrainingResult", "train"]

LossFunction = Callable[[nn.Module, Batch], Tensor]
_NOT_OF_THE_RUN = (
    "threads",
    "max_minutes",
    "checkpoint_every_seconds",
)  # may change between sittings of one run
_SETTLED = 0.05  # share of the time limit after which the pace is known


def train(
    model: nn.Module,
    data: BatchSource,
    loss: LossFunction,
    config: TrainingConfig,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    folder: Path | None = None,
    about: str = "",
    progress: bool = False,
) -> TrainingResult:
    """Train ``model`` in place and leave it in evaluation mode.

    With ``validate`` (higher is better) the weights of the best evaluation are kept. With ``folder`` the run
    writes checkpoints there and goes on from one that it finds; ``checkpoints.remove_checkpoint`` ends that.
    ``about`` says what a checkpoint must agree on besides: the settings of ``loss``, which is but a function.
    Ctrl-C writes a checkpoint before it raises KeyboardInterrupt. Global random streams and threads are left
    as they were.

    Raises ConfigError for a checkpoint of another run, ModelError for a loss that is not finite,
    ResourceError when the disk is full.
    """
    with isolated(config.seed, config.threads), _deferred_interrupt() as interrupted:
        run = _Run(model, data, loss, config, validate, folder, about)
        run.resume()
        with _bar(progress and run.accelerator.is_main_process) as bar:
            run.go(bar, interrupted)
        return run.finish()


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the step under way ends first; a second one interrupts at once."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield event
        return

    def on_interrupt(number: int, frame: Any) -> None:
        if event.is_set() and callable(before):
            before(number, frame)
        event.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _bar(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    numbers = TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.1e}")
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), numbers, disable=not shown)


@dataclass
class _State:
    """All of a run that is neither weights nor optimizer: where it stands and what it saw."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # steps taken in this epoch
    seconds: float = 0.0
    stale: int = 0  # evaluations since the best one
    best_metric: float | None = None
    best_step: int | None = None
    losses: list[float] = field(default_factory=list)
    metrics: list[tuple[int, float]] = field(default_factory=list)


class _Run:
    """One run of the loop; all that changes is in ``state``, ``best``, the model and the optimizer."""

    def __init__(
        self,
        model: nn.Module,
        data: BatchSource,
        loss: LossFunction,
        config: TrainingConfig,
        validate: Callable[[nn.Module], float] | None,
        folder: Path | None,
        about: str,
    ) -> None:
        self.accelerator: Any = Accelerator(mixed_precision="no")  # precision is ours: see devices.autocast
        self.data, self.loss, self.config, self.validate = data, loss, config, validate
        self.folder, self.about = folder, about
        groups = parameter_groups(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            head_learning_rate=config.head_learning_rate,
        )
        self.optimizer = make_optimizer(groups, (config.beta1, config.beta2), config.optimizer)
        self.plain = model
        self.model: nn.Module = self.accelerator.prepare_model(model)
        self.state = _State()
        self.best: dict[str, Tensor] | None = None
        self.stopped = ""
        self.steps_per_epoch = self._steps_per_epoch()
        wanted = config.max_steps if config.max_steps is not None else config.epochs * self.steps_per_epoch
        self.total = max(1, math.ceil(wanted - 1e-9))
        self.started = self.last_checkpoint = time.monotonic()
        self.last_cost = 0.0  # seconds that the last checkpoint took

    def _steps_per_epoch(self) -> int:
        count, chunk = len(self.data), self.config.accumulate * int(self.accelerator.num_processes)
        if count == 0:
            raise ConfigError(sentence("training data", "must hold at least one batch", 0))
        return max(1, count // chunk) if self.accelerator.num_processes > 1 else math.ceil(count / chunk)

    # -- the loop

    def go(self, bar: Progress, interrupted: threading.Event) -> None:
        """Steps until the end, the limit or the end of patience."""
        task = bar.add_task("training", total=self.total, completed=self.state.step, loss=math.nan, rate=0.0)
        while not self.stopped:
            for batches in islice(self._chunks(), self.state.position, None):
                if self._time_is_up():
                    break
                value = self._step(batches)
                rate = self.optimizer.param_groups[-1]["lr"]
                bar.update(task, completed=self.state.step, loss=value, rate=rate)
                self._after_step(interrupted)
                if self.stopped:
                    break
            else:
                self._end_epoch()

    def _chunks(self) -> Iterator[list[Batch]]:
        """The batches of each step of this epoch that are this process's share."""
        processes = self.accelerator.num_processes
        source = self.data.batches(self.state.epoch)
        while chunk := list(islice(source, self.config.accumulate * processes)):
            if share := chunk[self.accelerator.process_index :: processes]:
                if len(chunk) < processes:  # the others would wait for ever
                    return
                yield share

    def _step(self, batches: list[Batch]) -> float:
        self.model.train()
        total = torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            with autocast(self.config.precision, self.accelerator.device):
                value = self.loss(self.model, to_device(batch, self.accelerator.device))
            self.accelerator.backward(value / len(batches))
            total += value.detach() / len(batches)
        factor = learning_rate_factor(self._progress(), self.config.warmup, self.config.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        number = float(total)
        if not math.isfinite(number):
            self._refuse(number)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.losses.append(number)
        self.state.step += 1
        self.state.position += 1
        return number

    def _refuse(self, number: float) -> None:
        then = "Lower learning_rate or clip, use precision float32, and look for broken texts in the data."
        rate = self.optimizer.param_groups[-1]["lr"]
        where = f"training loss at step {self.state.step + 1} (learning rate {rate:.1e})"
        raise ModelError(sentence(where, "must be finite", number, then))

    def _progress(self) -> float:
        """Share of the training at the middle of this step: in steps, or in time where that runs out sooner."""
        by_steps = (self.state.step + 0.5) / self.total
        if self.config.max_minutes is None:
            return by_steps
        by_time = self._agreed(min(1.0, self._seconds() / (60 * self.config.max_minutes)))
        return by_steps if by_time < _SETTLED else float(max(by_steps, by_time))

    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.started

    def _time_is_up(self) -> bool:
        limit = self.config.max_minutes
        if limit is not None and self._agreed(self._seconds() >= 60 * limit):
            self._evaluate_once()
            self.stopped = "time"
        return bool(self.stopped)

    def _agreed(self, value: Any) -> Any:
        """The main process's value, in every process."""
        if self.accelerator.num_processes == 1:
            return value
        return broadcast_object_list([value])[0]

    def _after_step(self, interrupted: threading.Event) -> None:
        state, every = self.state, self.config.evaluate_every
        if state.step >= self.total:
            self._evaluate_once()
            self.stopped = self.stopped or "finished"
        elif every is not None and state.step % every == 0:
            self._evaluate_once()
        if interrupted.is_set():
            self._checkpoint()
            raise KeyboardInterrupt
        waited = time.monotonic() - self.last_checkpoint
        if not self.stopped and waited >= max(self.config.checkpoint_every_seconds, 20 * self.last_cost):
            self._checkpoint()

    def _end_epoch(self) -> None:
        if self.state.position == 0:
            raise ConfigError(
                sentence("training data", "must hold at least one batch", f"none in epoch {self.state.epoch}")
            )
        self.state.epoch, self.state.position = self.state.epoch + 1, 0
        if self.config.evaluate_every is None:
            self._evaluate_once()

    # -- evaluation

    def _evaluate_once(self) -> None:
        """Evaluate unless this step was evaluated already; keep the best weights; count patience."""
        state = self.state
        if self.validate is None or state.step == 0 or (state.metrics and state.metrics[-1][0] == state.step):
            return
        self.plain.eval()
        with isolated():  # evaluating more or less often must not change the training
            metric = float(self._agreed(self.validate(self.plain)))
        if math.isnan(metric):
            then = "Give a validation set on which the metric exists, e.g. one that holds both answers."
            raise ModelError(
                sentence(f"validation metric at step {state.step}", "must be a number", metric, then)
            )
        state.metrics.append((state.step, metric))
        if state.best_metric is None or metric > state.best_metric:
            state.best_metric, state.best_step, state.stale = metric, state.step, 0
            self.best = {name: t.detach().cpu().clone() for name, t in self.plain.state_dict().items()}
        else:
            state.stale += 1
        if self.config.patience is not None and state.stale >= self.config.patience:
            self.stopped = "patience"

    # -- checkpoints

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must agree on to be of this run: settings, length, what the caller says, first batch."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in _NOT_OF_THE_RUN}
        agreed = [settings, self.total, *([self.about] if self.about else [])]
        digest = hashlib.blake2b(json.dumps(agreed, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(next(iter(self.data.batches(0))).items()):
            digest.update(name.encode() + str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        return digest.hexdigest()

    def _checkpoint(self, done: bool = False) -> None:
        if self.folder is None or not self.accelerator.is_main_process:
            return
        begun = time.monotonic()
        self.state.seconds, self.started = self._seconds(), begun
        content = {
            "identity": self.identity,
            "state": asdict(self.state),
            "model": self.plain.state_dict(),
        }
        if done:
            content["stopped"] = self.stopped
        else:
            resumable: dict[str, Any] = {"best": self.best, "optimizer": self.optimizer.state_dict()}
            content |= resumable | {"random": random_states()}
        write_checkpoint(self.folder, content)
        self.last_checkpoint = time.monotonic()
        self.last_cost = self.last_checkpoint - begun

    def resume(self) -> None:
        """Take up the checkpoint in ``folder``, if there is one."""
        content = None if self.folder is None else read_checkpoint(self.folder)
        if content is None:
            return
        if content["identity"] != self.identity:
            then = f"Delete {self.folder} to train anew, or give another folder."
            raise ConfigError(
                sentence(
                    f"checkpoint in {self.folder}", "must be of the same data and settings", "another", then
                )
            )
        self.plain.load_state_dict(content["model"])
        self.state = _State(**content["state"])
        self.stopped = content.get("stopped", "")
        if not self.stopped:
            self.best = content["best"]
            self.optimizer.load_state_dict(content["optimizer"])
            restore_random_states(content["random"])
            if self.state.step >= self.total:  # interrupted after its last step
                self.stopped = "finished"
            elif self.config.patience is not None and self.state.stale >= self.config.patience:
                self.stopped = "patience"
            if self.accelerator.process_index > 0:  # only the first process's streams were kept
                torch.manual_seed(self.config.seed + 7919 * self.accelerator.process_index + self.state.step)

    def finish(self) -> TrainingResult:
        """The last checkpoint, the best weights, the result."""
        if self.stopped == "time":  # with a longer limit it can go on
            self._checkpoint()
        if self.best is not None:
            self.plain.load_state_dict(self.best)
        if self.stopped != "time":
            self._checkpoint(done=True)
        self.plain.eval()
        state = self.state
        epochs = state.epoch + state.position / self.steps_per_epoch
        rest = (state.losses, state.metrics, state.best_metric, state.best_step)
        return TrainingResult(self.stopped, state.step, epochs, self._seconds(), *rest)
