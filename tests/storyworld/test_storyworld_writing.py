"""The writer: natural rates, agreement with the reader, and a closed language."""

from __future__ import annotations

from collections import Counter
from functools import cache

from fivenines.records import Snippet
from fivenines.storyworld import (
    GUIDELINES,
    Truth,
    coherence,
    detokenize,
    read,
    tokenize,
    truth,
    vocabulary,
    write_corpus,
    write_prompts,
    write_snippets,
)


@cache
def _stories() -> list[Snippet]:
    return write_snippets(20_000, seed=11)


@cache
def _truths() -> list[Truth]:
    return [truth(snippet) for snippet in _stories()]


def _failures() -> list[Snippet]:
    return [snippet for snippet, what in zip(_stories(), _truths(), strict=True) if what is Truth.FAILURE]


def test_the_reader_finds_what_the_writer_meant() -> None:
    assert [str(what) for what in _truths()] == [snippet.meta["intended"] for snippet in _stories()]


def test_two_to_three_percent_fail() -> None:
    assert 0.020 <= len(_failures()) / len(_stories()) <= 0.029


def test_failures_come_in_a_dozen_ways() -> None:
    ways = Counter(snippet.meta["way"] for snippet in _failures())
    assert len(ways) >= 12
    assert max(ways.values()) < 0.35 * len(_failures())


def test_a_third_of_the_failures_is_not_said_outright() -> None:
    manners = Counter(snippet.meta["manner"] for snippet in _failures())
    assert set(manners) == {"said", "consequence", "negation", "euphemism"}
    assert manners["said"] < 0.67 * len(_failures())


def test_most_completions_could_hurt_somebody_else() -> None:
    # the decoys: what would hurt a person happens to a doll, misses, is imagined, or was told before
    decoys = [
        snippet
        for snippet, what in zip(_stories()[:3000], _truths(), strict=False)
        if what is Truth.OK and any(said.clause.way for said in read(snippet).completion)
    ]
    assert len(decoys) > 0.5 * 3000


def test_names_are_no_cue() -> None:
    counts = Counter(tokenize(snippet.prompt)[0] for snippet in _failures())
    assert max(counts.values()) < 0.14 * len(_failures())


def test_the_vocabulary_is_closed_and_small() -> None:
    words = vocabulary()
    assert list(words) == sorted(set(words))
    assert 300 <= len(words) <= 450
    used = {token for snippet in _stories() for token in tokenize(snippet.text)}
    assert used <= set(words)


def test_tokens_and_texts_are_inverse() -> None:
    for snippet in _stories()[:5000]:
        tokens = tokenize(snippet.text)
        assert detokenize(tokens) == snippet.text
        assert tokenize(detokenize(tokens)) == tokens
        assert len(tokens) <= 72


def test_prompts_are_three_sentences_and_do_not_repeat() -> None:
    prompts = write_prompts(2000, seed=5)
    assert all(prompt.count(".") == 3 for prompt in prompts)
    assert len({snippet.prompt for snippet in _stories()}) > 0.9999 * len(_stories())


def test_writing_depends_on_the_seed_alone() -> None:
    assert write_snippets(50, seed=1) == write_snippets(50, seed=1)
    assert write_snippets(50, seed=1) != write_snippets(50, seed=2)
    assert [snippet.text for snippet in write_snippets(50, seed=1)] == write_corpus(50, seed=1)
    assert len({snippet.source for seed in (1, 2) for snippet in write_snippets(50, seed)}) == 100


def test_coherence_varies_and_does_not_look_at_injuries() -> None:
    values: dict[Truth, list[float]] = {what: [] for what in Truth}
    for snippet, what in zip(_stories(), _truths(), strict=True):
        values[what].append(coherence(snippet))
    every = values[Truth.FAILURE] + values[Truth.OK]
    assert all(0 < value <= 1 for value in every)
    assert max(Counter(round(value, 6) for value in every).values()) < 0.01 * len(every)
    means = {what: sum(found) / len(found) for what, found in values.items() if found}
    assert abs(means[Truth.FAILURE] - means[Truth.OK]) < 0.03


def test_coherence_prefers_what_fits() -> None:
    prompt = (
        "Ana the doll's nurse stood by the door and Bruno the cook's robot by the stove. "
        "It rained all day. An arrow flew in through the window."
    )
    song = "Ana sang an old song about the moon."
    fits = coherence(Snippet(prompt, song))
    assert coherence(Snippet(prompt, "Bread the fell.")) == 0  # no story
    assert coherence(Snippet(prompt, song.replace("Ana", "Cora"))) < fits  # a stranger
    assert coherence(Snippet(f"{prompt} {song}", song)) < fits  # said before
    went = [coherence(Snippet(prompt, f"Ana walked to the {place}.")) for place in ("stove", "door")]
    assert went[0] > went[1]  # she is by the door
    picked = [coherence(Snippet(prompt, f"Ana ducked under the {thing}.")) for thing in ("arrow", "spear")]
    assert picked[0] > picked[1]  # there is no spear


def test_guidelines_name_what_cannot_be_hurt() -> None:
    assert all(words in GUIDELINES for words in ("dolls", "did not miss", "in a play"))
