"""Words and edits on any text: by properties, and by hand for scripts that read otherwise."""

from __future__ import annotations

import time
import unicodedata
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.words import (
    PARTS,
    Part,
    Place,
    as_cased,
    check_places,
    delete,
    insert,
    part_of,
    places_of,
    replace_at,
    words_changed,
    words_of,
)
from fivenines.errors import ConfigError, DataError
from fivenines.records import Snippet

ODD = (
    "aB9_ .,'’-\t\n\u00a0éß"
    + "\u0301\u05b8\u064e\u093f\u200b\u200c\u200d\u200f\ufe0f"
    + "שלم中हा"
    + "👩🔬🏽🇩🇪🙂\ud83d"
)
texts = st.one_of(st.text(max_size=30), st.text(alphabet=ODD, max_size=30))
snippets = st.builds(Snippet, texts, texts)
WORDS = ["dog", "cat", "a", "the", "Bird's", "red-hot", "7", "שלום", "🙂"]
plain = st.lists(st.sampled_from(WORDS), max_size=8)


def spelled(text: str) -> list[str]:
    return [text[span.start : span.end] for span in words_of(text)]


# -- words


@given(texts)
def test_words_and_signs_hold_all_but_white_space_once(text: str) -> None:
    spans = words_of(text)
    assert all(span.start < span.end for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    held = {i for span in spans for i in range(span.start, span.end)}
    assert held == {i for i, character in enumerate(text) if not character.isspace()}


@given(texts)
def test_no_word_begins_with_a_mark_of_what_stands_before_it(text: str) -> None:
    for span in words_of(text):
        if span.start > 0 and not text[span.start - 1].isspace():
            assert unicodedata.category(text[span.start]) not in ("Mn", "Mc", "Me", "Cf")


@given(texts)
def test_a_word_is_letters_and_a_sign_is_none(text: str) -> None:
    snippet = Snippet("", text)
    words = list(places_of(snippet))
    both = list(places_of(snippet, signs=True))
    assert [(place.start, place.end) for place in both] == [(span.start, span.end) for span in words_of(text)]
    assert set(words) <= set(both)
    for place in both:
        is_word = text[place.start].isalnum() or text[place.start] == "_"
        assert is_word == (place in words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't co-op, Anna’s!", ["Don't", "co-op", ",", "Anna’s", "!"]),
        ("a-- 'b' c'", ["a", "-", "-", "'", "b", "'", "c", "'"]),
        ("שָׁלוֹם, עוֹלָם", ["שָׁלוֹם", ",", "עוֹלָם"]),  # vowel points
        ("مَرْحَبًا بالعالم", ["مَرْحَبًا", "بالعالم"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # joined without a ligature
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("inju\u200bry", ["inju\u200bry"]),
        ("👩\u200d🔬 saw 👍🏽🇩🇪🇫🇷 1️⃣", ["👩\u200d🔬", "saw", "👍🏽", "🇩🇪", "🇫🇷", "1️⃣"]),
        ("🙂🙂", ["🙂", "🙂"]),
        ("中文。", ["中文", "。"]),
        ("\u0301 a", ["\u0301", "a"]),
        ("\ud83d half", ["\ud83d", "half"]),
        ("", []),
        (" \n\u2028\t", []),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert spelled(text) == expected


def test_long_and_odd_texts_are_fast() -> None:
    begun = time.perf_counter()
    for text in ("a\u0301" * 20_000, "\u200d" * 20_000, "👩\u200d" * 20_000, "a-" * 20_000, "🇩" * 20_000):
        assert words_of(text)
    assert time.perf_counter() - begun < 5.0


def test_places_of_parts_and_of_words_to_keep() -> None:
    snippet = Snippet("The dog bled.", "the END")
    assert [place.part for place in places_of(snippet)] == ["prompt"] * 3 + ["completion"] * 2
    assert list(places_of(snippet, ("completion",), keep={"the"})) == [Place("completion", 4, 7)]
    assert list(places_of(snippet, keep={"the", "dog", "bled", "end"})) == []


@pytest.mark.parametrize("parts", ["prompt", (), ("prompts",), ("prompt", "end")])
def test_parts_that_are_none(parts: tuple[Part, ...]) -> None:
    with pytest.raises(ConfigError, match="parts must be of prompt and completion"):
        check_places(parts)


@pytest.mark.parametrize("word", ["New York", "Knife", "", "knife,", " knife"])
def test_words_to_keep_that_no_word_equals(word: str) -> None:
    with pytest.raises(ConfigError, match="words to keep must be single words in lower case"):
        check_places(PARTS, {word})
    with pytest.raises(ConfigError, match="must be a list of words, got one text"):
        check_places(PARTS, "knife")
    check_places(PARTS, {"knife", "don't", "👍🏽", "עוֹלָם"})


# -- edits


@given(snippets, texts, st.data())
def test_a_replacement_can_be_taken_back(snippet: Snippet, new: str, data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(PARTS))
    text = part_of(snippet, part)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    edited = replace_at(snippet, Place(part, start, end), new)
    other: Part = "completion" if part == "prompt" else "prompt"
    assert part_of(edited, other) == part_of(snippet, other)
    assert part_of(edited, part) == text[:start] + new + text[end:]
    back = replace_at(edited, Place(part, start, start + len(new)), text[start:end])
    assert back == snippet


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 1), (0, 5), (5, 5)])
def test_a_place_outside_of_the_text(start: int, end: int) -> None:
    with pytest.raises(DataError, match="place must lie in the prompt of 4 characters"):
        replace_at(Snippet("four", "and more"), Place("prompt", start, end), "x")


def test_an_edited_text_is_known_by_its_source_alone() -> None:
    edited = insert(Snippet("a", "b", "a book", {"inclusion": 0.5}), "completion", 1, "c")
    assert (edited.completion, edited.source, dict(edited.meta)) == ("b c", "a book", {})


@given(snippets, st.data())
def test_an_inserted_word_is_a_word_between_the_others(snippet: Snippet, data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(PARTS))
    text = part_of(snippet, part)
    starts = [place.start for place in places_of(snippet, (part,))]
    at = data.draw(st.sampled_from([*starts, len(text)]))
    edited = insert(snippet, part, at, "new")
    before = [word for span, word in zip(words_of(text), spelled(text), strict=True) if span.start < at]
    assert spelled(part_of(edited, part)) == [*before, "new", *spelled(text)[len(before) :]]
    assert words_changed(snippet, edited) == 1


@given(plain, st.sampled_from(["new", "ערב", "🙂"]), st.data())
def test_an_insertion_can_be_taken_back(words: list[str], new: str, data: st.DataObject) -> None:
    snippet = Snippet("", " ".join(words))
    at = data.draw(st.sampled_from([span.start for span in words_of(snippet.completion)] or [0]))
    edited = insert(snippet, "completion", at, new)
    assert delete(edited, Place("completion", at, at + len(new))) == snippet


@given(plain.filter(bool), st.data())
def test_a_deleted_word_is_gone_with_one_blank(words: list[str], data: st.DataObject) -> None:
    snippet = Snippet(" ".join(words), "")
    i = data.draw(st.integers(0, len(words) - 1))
    span = words_of(snippet.prompt)[i]
    edited = delete(snippet, Place("prompt", span.start, span.end))
    assert edited.prompt == " ".join(words[:i] + words[i + 1 :])


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [("The dog.", "dog", "The."), ("Dog ran", "Dog", "ran"), ("(dog) ran", "dog", "() ran"), ("a", "a", "")],
)
def test_deletions_by_hand(text: str, word: str, expected: str) -> None:
    start = text.index(word)
    edited = delete(Snippet(text, ""), Place("prompt", start, start + len(word)))
    assert edited.prompt == expected


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ("cat", "dog", "cat"),
        ("cat", "Dog", "Cat"),
        ("cat", "DOG", "CAT"),
        ("cat", "I", "Cat"),
        ("McCoy", "dog", "McCoy"),
        ("cat", "", "cat"),
        ("", "Dog", ""),
        ("שלום", "Dog", "שלום"),
        ("cat", "שלום", "cat"),
    ],
)
def test_capitals(new: str, old: str, expected: str) -> None:
    assert as_cased(new, old) == expected


# -- how many words were changed


def slowly(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    """The edit distance by its definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if min(i, j) == 0:
            return max(i, j)
        replaced = distance(i - 1, j - 1) + (old[i - 1] != new[j - 1])
        return min(replaced, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(old), len(new))


few = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@given(few, few, few, few)
def test_words_changed_is_the_edit_distance(a: str, b: str, c: str, d: str) -> None:
    before, after = Snippet(a, b), Snippet(c, d)
    expected = sum(slowly(tuple(x.split()), tuple(y.split())) for x, y in ((a, c), (b, d)))
    assert words_changed(before, after) == words_changed(after, before) == expected


@given(snippets, snippets, snippets)
def test_words_changed_is_a_distance(a: Snippet, b: Snippet, c: Snippet) -> None:
    same = all(spelled(part_of(a, part)) == spelled(part_of(b, part)) for part in PARTS)
    assert (words_changed(a, b) == 0) == same
    assert words_changed(a, b) == words_changed(b, a)
    assert words_changed(a, c) <= words_changed(a, b) + words_changed(b, c)
    sizes = [[len(words_of(part_of(one, part))) for one in (a, b)] for part in PARTS]
    assert sum(abs(x - y) for x, y in sizes) <= words_changed(a, b) <= sum(max(pair) for pair in sizes)


@given(snippets, st.data())
def test_a_replaced_word_is_one_change_at_most(snippet: Snippet, data: st.DataObject) -> None:
    places = list(places_of(snippet))
    if places:
        place = data.draw(st.sampled_from(places))
        assert words_changed(snippet, replace_at(snippet, place, "zzz")) == 1


def test_long_texts_with_few_changes_are_fast() -> None:
    words = [f"w{i % 977}" for i in range(20_000)]
    changed = ["x" if i in (5, 9_000, 19_990) else word for i, word in enumerate(words)]
    begun = time.perf_counter()
    assert words_changed(Snippet("", " ".join(words)), Snippet("", " ".join(changed))) == 3
    assert time.perf_counter() - begun < 5.0
