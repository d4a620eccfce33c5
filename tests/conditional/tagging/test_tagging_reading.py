"""Files to texts and back: every document once and in order, whatever the shards; what is broken has a place."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.tagging.places import Piece, expand, file_kind, plan_shards
from fivenines.conditional.tagging.reading import BadRows, Columns, read_marked, read_piece
from fivenines.conditional.tagging.writing import Format, shard_writer, sweep
from fivenines.errors import DataError, ResourceError

TEXTS = ["Plain.", "", "Two\nlines.", "שלום עולם. 🙂", 'Quotes " and \\.', "x" * 3000, " "]


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"text": TEXTS[i % len(TEXTS)], "n": i} for i in range(count)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows)).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=17)  # type: ignore[no-untyped-call, attr-defined]
    return path


def in_shards(files: list[Path], size: int) -> list[MarkedText]:
    bad = BadRows()
    shards = plan_shards([file.absolute() for file in files], size)
    return [text for shard in shards for piece in shard for text in read_piece(piece, Columns(), bad)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@settings(max_examples=12)
@given(count=st.integers(0, 70), size=st.integers(1, 9000))
def test_every_document_once_and_in_order_whatever_the_shards(name: str, count: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write = write_parquet if name.endswith("parquet") else write_jsonl
        rows = rows_of(count) or [{"text": "x", "n": 0}]
        write(path, rows)
        found = in_shards([path], size)
    assert [(text.text, text.meta["n"]) for text in found] == [(row["text"], row["n"]) for row in rows]
    assert [text.id for text in found] == [f"{name}#{i}" for i in range(1, len(rows) + 1)]


def test_shards_are_of_about_the_size(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 88}] * 1000)  # 100 bytes a line, with its key
    shards = plan_shards([path], 5000)
    assert len(shards) == 20
    assert all(len(shard) == 1 and shard[0].size == 5050 for shard in shards[:-1]) or len(shards) == 20
    packed = write_jsonl(tmp_path / "b.jsonl.gz", [{"text": "x" * 88}] * 1000)
    assert 16 <= len(plan_shards([packed], 100)) <= 33  # each range of a packed file is found by unpacking
    small = [write_jsonl(tmp_path / f"{i:03}.jsonl", [{"text": "x" * 88}] * 10) for i in range(100)]
    assert len(plan_shards(small, 5000)) == 20  # small files together


def test_plain_text_is_one_document_or_several(tmp_path: Path) -> None:
    code = tmp_path / "code" / "f.py"
    code.parent.mkdir()
    code.write_bytes(b"\xef\xbb\xbfdef f():\r\n    return 1\n\n")
    stories = tmp_path / "stories.txt"
    stories.write_text(
        "One.\n<|endoftext|>\nTwo,\nlong.<|endoftext|>Three.\n\n<|endoftext|>\n \n", encoding="utf-8"
    )
    for size in (1, 10, 10_000):
        found = {text.id: text.text for text in in_shards([code, stories], size)}
        assert found == {
            "code/f.py": "def f():\r\n    return 1\n\n",
            "stories.txt#1": "One.",
            "stories.txt#3": "Two,\nlong.",
            "stories.txt#4": "Three.",
        }


def test_ids_metadata_and_marks_come_along(tmp_path: Path) -> None:
    marks = Marks("first", "v", ((0, 3),), (0.5,))
    row = MarkedText("One two.", "d7", (marks,), {"a": 1}).to_row()
    path = write_jsonl(
        tmp_path / "a.jsonl", [row, {"body": "x"}, {"text": "y", "id": 5, "metadata": {"b": 2}, "c": 3}]
    )
    bad = BadRows("skip")
    (piece,) = plan_shards([path], 1 << 20)[0]
    first, last = read_piece(piece, Columns(), bad)
    assert first == MarkedText("One two.", "d7", (marks,), {"a": 1})
    assert (last.id, last.meta) == ("5", {"b": 2, "c": 3})
    assert bad.places == [
        f'{path}, line 2 must have text in "text", got columns body. Mend it, or skip such lines: --bad skip.'
    ]
    other = write_jsonl(tmp_path / "b.jsonl", [{"body": "x", "key": "k"}])
    (found,) = read_marked([other], columns=Columns("body", "key"))
    assert (found.text, found.id, found.meta) == ("x", "k", {})


BROKEN: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda line: line[:-1], r"line 2 must be JSON \(Expecting"),
    (
        lambda line: line.replace(b"caf", b"caf\xe9"),
        r"line 2 must be UTF-8 text, got byte 0xe9 at position 14",
    ),
    (lambda line: line.replace(b"caf", b"c\0af"), "line 2 must be UTF-8 text, got a zero byte"),
    (lambda line: b"[1, 2]", "line 2 must be a JSON object"),
    (lambda line: b'{"text": 3}', 'line 2 must have text in "text", got 3'),
    (lambda line: b'{"text": "a", "x": NaN}', r"line 2 must be JSON \(NaN is not in JSON"),
    (
        lambda line: b'{"text": "a \\ud83d b"}',
        "line 2 must have text that is Unicode, got half a surrogate pair at",
    ),
    (lambda line: b'{"text": "a", "meta": 3}', 'line 2 must have an object in "meta"'),
    (
        lambda line: b'{"text": "a", "marks": [{"scorer": "s"}]}',
        "line 2 must have objects of scorer, version",
    ),
    (
        lambda line: (
            b'{"text": "a", "marks": [{"scorer": "s", "version": "v", "spans": [[0, 9]], "scores": [0]}]}'
        ),
        "line 2",
    ),
    (lambda line: b"[" * 100_000, "line 2 must be JSON"),
    (lambda line: b'{"text": "a", "x": -1e999}', r"line 2 must be JSON \(-1e999 is too large"),
    (
        lambda line: (
            b'{"text": "a", "marks": [{"scorer": "s", "version": "v", "spans": [[0, 1]], "scores": [1%s]}]}'
            % (b"0" * 400)
        ),
        "line 2 must have objects of scorer, version",
    ),
    (
        lambda line: b'{"text": "a", "id": "d\\ud800"}',
        "line 2 must have an id that is Unicode, got half a surrogate pair at character 2",
    ),
]


@pytest.mark.parametrize(("harm", "message"), BROKEN)
def test_a_broken_line_is_named_and_can_be_skipped(
    harm: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n' + harm(b'{"text": "caf"}') + b'\n\n{"text": "three"}\n')
    with pytest.raises(DataError, match=message):
        in_shards([path], 1 << 20)
    bad = BadRows("skip")
    (piece,) = plan_shards([path], 1 << 20)[0]
    assert [text.id for text in read_piece(piece, Columns(), bad)] == ["a.jsonl#1", "a.jsonl#4"]
    assert bad.count == 1
    with pytest.raises(DataError, match=r"broken lines must be at most 0, got 1\. The first: .*line 2"):
        list(read_piece(piece, Columns(), BadRows("skip", most=0)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    sixteen = tmp_path / "a.jsonl"
    sixteen.write_bytes('{"text": "one"}\n'.encode("utf-16"))
    with pytest.raises(DataError, match=r"line 1 must be UTF-8 text, got byte 0xff at position 1\. Save"):
        in_shards([sixteen], 99)
    text = tmp_path / "a.txt"
    text.write_bytes("one\ntwo caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="line 2 must be UTF-8 text, got byte 0xe9 at position 8"):
        in_shards([text], 99)
    for suffix, compress in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        cut = tmp_path / f"cut.jsonl{suffix}"
        cut.write_bytes(compress(b'{"text": "one"}\n' * 5000)[:-9])
        with pytest.raises(DataError, match=rf"cut.jsonl\{suffix} must be a whole (gzip|zstd) file, got"):
            plan_shards([cut], 99)
        cut.write_bytes(b'{"text": "never packed"}\n')
        with pytest.raises(DataError, match="must be a whole"):
            plan_shards([cut], 99)
    wrong = tmp_path / "wrong.parquet"
    wrong.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="must be a readable Parquet file"):
        plan_shards([wrong], 99)
    other = write_parquet(tmp_path / "other.parquet", [{"body": "x"}])
    with pytest.raises(DataError, match='must have a column "text", got columns body'):
        in_shards([other], 99)


def test_inputs_are_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.jsonl", "sub/a.jsonl", "_work/x.jsonl", ".hidden", "manifest.json", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [path.name for path in expand([tmp_path])] == ["b.jsonl", "c.txt", "a.jsonl"]
    assert [path.name for path in expand([tmp_path / "*.jsonl", tmp_path / "b.jsonl"])] == ["b.jsonl"]
    with pytest.raises(DataError, match="IN must name files, folders or patterns, got nothing at"):
        expand([tmp_path / "*.csv"])
    assert [
        file_kind(Path(name)) for name in ("a.JSONL.gz", "a.ndjson", "a.parquet", "a.py", "a.txt.zst")
    ] == [
        "rows",
        "rows",
        "parquet",
        "text",
        "text",
    ]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_what_is_written_is_read_and_the_same_each_time(form: Format, tmp_path: Path) -> None:
    marks = (Marks("a", "1", ((0, 1), (2, 3)), (0.1234567890123, None)), Marks("b", "2", (), ()))
    texts = [
        MarkedText(text, f"t{i}", marks if len(text) > 2 else (), {"n": i, "s": "é"})
        for i, text in enumerate(TEXTS)
    ]
    texts += [
        MarkedText(
            "d", "when", (), {"day": date(2020, 1, 2), "raw": b"\xff", "half": "\ud800", "set": {3, 1}}
        )
    ]
    for name in ("one", "two"):
        with shard_writer(tmp_path / f"{name}.{form}", form) as write:
            for text in texts * 200:
                write(text)
    assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()
    found = list(read_marked([tmp_path / f"one.{form}"]))
    assert len(found) == 200 * len(texts)
    assert found[: len(texts) - 1] == texts[:-1]
    assert found[len(texts) - 1].meta == {
        "day": "2020-01-02",
        "raw": "\ufffd",
        "half": "\ud800",
        "set": [1, 3],
    }


def test_a_shard_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with shard_writer(tmp_path / "part-00000.jsonl.gz", "jsonl.gz") as write:
            write(MarkedText("a", "a"))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".part-00001.jsonl.77.partial").write_text("half")  # as after a kill
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(DataError, match="text t must have metadata that JSON can hold"),
        shard_writer(tmp_path / "part-0.jsonl", "jsonl") as write,
    ):
        write(MarkedText("a", "t", (), {"x": float("nan")}))
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResourceError, match="must be writable"),
        shard_writer(tmp_path / "file" / "part-0.jsonl", "jsonl"),
    ):
        pass


def test_half_a_marked_corpus_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    out = tmp_path / "all" / "out"
    (out / "_work").mkdir(parents=True)
    plan, manifest = out / "_work" / "plan.json", out / "manifest.json"
    plan.write_text("{}")
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(out / name, rows_of(1))
    for folder in (out, out.parent):
        with pytest.raises(
            DataError, match=r"out must be a marked corpus that is whole, got a run without its"
        ):
            next(read_marked([folder]))
    assert len(list(read_marked([out / "a.jsonl"]))) == 1  # a file that somebody names is meant
    ours: dict[str, Any] = {"scorers": [], "broken lines": {}}
    manifest.write_text(json.dumps({**ours, "shards": ["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"]}))
    with pytest.raises(DataError, match=r"must hold all shards of its manifest, got no c.jsonl and 1 other"):
        next(read_marked([out]))
    manifest.write_text(json.dumps({**ours, "shards": ["a.jsonl", "b.jsonl"]}))
    plan.unlink()
    assert len(list(read_marked([out]))) == 2
    for others in ('{"shards": [{"raw": 1}]}', "[1]", "no JSON"):  # a manifest of somebody else says nothing
        manifest.write_text(others)
        assert len(list(read_marked([out]))) == 2


def test_a_piece_is_plain_json(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(3))
    (piece,) = plan_shards([path], 1 << 20)[0]
    assert Piece(**json.loads(json.dumps(piece.to_dict()))) == piece
