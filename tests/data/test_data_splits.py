"""Copies go, and no text stands in two splits."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.data import deduplicate, linked_sources, near_duplicates, read_texts, split_by_source, windows
from fivenines.data.duplicates import normalized, word_runs
from fivenines.errors import ConfigError, NotEnoughDataError
from fivenines.records import Snippet

FICTION = Path(__file__).parents[3] / "shared" / "data" / "fiction"
SHARES = {"train": 0.8, "calibrate": 0.1, "test": 0.1}
WORDS = [
    f"{a}{b}" for a in "bcdfghklmnprst" for b in ("ata", "elo", "imu", "ora", "uni", "asi", "eto", "olu")
]


def prose(rng: random.Random, count: int = 40) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count)).capitalize() + "."


def edited(text: str, rng: random.Random, edits: int) -> str:
    words = text.split()
    for place in rng.sample(range(len(words)), edits):
        words[place] = rng.choice(WORDS)
    return " ".join(words)


def jaccard(left: str, right: str) -> float:
    """By sets of tuples: the slow, independent way."""

    def triples(text: str) -> set[tuple[str, ...]]:
        words = normalized(text).split()
        return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}

    a, b = triples(left), triples(right)
    return len(a & b) / len(a | b)


# --- duplicates


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_near_duplicates_are_those_of_the_slow_way(seed: int) -> None:
    rng = random.Random(seed)
    texts = [prose(rng, rng.randint(1, 40)) for _ in range(6)]
    texts += [edited(text, rng, min(rng.randint(0, 3), len(text.split()))) for text in texts]
    rng.shuffle(texts)
    groups = near_duplicates(texts, 0.7)
    assert all(groups[group] == group <= index for index, group in enumerate(groups))
    for i, left in enumerate(texts):
        for j, right in enumerate(texts[:i]):
            if jaccard(left, right) >= 0.7:
                assert groups[i] == groups[j]  # found by the bands but for 1 in 6,000
        if groups[i] != i:  # joined through some member of the group
            others = [j for j, group in enumerate(groups) if group == groups[i] and j != i]
            assert any(jaccard(left, texts[j]) >= 0.7 for j in others)


def test_word_runs_are_hashes_of_runs() -> None:
    a, b = word_runs("The old fox ran away", 3), word_runs("the OLD fox, ran home!", 3)
    assert len(a) == len(b) == 3
    assert (a[:2] == b[:2]).all()
    assert a[2] != b[2]
    assert word_runs("fox old the", 3)[0] != a[0]  # order counts
    assert len(word_runs("two words", 3)) == 1
    assert len(word_runs("", 3)) == 1


def test_near_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"near must lie in \(0, 1\], got 0"):
        near_duplicates(["a"], 0)


def test_exact_copies_go_and_the_first_stays() -> None:
    first = Snippet("The fox ran.", "It fell.", source="a")
    copies = [first, Snippet("the FOX ran", "It fell!", source="b"), Snippet("The fox ran.", "It flew.")]
    kept = deduplicate(copies)
    assert [(s.completion, s.source) for s in kept] == [("It fell.", "a"), ("It flew.", "")]


def test_near_copies_go_but_never_two_completions_of_one_prompt() -> None:
    rng = random.Random(1)
    prompt, completion = prose(rng), prose(rng, 20)
    near_prompt, near_completion = edited(prompt, rng, 1), edited(completion, rng, 1)
    turned = Snippet(prompt, near_completion)
    copy = Snippet(near_prompt, near_completion)
    other = Snippet(near_prompt, prose(rng, 20))
    assert deduplicate([Snippet(prompt, completion), turned, copy, other]) == [
        Snippet(prompt, completion),
        turned,
        other,
    ]
    assert len(deduplicate([Snippet(prompt, completion), turned, copy, other], near=None)) == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.builds(Snippet, st.sampled_from(["A b c.", "A b d.", "X y."]), st.sampled_from("pqr"))))
def test_deduplicate_is_idempotent(snippets: list[Snippet]) -> None:
    once = deduplicate(snippets)
    assert deduplicate(once) == once
    assert {(s.prompt, s.completion) for s in once} == {(s.prompt, s.completion) for s in snippets}


def test_deduplicate_takes_linear_time() -> None:
    rng = random.Random(0)
    snippets = [Snippet(prose(rng), prose(rng, 12)) for _ in range(2000)]

    def seconds(count: int) -> float:
        begin = time.process_time()
        deduplicate(snippets[:count])
        return time.process_time() - begin

    assert seconds(2000) < 4 * 2 * max(seconds(500), 0.02)
    same = [
        Snippet(f"Terms of use number {i} of this text.", "It is forbidden to copy it.") for i in range(3000)
    ]
    begin = time.process_time()
    deduplicate(same)  # boilerplate: one bucket for all
    assert time.process_time() - begin < 5


# --- splits


def corpus(rng: random.Random, books: int, windows_each: int = 6) -> list[Snippet]:
    return [
        Snippet(prose(rng), prose(rng, 12), source=f"book {book}")
        for book in range(books)
        for _ in range(rng.randint(1, windows_each))
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 30))
def test_no_source_and_no_prompt_in_two_splits(seed: int, books: int) -> None:
    rng = random.Random(seed)
    snippets = corpus(rng, books)
    for _ in range(books // 6):  # the same prompt in two books, as it is or edited a little
        left, right = rng.choice(snippets), rng.choice(snippets)
        changed = edited(left.prompt, rng, rng.randint(0, 2))
        snippets.append(Snippet(changed, prose(rng, 12), source=right.source))
    try:
        splits = split_by_source(snippets, SHARES, seed=seed)
    except NotEnoughDataError:
        assert len(set(linked_sources(snippets).values())) < 3
        return
    assert sorted(s.id for split in splits.values() for s in split) == sorted(s.id for s in snippets)
    assert all(splits.values())
    for name, split in splits.items():
        others = [s for other, part in splits.items() if other != name for s in part]
        assert not {s.source for s in split} & {s.source for s in others}
        prompts = [s.prompt for s in split] + [s.prompt for s in others]
        groups = near_duplicates(prompts)
        assert not set(groups[: len(split)]) & set(groups[len(split) :])


def test_splits_have_their_shares_and_depend_on_the_seed_alone() -> None:
    snippets = corpus(random.Random(3), 300)
    one, again = split_by_source(snippets, SHARES, seed=1), split_by_source(snippets, SHARES, seed=1)
    assert one == again
    assert split_by_source(snippets, SHARES, seed=2) != one
    for name, share in SHARES.items():
        assert len(one[name]) == pytest.approx(share * len(snippets), abs=7)
    shuffled = split_by_source(snippets[::-1], SHARES, seed=1)
    assert {s.source for s in shuffled["test"]} == {s.source for s in one["test"]}


def test_the_same_tale_in_two_books_links_them() -> None:
    """Although the windows are cut at other places, so that no prompt is the same."""
    rng = random.Random(5)
    tale = " ".join(prose(rng, 9) for _ in range(12))
    books = {
        "a": tale,
        "b": "It begins otherwise here. " + tale,
        "c": " ".join(prose(rng, 9) for _ in range(12)),
    }
    snippets = [w for source, text in books.items() for w in windows(text, 3, source=source)]
    assert linked_sources(snippets) == {"a": "a", "b": "a", "c": "c"}


def test_sources_alike_by_nature_link_by_the_same_prompt_alone() -> None:
    rng = random.Random(9)
    prompt = prose(rng)
    alike = [Snippet(edited(prompt, rng, 1), prose(rng, 8), source=f"story {i}") for i in range(5)]
    alike.append(Snippet(alike[0].prompt.upper(), prose(rng, 8), source="story 5"))
    assert len(set(linked_sources(alike).values())) < 4
    linked = linked_sources(alike, near=1.0)
    assert linked["story 5"] == linked["story 0"]
    assert len(set(linked.values())) == 5


def test_boilerplate_links_nothing() -> None:
    rng = random.Random(6)
    licence = prose(rng, 60)
    snippets = [Snippet(prose(rng), licence, source=f"book {i}") for i in range(15)]
    assert len(set(linked_sources(snippets).values())) == 15
    assert len(set(linked_sources(snippets[:3]).values())) == 1


def test_snippets_without_a_source_go_by_their_prompt() -> None:
    rng = random.Random(7)
    prompts = [prose(rng) for _ in range(20)]
    snippets = [Snippet(prompt, prose(rng, 8)) for prompt in prompts for _ in range(3)]
    splits = split_by_source(snippets, {"train": 0.5, "test": 0.5})
    assert not {s.prompt for s in splits["train"]} & {s.prompt for s in splits["test"]}


def test_too_few_sources_say_how_many_more() -> None:
    snippets = corpus(random.Random(8), 2)
    with pytest.raises(
        NotEnoughDataError, match=r"need a source each, got 2 that share no text. Give 1 more source "
    ) as e:
        split_by_source(snippets, SHARES)
    assert e.value.more_needed == 1
    with pytest.raises(NotEnoughDataError, match="Give 3 more sources that share no text with these"):
        split_by_source([], SHARES)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.5, "test": 0.4}, "shares must sum to 1, got 0.9"),
        ({"train": 1.0, "test": 0.0}, "share of test must be greater than 0, got 0.0"),
    ],
)
def test_shares_out_of_range(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_by_source([], shares)


@pytest.mark.skipif(not FICTION.is_dir(), reason="needs ../shared/data/fiction beside the repository")
def test_real_collections_that_share_tales_are_linked() -> None:
    """The data's own README warns of this pair of collections."""
    paths = [
        FICTION / "children_fairy" / "Various__The_Blue_Fairy_Book.txt",
        FICTION / "modern_simple" / "fairytaleqa_stories.txt",
        FICTION / "adventure_classic" / "Jack_London__The_Call_of_the_Wild.txt",
    ]
    snippets = [w for document in read_texts(paths) for w in windows(document)]
    linked = linked_sources(snippets)
    blue = linked["children_fairy/Various__The_Blue_Fairy_Book.txt"]
    assert sum(group == blue for group in linked.values()) >= 3
    london = "adventure_classic/Jack_London__The_Call_of_the_Wild.txt"
    assert [source for source, group in linked.items() if group == linked[london]] == [london]
    assert np.mean([group == blue for group in linked.values()]) < 0.5
