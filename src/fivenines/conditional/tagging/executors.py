"""Where shards are done: on this machine, on Ray or on Slurm, by datatrove's executors (extra ``corpora``)."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from fivenines.errors import ConfigError, ResourceError, sentence

__all__ = ["Here", "OnRay", "OnSlurm", "make_executor"]


class _Quiet(PipelineExecutor):  # type: ignore[misc]
    """datatrove logs every shard to the terminal; a bar and one line at the end tell more."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.disable("datatrove")
        try:
            return super()._run_for_rank(rank, local_rank, node_rank)
        finally:
            logger.enable("datatrove")


class Here(_Quiet, LocalPipelineExecutor):  # type: ignore[misc]
    """On this machine. One worker works in this process; more are processes of their own, with ``threads`` each.

    datatrove's own pool waits for ever for a shard whose process was killed (for want of memory, say), and its
    processes outlive a parent that was; these do neither.
    """

    threads: int = 1
    pipeline: list[Any]

    def run(self) -> None:
        """Do what is missing. Raises what a shard raises, ResourceError when a process dies."""
        ranks = self.get_incomplete_ranks()
        if not ranks:
            return
        if self.workers == 1 or len(ranks) == 1:
            steps = self.pipeline
            for rank in ranks:
                self.pipeline = deepcopy(steps)
                self._run_for_rank(rank)
            self.pipeline = steps
            return
        context = multiprocessing.get_context("spawn")
        workers = min(self.workers, len(ranks))
        with ProcessPoolExecutor(workers, context, _begin, (self.threads,)) as pool:
            jobs = [pool.submit(self._run_for_rank, rank) for rank in ranks]
            done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in waiting:
                job.cancel()
            for job in done:
                _raise(job.exception())


class OnRay(_Quiet, RayPipelineExecutor):  # type: ignore[misc]
    """On a Ray cluster: the one that ``ray.init`` finds, else one of this machine."""

    def run(self) -> None:
        """Do what is missing; shards that failed stay so."""
        import ray  # an extra

        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        cores = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
        if cores < self.cpus_per_task:  # it would wait for ever
            got = f"a cluster of {cores:g} cores"
            raise ConfigError(sentence("threads", f"must be found on Ray ({self.cpus_per_task})", got))
        logger.disable("datatrove")
        try:
            with (
                warnings.catch_warnings()
            ):  # datatrove asks Ray in an older way, in threads that an error would end
                warnings.simplefilter("ignore", DeprecationWarning)
                super().run()
        finally:
            logger.enable("datatrove")


class OnSlurm(_Quiet, SlurmPipelineExecutor):  # type: ignore[misc]
    """As an array of Slurm jobs."""


def make_executor(
    where: str,
    steps: Sequence[PipelineStep],
    shards: int,
    folder: Path,
    *,
    workers: int,
    threads: int,
    options: dict[str, Any],
) -> PipelineExecutor:
    """An executor by its name ("here", "ray", "slurm"); ``options`` are those of datatrove's own.

    Raises ConfigError for a name or an option that it does not know.
    """
    common: dict[str, Any] = {"tasks": shards, "workers": workers, "logging_dir": str(folder)}
    if where in ("ray", "slurm"):
        common["cpus_per_task"] = threads
    kinds = {"here": Here, "ray": OnRay, "slurm": OnSlurm}
    if where not in kinds:
        raise ConfigError(sentence("executor", f"must be one of {', '.join(kinds)}", where))
    logger.disable("datatrove")  # a warning that Ray's folder is a local one: it may well be shared
    try:
        made = kinds[where](list(steps), **{**common, **options})
    except TypeError as error:
        then = "Slurm wants time and partition at least." if where == "slurm" else ""
        must = "must be those of datatrove's executor"
        raise ConfigError(sentence(f"options of {where}", must, str(error), then)) from None
    finally:
        logger.enable("datatrove")
    if isinstance(made, Here):
        made.threads = threads
    return made


def _begin(threads: int) -> None:
    """In each new process."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch is loaded later, and reads it
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # one message, the parent's, is enough
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # killed: nobody would take what is done here, and the next run does it again


def _raise(error: BaseException | None) -> None:
    if isinstance(error, BrokenProcessPool):
        then = "Was memory short? Take fewer workers, and run again: what is marked is kept."
        raise ResourceError(
            sentence("a worker", "must live to its end", "a process that was killed", then)
        ) from error
    if error is not None:
        raise error
