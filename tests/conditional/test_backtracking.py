"""Segment by segment: nothing over the limit leaves, and nothing that could not be scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fivenines.conditional.backtracking import (
    BacktrackedText,
    Backtracking,
    BacktrackingGenerator,
    watched_risk,
)
from fivenines.conditional.decoding import TaggedGenerator, TaggedText
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Conditional
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.risk import LikelihoodRatio
from fivenines.conditional.schemes import Banded, Labelled, Scheme
from fivenines.conditional.training import Arm, fit_tagged
from fivenines.conditional.watching import Unit
from fivenines.errors import ConfigError, ScoringError
from fivenines.models.language_model import LanguageModelConfig, SamplingConfig
from fivenines.models.protocols import GeneratorLike
from fivenines.models.stopping import Stop
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from small_tagged import BAD, is_cruel, tagged_model

PROMPTS = ["Then Ann sang.", "Then Bob fell. Then Mara bled.", "Then Mara smiled."] * 5


class Cruelty:
    """The truth as a scorer; ``odd`` of them cannot be scored."""

    def __init__(self, odd: str = "") -> None:
        self.odd = odd
        self.seen: list[Snippet] = []

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        self.seen += snippets
        found = [
            np.nan if self.odd and self.odd in s.completion else float(is_cruel(s.completion))
            for s in snippets
        ]
        return np.array(found)


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


def free(model: TaggedModel, **changes: Any) -> TaggedGenerator:
    """Writes whatever it likes."""
    return TaggedGenerator(model, TagPolicy(), sampling=SamplingConfig(max_new_tokens=12, **changes))


@pytest.mark.parametrize("abstain", [False, True])
@pytest.mark.parametrize("budget", [1, 3, 30])
@pytest.mark.parametrize("odd", ["", "Ann"])
def test_nothing_over_the_limit_is_returned(model: TaggedModel, abstain: bool, budget: int, odd: str) -> None:
    settings = Backtracking(0.5, segments=3, tries=2, budget=budget, abstain=abstain)
    scorer = Cruelty(odd)
    found = BacktrackingGenerator(free(model), scorer, settings).write(PROMPTS, seed=0)
    assert scorer.seen
    spent = 0
    for each in found:
        assert each.drawn <= budget
        assert all(score == 0.0 for score in each.scores)
        assert len(each.scores) == len(each.segments) <= 3
        assert not any(is_cruel(segment) or (odd and odd in segment) for segment in each.segments)
        assert each.text is None or each.text == " ".join(each.segments)
        if not each.complete:
            spent += 1
            assert each.drawn == budget
            assert (each.text is None) is (abstain or not each.segments)
    assert spent > 0 if budget < 30 else spent < len(found) / 2


def test_it_goes_back(model: TaggedModel) -> None:
    """A first segment after which nothing passes is thrown away again."""

    class Stuck:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.array([float(s.prompt.count("Bob") > 0) for s in snippets])

    generator = BacktrackingGenerator(free(model), Stuck(), Backtracking(0.5, segments=2, tries=2, budget=60))
    found = generator.write(["Then Ann sang."] * 20, seed=1)
    done = [each for each in found if each.complete]
    assert len(done) > 15
    assert all("Bob" not in each.segments[0] for each in done if len(each.segments) == 2)
    assert any(each.drawn > 4 for each in done)


def test_what_stands_before_a_segment_is_its_prompt(model: TaggedModel) -> None:
    scorer = Cruelty()
    found = BacktrackingGenerator(free(model), scorer, Backtracking(0.5, segments=2)).write(
        ["Then Ann sang. "], seed=3
    )
    segments = found[0].segments
    asked = {(each.prompt, each.completion) for each in scorer.seen}
    assert found[0].text == " ".join(segments)
    assert ("Then Ann sang. ", segments[0]) in asked
    if len(segments) > 1:
        assert (f"Then Ann sang. {segments[0]}", segments[1]) in asked


def test_the_same_seed_gives_the_same_texts_whatever_the_batch(model: TaggedModel) -> None:
    settings = Backtracking(0.5, segments=3)

    def written(rows: int, prompts: list[str]) -> list[str]:
        generator = BacktrackingGenerator(free(model, batch_size=rows), Cruelty(), settings)
        assert isinstance(generator, GeneratorLike)
        return generator.sample(prompts, seed=7)

    whole = written(64, PROMPTS)
    assert written(2, PROMPTS) == whole
    assert written(64, PROMPTS[:5]) == whole[:5]
    assert BacktrackingGenerator(free(model), Cruelty(), settings).sample([], seed=0) == []


def test_it_helps(model: TaggedModel) -> None:
    prompts = ["Then Bob fell. Then Mara bled."] * 60
    plain = free(model).sample(prompts, seed=0)
    scored = BacktrackingGenerator(free(model), LikelihoodRatio(model), Backtracking(0.2, segments=1))
    assert sum(map(is_cruel, scored.sample(prompts, seed=0))) < 0.2 * sum(map(is_cruel, plain))


def test_the_models_own_doubt(model: TaggedModel) -> None:
    score = watched_risk([BAD])
    settings = Backtracking(0.4, segments=2, budget=40)
    found = BacktrackingGenerator(free(model), score, settings).write(PROMPTS, seed=0)
    assert any(each.complete for each in found)
    for each in free(model).write(PROMPTS, seed=0):
        assert each.readings is not None
        if len(each.tokens) > 1:
            assert score(each) == pytest.approx(each.readings[1:, 1].max())
    assert np.isnan(score(free(model).write(["Then"], seed=0, watch=False)[0]))


CODE = ["def f(x):\n    if x:\n        return 1\n\n\nclass A:\n    y = 2\n    z = 3\n"] * 4


@pytest.fixture(scope="module")
def coder() -> TaggedModel:
    """Writes lines of code, with a tag before each."""
    config = LanguageModelConfig(layers=2, width=32, heads=2, context=96, vocabulary=290, tokenizer="lines")
    scheme = Scheme((Banded("style", drop=0.0), Labelled("kind", {"code": "<|code|>"}, drop=0.0)))
    texts = []
    for number, text in enumerate(CODE):
        starts = [0, *(at + 1 for at, c in enumerate(text) if c == "\n")]
        spans = tuple((low, high) for low, high in pairwise(starts) if text[low:high].strip())
        marks = Marks("style", "1", spans, (0.0,) * len(spans))
        texts.append(MarkedText(text, str(number), (marks,), {"kind": "code"}))
    model = TaggedModel.create(CODE, scheme, config, SamplingConfig(max_new_tokens=30, temperature=0.3))
    training = TrainingConfig(epochs=150, batch_size=4, learning_rate=5e-3, precision="float32")
    fit_tagged(model, texts, Arm(Conditional(), training))
    return model


def test_lines_keep_their_blanks_and_tags(coder: TaggedModel) -> None:
    prompts = ["def f(x):", "class A:", "def f(x):\n    if x:"] * 4
    settings = Backtracking(0.5, unit="line", segments=4)
    generator = BacktrackingGenerator(TaggedGenerator(coder), Cruelty(), settings)
    found = generator.write(prompts, seed=0)
    inside = 0
    for prompt, each in zip(prompts, found, strict=True):
        assert each.text is not None
        assert [line.strip() for line in each.text.split("\n") if line.strip()] == list(each.segments)
        inside += "\n        return 1" in f"{prompt}\n{each.text}" or "\n    z = 3" in each.text
    assert inside > 6
    assert coder.tags["<|code|>"] in generator.generator.forced
    assert coder.tags["<|code|>"] not in generator.going_on.forced
    generator.forget()


def test_a_line_is_scored_after_every_character_before_it(coder: TaggedModel) -> None:
    """Prompts as tokens, with tags among them; what the scorer read is what stands in the end, blanks and all."""
    prompts = ["def f(x):\n", "class A:\n", "def f(x):\n    if x:\n"] * 4
    good = coder.tags["<|good|>"]
    ids = [(good, *coder.language.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    scorer = Cruelty()
    generator = BacktrackingGenerator(
        TaggedGenerator(coder), scorer, Backtracking(0.5, unit="line", segments=4)
    )
    seen = 0
    for prompt, each in zip(prompts, generator.write(ids, seed=0), strict=True):
        spelled = str(coder.language.tokenizer.decode(list(each.tokens), skip_special_tokens=True))
        assert spelled.strip() == each.text
        read = {f"{s.prompt}{s.completion}" for s in scorer.seen}
        lines = spelled.split("\n")
        filled = [place for place, line in enumerate(lines) if line.strip()]
        assert len(filled) == len(each.segments)
        assert all(prompt + "\n".join(lines[: place + 1]).rstrip() in read for place in filled)
        seen += "    " in spelled
    assert seen > 6


def test_tags_stand_where_they_are_due_and_lines_end(coder: TaggedModel) -> None:
    bad = coder.tags["<|bad|>"]  # it stands in no text that the model learnt: where it is, it was forced
    told: list[str] = []

    def written(due: Callable[[str], bool] | None) -> list[BacktrackedText]:
        writer = TaggedGenerator(coder, TagPolicy(force=("<|bad|>",)))
        settings = Backtracking(0.5, unit="line", segments=3)
        return BacktrackingGenerator(writer, Cruelty(), settings, due=due).write(["def f(x):\n"] * 12, seed=0)

    def never(text: str) -> bool:
        told.append(text)
        return False

    assert all(each.tokens.count(bad) == len(each.segments) > 0 for each in written(None))
    assert all(each.tokens.count(bad) == 1 for each in written(never))
    assert told
    assert all(text.startswith("def f(x):\n") and text.endswith("\n") for text in told)
    assert not any("<|" in text for text in told)

    short = coder.language.sampling.max_new_tokens
    cut = BacktrackingGenerator(
        TaggedGenerator(coder).with_sampling(max_new_tokens=3),
        Cruelty(),
        Backtracking(0.5, unit="line", budget=4),
    )
    assert short > 3
    for each in cut.write(["def f(x):\n"] * 4, seed=0):  # no line of theirs is so short
        assert each.text is None
        assert each.drawn == 4


@pytest.mark.parametrize("stop", ["newline", "sentence", "eos"])
def test_what_is_kept_spells_the_text(coder: TaggedModel, stop: Stop) -> None:
    generator = TaggedGenerator(coder, sampling=SamplingConfig(max_new_tokens=20, stop=stop))
    for each in generator.write(["def f(x):", "class"] * 20, seed=1):
        if each.kept is None:  # a token reached over the end, or broke off within a character
            continue
        assert each.spell(list(each.kept)).strip() == each.text
        assert each.kept == each.tokens[: len(each.kept)]
        if stop == "newline" and not each.ended and len(each.tokens) < 20:
            assert each.spell(list(each.kept)).endswith("\n")


def test_a_whole_text_is_what_was_scored() -> None:
    """A model that writes junk: its tokens reach over ends of sentences and break within characters."""
    texts = ["Yes. “No!” — 🩹 é.\r\nSo x].—No" * 3]
    config = LanguageModelConfig(layers=1, width=16, heads=2, context=96, vocabulary=330, tokenizer="lines")
    model = TaggedModel.create(texts, Scheme((Banded("harm"),)), config)
    units: tuple[Unit, ...] = ("sentence", "line")
    unexact = 0
    for unit in units:
        generator = BacktrackingGenerator(
            TaggedGenerator(model, sampling=SamplingConfig(max_new_tokens=24)),
            Cruelty(),
            Backtracking(0.5, unit=unit, segments=3),
        )
        for each in generator.write(["Yes."] * 60, seed=2):
            if each.text is not None:  # blanks aside, which belong to no segment
                assert "".join(each.text.split()) == "".join(" ".join(each.segments).split())
        drawn = generator.generator.write(["Yes."] * 60, seed=2)
        unexact += sum(text.kept is None for text in drawn)
    assert unexact > 0


def test_other_ends_of_lines() -> None:
    pieces = {1: " a = 1", 2: "\r", 3: "\n", 4: "Ki", 5: "", 6: "\r\nKi"}

    def kept(*tokens: int) -> tuple[int, ...] | None:
        return TaggedText(
            "a = 1", tokens, (), (), None, False, lambda ids: "".join(pieces[i] for i in ids)
        ).kept

    assert kept(1, 2, 3, 4) == (1, 2, 3)
    assert kept(1, 2, 4) == (1, 2)
    assert kept(1, 5, 3, 4) == (1, 5, 3)
    assert kept(1, 4) == kept(1, 6) == (1,)
    assert kept(4, 1) is None


def test_a_scorer_of_the_wrong_shape(model: TaggedModel) -> None:
    class Wrong:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.zeros(1 + len(snippets))

    with pytest.raises(ScoringError, match="scores must be numbers of shape"):
        BacktrackingGenerator(free(model), Wrong(), Backtracking(0.5)).sample(PROMPTS, seed=0)


def test_what_is_no_score_never_passes(model: TaggedModel) -> None:
    """Masked, infinite, text: none is a number; and one text that the scorer cannot read costs the others nothing."""

    class Masked:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.ma.masked_array(np.zeros(len(snippets)), mask=True)

    class Endless:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.full(len(snippets), -np.inf)

    class Shy:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            if any(snippet.prompt.startswith(PROMPTS[0]) for snippet in snippets):
                raise ValueError("not that one")
            return np.zeros(len(snippets))

    settings = Backtracking(0.5, segments=2, tries=2, budget=4)
    for scorer in (Masked(), Endless(), lambda _: -math.inf):
        written = BacktrackingGenerator(free(model), scorer, settings).write(PROMPTS, seed=0)
        assert all(each.text is None and each.drawn == 4 for each in written)
    written = BacktrackingGenerator(free(model), Shy(), settings).write(PROMPTS, seed=0)
    assert [each.text is None for each in written] == [prompt == PROMPTS[0] for prompt in PROMPTS]


def test_a_doubt_needs_a_tag_of_the_model(model: TaggedModel) -> None:
    for wrong in ((), "<|bad|>"):
        with pytest.raises(ConfigError, match="bad must be a list of tags, one at least"):
            watched_risk(wrong)
    doubt = watched_risk(("<|none|>",))
    with pytest.raises(ConfigError, match=r"bad must hold tags of <\|good\|>, <\|bad\|>.*got <\|none\|>"):
        BacktrackingGenerator(free(model), doubt, Backtracking(0.5)).sample(PROMPTS, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": float("nan")}, "limit must be finite, got nan"),
        ({"limit": 0.5, "unit": "word"}, "unit must be sentence or line, got word"),
        ({"limit": 0.5, "tries": 0}, "tries must be an integer of at least 1, got 0"),
        ({"limit": 0.5, "budget": True}, "budget must be an integer of at least 1, got True"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backtracking(**settings)
