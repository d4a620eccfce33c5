"""The same run on Ray, and on Slurm by way of stand-ins for its commands that start the jobs here."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fivenines.conditional.tagging.rules import RegexScorer
from fivenines.conditional.tagging.running import Run, TaggingSettings, Workers, start, tag_corpus
from fivenines.errors import DataError, LockedError

SETTINGS = TaggingSettings(shard_mb=0.002)
SLURM = Workers(1, "slurm", threads=1, options={"time": "1:00:00", "partition": "cpu", "mem_per_cpu_gb": 1})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"He saw {i} cats. What an idiot!"}) + "\n" for i in range(100))
    )
    return path


def whole(corpus: Path, out: Path) -> dict[str, bytes]:
    run = start([corpus], out, [RegexScorer("idiot")], SETTINGS)
    tag_corpus(run)
    return parts(run)


def parts(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.out.glob("part-*")}


@pytest.mark.slow
def test_ray_gives_the_same(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        run = start([corpus], tmp_path / "ray", [RegexScorer("idiot")], SETTINGS)
        assert run.shards == 3
        options = {"mem_per_cpu_gb": 0.1}
        manifest = tag_corpus(run, Workers(2, "ray", threads=1, options=options))
        assert manifest is not None
        assert manifest["documents"] == 100
        assert parts(run) == whole(corpus, tmp_path / "here")

        with corpus.open("a") as handle:
            handle.write("broken\n")
        failing = start([corpus], tmp_path / "failing", [RegexScorer("idiot")], SETTINGS)
        with pytest.raises(DataError, match="line 101 must be JSON"):  # it went wrong in another process
            tag_corpus(failing, Workers(2, "ray", threads=1, options=options))
        assert len(failing.done) == failing.shards - 1
    finally:
        ray.shutdown()


SBATCH = """#!/bin/bash
# runs each task of an array one after the other, here
script="${@: -1}"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for arg in "$@"; do case "$arg" in --export=ALL,*) export "${arg#--export=ALL,}";; esac; done
export SLURM_NODELIST=here SLURM_JOB_ID=7
if [ -n "$last" ] && grep -q launch_pickled_pipeline "$script"; then
  for i in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$i bash "$script" >> "$SHIM_LOG" 2>&1; done
fi
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/bash
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""


def _stand_ins(sbatch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, content in {"sbatch": sbatch, "srun": SRUN, "scontrol": "#!/bin/bash\necho here\n"}.items():
        (commands / name).write_text(content)
        (commands / name).chmod(stat.S_IRWXU)
    path = os.pathsep.join((str(commands), str(Path(sys.executable).parent), os.environ["PATH"]))
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("SHIM_LOG", str(tmp_path / "log"))


@pytest.mark.slow
def test_slurm_gives_the_same(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_ins(SBATCH, tmp_path, monkeypatch)
    run = start([corpus], tmp_path / "slurm", [RegexScorer("idiot")], SETTINGS)
    manifest = tag_corpus(run, SLURM)
    log = (tmp_path / "log").read_text()
    assert manifest is not None, log  # the stand-in waits for its jobs
    assert manifest["documents"] == 100
    assert parts(run) == whole(corpus, tmp_path / "here")
    assert not (run.work / "submitted.json").exists()


def test_jobs_that_are_under_way_are_left_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = '#!/bin/bash\necho x >> "$SHIM_LOG"\necho "Submitted batch job 7"\n'  # they wait in the queue
    _stand_ins(sbatch, tmp_path, monkeypatch)
    run = start([corpus], tmp_path / "out", [RegexScorer("idiot")], SETTINGS)
    assert tag_corpus(run, SLURM) is None
    submitted = (tmp_path / "log").read_text()
    partial, note = run.out / ".part-00000.jsonl.7.partial", run.work / "notes" / "00000.done"
    for path in (partial, note):
        path.write_text("5")  # as a job does
    for workers in (SLURM, Workers()):
        with pytest.raises(
            LockedError, match=r"must be done, got 3 shards not done by job 7\. Wait .*delete"
        ):
            tag_corpus(start([corpus], run.out, [RegexScorer("idiot")], SETTINGS), workers)
    assert partial.exists()
    assert note.exists()
    assert (tmp_path / "log").read_text() == submitted
    (run.work / "submitted.json").unlink()
    assert tag_corpus(run, SLURM) is None  # submitted again, and still nothing is swept
    assert partial.exists()
    assert (tmp_path / "log").read_text() == submitted * 2
    (run.work / "submitted.json").unlink()
    assert tag_corpus(run) is not None  # here
    assert parts(run) == whole(corpus, tmp_path / "here")


def test_an_sbatch_that_takes_nothing_locks_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_ins("#!/bin/bash\nexit 1\n", tmp_path, monkeypatch)
    run = start([corpus], tmp_path / "out", [RegexScorer("idiot")], SETTINGS)
    with pytest.raises(subprocess.CalledProcessError):
        tag_corpus(run, SLURM)
    assert not (run.work / "submitted.json").exists()
