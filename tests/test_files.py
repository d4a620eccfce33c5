"""Files that are whole or absent, and JSON lines that name what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fivenines.errors import DataError, ResourceError
from fivenines.files import atomic_file, read_json, read_jsonl, write_json_atomic, write_jsonl_atomic


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: tuple[int, ...]


def test_values_are_written_as_what_they_hold(tmp_path: Path) -> None:
    value = {
        "p": Point(np.float64(0.5), (1, 2)),
        "path": Path("a/b"),
        "array": np.arange(3),
        "text": "雪",
        "s": {2, 1},
    }
    write_json_atomic(tmp_path / "new" / "x.json", value)
    assert read_json(tmp_path / "new" / "x.json") == {
        "p": {"x": 0.5, "y": [1, 2]},
        "path": "a/b",
        "array": [0, 1, 2],
        "text": "雪",
        "s": [1, 2],
    }
    assert "雪" in (tmp_path / "new" / "x.json").read_text(encoding="utf-8")
    assert write_jsonl_atomic(tmp_path / "x.jsonl", ({"i": i} for i in range(3))) == 3
    assert list(read_jsonl(tmp_path / "x.jsonl")) == [(1, {"i": 0}), (2, {"i": 1}), (3, {"i": 2})]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.json"
    write_json_atomic(path, 1)
    with pytest.raises(DataError, match=r"x\.json must be given values that JSON can hold"):
        write_json_atomic(path, {"x": value})
    with pytest.raises(DataError, match="JSON can hold"):
        write_jsonl_atomic(path, [{"x": 1}, {"x": value}])
    assert read_json(path) == 1
    assert os.listdir(tmp_path) == ["x.json"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as handle:
            handle.write("new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_broken_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for line, message in {
        b'{"a": 1': r"x\.jsonl, line 3 must be JSON",
        b"[1]": r"x\.jsonl, line 3 must be a JSON object, got \[1\]",
        b'{"a": "\xff"}': r"x\.jsonl, line 3 must be JSON",
        b"[" * 100_000: r"x\.jsonl, line 3 must be JSON",
    }.items():
        path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n' + line + b"\n")
        with pytest.raises(DataError, match=message) as caught:
            list(read_jsonl(path))
        assert len(str(caught.value)) < 600
    with pytest.raises(DataError, match="must be a readable file, got No such file"):
        list(read_jsonl(tmp_path / "missing.jsonl"))
    with pytest.raises(DataError, match="must be a readable JSON file"):
        read_json(tmp_path / "missing.json")


FULL = """
import resource, signal, sys
from fivenines.errors import ResourceError
from fivenines.files import write_jsonl_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_jsonl_atomic(sys.argv[1], ({"text": "x" * 100} for _ in range(1000)))
except ResourceError as error:
    print(error)
"""


def test_no_room_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert "x.jsonl must be writable, got file too large" in done.stdout
    assert done.stdout.count("\n") == 1
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A real file system without room, where we may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small file system here")
    try:
        write_json_atomic(disk / "x.json", "old")
        with pytest.raises(
            ResourceError, match=r"must be writable, got no space left on device. Free some space"
        ):
            write_json_atomic(disk / "x.json", "new" * 100_000)
        assert json.loads((disk / "x.json").read_text()) == "old"
        assert os.listdir(disk) == ["x.json"]
    finally:
        subprocess.run(["umount", disk], check=True)
