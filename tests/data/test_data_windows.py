"""Sentences have true offsets, and windows are k sentences and the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fivenines.data import Document, paragraphs, read_texts, sentences, windows
from fivenines.errors import ConfigError

FICTION = Path(__file__).parents[3] / "shared" / "data" / "fiction"
STORY = (
    "The fox came home. It was tired! Was it hungry? Mr. Smith said so.\n\n"
    'He fed it. "Eat," he said. It ate. Then it slept. Nobody spoke. The end came.'
)

awkward = st.text(st.sampled_from(list("aA .!?\n\"'“”’é漢🙂\u0301\r\t\u2028\u3000\xa0\x85…)1-")), max_size=60)


@settings(max_examples=250, deadline=None)
@given(awkward | st.text(max_size=60))
@example(" A\u2028. b")  # sentencex 1.0.32 panics here by itself
@example("x.\u3000A\u3000. 漢。")
def test_sentences_cover_all_but_blanks_in_order(text: str) -> None:
    spans = sentences(text)
    rest = text
    for before, span in zip([None, *spans], spans, strict=False):
        assert 0 <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        assert before is None or (before.end <= span.start and before.paragraph <= span.paragraph)
        rest = rest[: span.start] + " " * (span.end - span.start) + rest[span.end :]
    assert not rest.strip()


def test_sentences_are_those_that_a_reader_sees() -> None:
    found = [STORY[s.start : s.end] for s in sentences(STORY)]
    assert found == [
        "The fox came home.",
        "It was tired!",
        "Was it hungry?",
        "Mr. Smith said so.",
        "He fed it.",
        '"Eat," he said.',
        "It ate.",
        "Then it slept.",
        "Nobody spoke.",
        "The end came.",
    ]
    assert [s.paragraph for s in sentences(STORY)] == [0] * 4 + [1] * 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \n", []),
        ("One.", ["One."]),
        ("One.\n\nTwo.\n \n\nThree.", ["One.", "Two.", "Three."]),
        ('One.\nTwo!\n"Three."', ["One.", "Two!", '"Three."']),  # a paragraph a line
        (
            "A long line that\nwas wrapped by hand\nends here.",
            ["A long line that\nwas wrapped by hand\nends here."],
        ),
        ("One.\nTwo.\n\nThree.", ["One.\nTwo.", "Three."]),
    ],
)
def test_paragraphs(text: str, expected: list[str]) -> None:
    assert [text[start:end].strip() for start, end in paragraphs(text)] == expected


def test_windows_do_not_overlap_unless_asked() -> None:
    found = list(windows(STORY, 3, source="fox"))
    assert [(w.prompt, w.completion) for w in found] == [
        ("The fox came home. It was tired! Was it hungry?", "Mr. Smith said so."),
        ('He fed it. "Eat," he said. It ate.', "Then it slept."),
    ]
    assert found[0].source == "fox"
    assert STORY[found[1].meta["start"] :].startswith("He fed it.")
    assert len(list(windows(STORY, 3, stride=1))) == 7


def test_windows_may_stay_inside_a_paragraph() -> None:
    found = list(windows(STORY, 3, stride=1, within="paragraph"))
    assert [w.completion for w in found] == [
        "Mr. Smith said so.",
        "Then it slept.",
        "Nobody spoke.",
        "The end came.",
    ]


def test_windows_skip_sentences_of_odd_length() -> None:
    text = "One two. Three four. " + "word " * 90 + "end. Five six. * * *\n\nSeven eight. Nine ten. Last one."
    assert [w.text for w in windows(text, 1)] == ["One two. Three four.", "Seven eight. Nine ten."]
    (only,) = windows("One. Two words. Three words here.", 1, words=(2, 5))
    assert only.prompt == "Two words."


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["It ran.", "Why?", "He sat down there.", "* * *", "\n\n"]), max_size=40),
    st.data(),
)
def test_windows_are_consecutive_sentences(parts: list[str], data: st.DataObject) -> None:
    text = " ".join(parts)
    k = data.draw(st.integers(1, 4))
    stride = data.draw(st.none() | st.integers(1, 6))
    plain = [text[s.start : s.end] for s in sentences(text)]
    starts = {s.start: i for i, s in enumerate(sentences(text))}
    last = -1
    for window in windows(text, k, stride=stride):
        first = starts[window.meta["start"]]
        assert window.prompt == " ".join(plain[first : first + k])
        assert window.completion == plain[first + k]
        assert all(any(c.isalpha() for c in sentence) for sentence in plain[first : first + k + 1])
        assert first > last
        last = first + k if stride is None else first


def test_a_document_brings_its_source() -> None:
    assert {w.source for w in windows(Document(STORY, "book"))} == {"book"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"words": (3, 2)}, r"words must be the least and the most, at least 1, got \(3, 2\)"),
    ],
)
def test_settings_out_of_range(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        windows(STORY, **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(not FICTION.is_dir(), reason="needs ../shared/data/fiction beside the repository")
def test_real_fiction() -> None:
    books = sorted(FICTION.glob("adventure_classic/*.txt"))[:3]
    paths = [*books, FICTION / "modern_simple/african_storybook_en.txt"]
    documents = list(read_texts(paths))
    assert len(documents) > 100
    for document in documents:
        spans = sentences(document.text)
        covered = sum(s.end - s.start for s in spans)
        assert covered >= 0.95 * len("".join(document.text.split()))
        assert 1 <= spans[-1].paragraph + 1 <= len(spans)
    found = [window for document in documents for window in windows(document)]
    assert len(found) > 2500
    assert max(len(window.text) for window in found) < 3000
