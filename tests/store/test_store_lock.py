"""One run at a time on a task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fivenines.errors import LockedError
from fivenines.store import TaskLock

HOLD = """
import sys, time
from fivenines.store.lock import TaskLock
with TaskLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_lock_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with TaskLock(tmp_path) as lock:
        assert lock.held
        with pytest.raises(LockedError, match=f"by one run at a time, got held by process {os.getpid()} on "):
            TaskLock(tmp_path).acquire()
        with pytest.raises(LockedError):
            lock.acquire()
    assert not lock.held
    with TaskLock(tmp_path):
        pass
    lock.release()  # harmless


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(
        LockedError, match=f"process {holder.pid} on .* since 20.*Wait for it to end, or stop it"
    ):
        TaskLock(tmp_path).acquire()
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with TaskLock(tmp_path):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests' threads may be about
def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = TaskLock(tmp_path)
    lock.acquire()
    ready, go = os.pipe()
    worker = os.fork()
    if worker == 0:  # lives on until told, as the worker of a killed run does
        os.close(go)
        os.read(ready, 1)
        os._exit(0 if not lock.held else 1)
    lock.release()
    with TaskLock(tmp_path):
        os.close(ready)
        os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0


def test_a_holder_without_a_name(tmp_path: Path) -> None:
    with TaskLock(tmp_path) as lock:
        lock.path.write_text("not json")
        with pytest.raises(LockedError, match="got another process"):
            TaskLock(tmp_path).acquire()
