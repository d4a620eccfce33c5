"""Reading documents, snippets and prompts; every broken line is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.lib as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.data import Document, read_prompts, read_snippets, read_texts, write_snippets
from fivenines.errors import DataError
from fivenines.records import Snippet


def as_plain(folder: Path, texts: list[str]) -> Path:
    path = folder / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return path


def as_plain_gz(folder: Path, texts: list[str]) -> Path:
    path = folder / "stories.txt.gz"
    path.write_bytes(gzip.compress("\n<|endoftext|>\n".join(texts).encode()))
    return path


def as_jsonl(folder: Path, texts: list[str]) -> Path:
    path = folder / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def as_jsonl_gz(folder: Path, texts: list[str]) -> Path:
    plain = as_jsonl(folder, texts)
    path = folder / "stories.JSONL.GZ"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def as_parquet(folder: Path, texts: list[str]) -> Path:
    path = folder / "stories.parquet"
    pq.write_table(pa.table({"text": texts, "year": list(range(len(texts)))}), path)  # type: ignore[no-untyped-call]
    return path


FORMATS = [as_plain, as_plain_gz, as_jsonl, as_jsonl_gz, as_parquet]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_documents(
    write: Callable[[Path, list[str]], Path], tmp_path: Path
) -> None:
    texts = ["Once there was a fox.\n\nIt ran.", "Été à l'île. 漢字 🙂", "  Indented.\nWrapped line."]
    path = write(tmp_path, texts)
    assert [d.text for d in read_texts(path)] == texts
    assert len({d.source for d in read_texts(path)}) == 3
    assert all(d.source.startswith(path.name) for d in read_texts(path))


def test_a_file_without_separators_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(b"\xef\xbb\xbfOne.\r\n\r\nTwo.\r\n")
    assert list(read_texts(tmp_path / "book.txt")) == [Document("One.\n\nTwo.", "book.txt")]


def test_a_separator_may_stand_inside_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.<|endoftext|>Two.\nTwo still.<|endoftext|>\n\n<|endoftext|>Three.")
    documents = list(read_texts(tmp_path / "a.txt"))
    assert [d.text for d in documents] == ["One.", "Two.\nTwo still.", "Three."]
    assert [d.source for d in documents] == ["a.txt#1", "a.txt#2", "a.txt#3"]


def test_sources_are_relative_to_what_the_files_share(tmp_path: Path) -> None:
    for name in ("books/a/one.txt", "books/b/one.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("Text.")
    paths = [tmp_path / "books/a/one.txt", tmp_path / "books/b/one.txt"]
    assert [d.source for d in read_texts(paths)] == ["a/one.txt", "b/one.txt"]


def test_a_row_may_name_its_source(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"body": "One.", "book": "A"}\n\n{"body": "Two.", "book": null}\n')
    documents = list(read_texts(path, text_key="body", source_key="book"))
    assert documents == [Document("One.", "A"), Document("Two.", "rows.jsonl#2")]


@pytest.mark.parametrize("write", FORMATS)
def test_blank_documents_are_passed_over(write: Callable[[Path, list[str]], Path], tmp_path: Path) -> None:
    assert [d.text for d in read_texts(write(tmp_path, [" ", "One.", "\n"]))] == ["One."]


def test_no_files_give_no_documents() -> None:
    assert list(read_texts([])) == []


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_texts(path))
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            b"Fine.\nNot \xe9 fine.",
            "a.txt, line 2 must be UTF-8 text, got byte 0xe9 at position 5. Save",
        ),
        ("a.txt", "One.".encode("utf-16"), "a.txt, line 1 must be UTF-8 text, got byte 0xff at position 1."),
        (
            "a.txt",
            b"One\0two",
            "a.txt, line 1 must be UTF-8 text, got a zero byte. Is it a binary file or UTF-16?",
        ),
        ("a.txt.gz", b"no gzip", "a.txt.gz must be a whole gzip file, got Not a gzipped file (b'no')."),
        (
            "a.txt.gz",
            gzip.compress(b"One." * 999)[:-9],
            "a.txt.gz must be a whole gzip file, got Compressed file ended",
        ),
        (
            "a.jsonl",
            b'{"text": "One."}\n{"text": \n',
            "a.jsonl, line 2 must be JSON (Expecting value: line 1 column 1",
        ),
        (
            "a.jsonl",
            b'\n["One."]\n',
            "a.jsonl, line 2 must be a JSON object, got ['One.']. Mend or delete the line.",
        ),
        ("a.jsonl", b'{"txt": "One."}\n', 'a.jsonl, line 1 must have text in "text", got None.'),
        ("a.jsonl", b'{"text": 3}\n', 'a.jsonl, line 1 must have text in "text", got 3.'),
        ("a.parquet", b"no parquet", "a.parquet must be a readable Parquet file, got "),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert error_of(tmp_path / name).startswith(message)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert error_of(tmp_path / "a.txt") == "a.txt must be a readable file, got no such file or directory."
    assert error_of(tmp_path / "a.parquet").startswith("a.parquet must be a readable Parquet file, got")
    (tmp_path / "folder.txt").mkdir()
    assert error_of(tmp_path / "folder.txt") == "folder.txt must be a readable file, got is a directory."


def test_a_parquet_file_without_the_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"title": ["One"], "year": [1]}), path)  # type: ignore[no-untyped-call]
    assert error_of(path) == 'a.parquet must have a column "text", got columns title, year.'
    pq.write_table(pa.table({"text": ["One", None]}), path)  # type: ignore[no-untyped-call]
    assert error_of(path) == 'a.parquet, row 2 must have text in "text", got None.'


# --- snippets and prompts

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: bool(t.strip()))
plain_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
metas = st.dictionaries(st.sampled_from(["stratum", "inclusion", "injury", "über"]), plain_values)
sources = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(Snippet, texts, texts, sources, metas), max_size=6))
def test_snippets_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, snippets: list[Snippet]
) -> None:
    path = tmp_path_factory.mktemp("snippets") / "s.jsonl"
    assert write_snippets(path, snippets) == len(snippets)
    back = list(read_snippets(path))
    assert back == snippets
    assert [(s.source, s.meta) for s in back] == [(s.source, s.meta) for s in snippets]


def test_other_keys_are_meta_and_the_source_may_have_another_name(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"prompt": "A.", "completion": "B.", "file": "book.txt", "inclusion": 0.5}\n')
    (snippet,) = read_snippets(path, source_key="file")
    assert (snippet.source, snippet.meta) == ("book.txt", {"inclusion": 0.5})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "A."}', 's.jsonl, line 2 must have "completion", got keys prompt.'),
        ("{}", 's.jsonl, line 2 must have "prompt", got an empty object.'),
        (
            '{"prompt": "", "completion": "B."}',
            "s.jsonl, line 2: prompt must not be blank, got ''. Fill or delete",
        ),
        ('{"prompt": "A.", "completion": " "}', "s.jsonl, line 2: completion must not be blank, got ' '."),
        ('{"prompt": 1, "completion": "B."}', "s.jsonl, line 2: prompt must be text, got 1."),
        ('{"prompt": "A."', "s.jsonl, line 2 must be JSON (Expecting ',' delimiter"),
    ],
)
def test_a_broken_snippet_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"prompt": "A.", "completion": "B."}\n' + line + "\n")
    reading = read_snippets(path)
    assert next(reading) == Snippet("A.", "B.")
    with pytest.raises(DataError) as caught:
        next(reading)
    assert str(caught.value).replace(str(path), path.name).startswith(message)


def test_meta_may_not_shadow_the_snippet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="meta must not hold a snippet's own keys, got prompt"):
        write_snippets(tmp_path / "s.jsonl", [Snippet("A.", "B.", meta={"prompt": "C."})])
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_prompts_from_lines_and_from_json(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("One.\n\n  Two.  \n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "One."}\n{"prompt": "Two.", "x": 1}\n')
    assert list(read_prompts(tmp_path / "p.txt")) == ["One.", "Two."]
    assert list(read_prompts(tmp_path / "p.jsonl")) == ["One.", "Two."]
    (tmp_path / "p.jsonl").write_text('{"prompt": "  "}\n')
    with pytest.raises(DataError, match="line 1: prompt must not be blank"):
        list(read_prompts(tmp_path / "p.jsonl"))
