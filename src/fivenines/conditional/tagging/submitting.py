"""Jobs that outlive the process that submitted them: a file in the work folder keeps others from the same shards."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from fivenines.errors import LockedError, sentence
from fivenines.files import read_json, write_json_atomic

__all__ = ["check_no_jobs", "submit"]

_SUBMITTED = "submitted.json"


def check_no_jobs(work: Path, left: int) -> None:
    """Raises LockedError where jobs were submitted and ``left`` shards are not done; with none left, forgets them."""
    place = work / _SUBMITTED
    if left and place.is_file():
        got = f"{left} shards not done by job {read_json(place)['job'] or 'not known'}"
        then = (
            f"Wait for it. If it has ended (squeue), see {work / 'notes'} for what failed, delete {place} and run "
            "again: what is marked is kept."
        )
        raise LockedError(
            sentence(f"the jobs submitted to Slurm for {work.parent}", "must be done", got, then)
        )
    place.unlink(missing_ok=True)


def submit(executor: Any, work: Path) -> None:
    """Run datatrove's executor for Slurm. The file is written before the first job, in case of a kill between."""
    place = work / _SUBMITTED
    write_json_atomic(place, {"job": None})
    try:
        executor.run()
    except (OSError, subprocess.CalledProcessError):
        if executor.job_id is None:  # sbatch is not there, or took none
            place.unlink()
        raise
    finally:
        if executor.job_id is not None:
            write_json_atomic(place, {"job": executor.job_id})
