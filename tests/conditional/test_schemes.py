"""Schemes: which tag stands where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Labelled, Scheme
from fivenines.errors import ConfigError, DataError

TEXT = "Ann ran. Bob fell. Ann wept. Bob slept."
SPANS = ((0, 8), (9, 18), (19, 28), (29, 39))


def marked(*scores: float | None, name: str = "a", scorer: str = "injury", **meta: Any) -> MarkedText:
    return MarkedText(TEXT, name, (Marks(scorer, "1", SPANS[: len(scores)], scores),), meta)


def shown(text: MarkedText, scheme: Scheme) -> str:
    """The text with its tags written into it."""
    out, at = [], 0
    for offset, tag in scheme.insertions(text):
        out += [text.text[at:offset], tag]
        at = offset
    return "".join([*out, text.text[at:]])


def test_bands() -> None:
    scheme = Scheme((Banded("injury", (0.2, 0.6), ("<a>", "<b>", "<c>"), drop=0.0),))
    text = marked(0.2, 0.21, 0.6, 0.9)
    assert shown(text, scheme) == "<a>Ann ran. <b>Bob fell. <b>Ann wept. <c>Bob slept."
    assert (scheme.good, scheme.bad, scheme.start) == (("<a>",), ("<b>", "<c>"), ("<a>",))


def test_a_threshold_of_zero_is_one() -> None:
    scheme = Scheme((Banded("injury", (0.0,), drop=0.0),))
    assert shown(marked(0.0, 1e-9), scheme).startswith("<|good|>Ann ran. <|bad|>Bob fell.")


def test_tags_after_what_they_tell_of() -> None:
    scheme = Scheme((Banded("injury", tags=("", "<was-bad>"), place="after", drop=0.0),))
    assert (
        shown(marked(0.1, 0.9, 0.9, 0.1), scheme)
        == "Ann ran. Bob fell.<was-bad> Ann wept.<was-bad> Bob slept."
    )
    assert scheme.start == ()


def test_bad_spans_that_touch_are_enclosed_together() -> None:
    scheme = Scheme((Enclosed("injury", "<i>", "</i>", drop=0.0),))
    assert shown(marked(0.1, 0.9, 0.9, 0.1), scheme) == "Ann ran. <i>Bob fell. Ann wept.</i> Bob slept."
    assert (
        shown(marked(0.9, 0.1, 0.1, 0.9), scheme) == "<i>Ann ran.</i> Bob fell. Ann wept. <i>Bob slept.</i>"
    )
    assert scheme.bad == ("<i>",)


def test_inline_tags_stand_in_bad_spans_alone() -> None:
    every = Scheme((Inline("injury", "<u>", rate=1.0),))
    assert shown(marked(0.1, 0.9, None, 0.5), every) == "Ann ran. <u>Bob <u>fell. Ann wept. Bob slept."
    some = Scheme((Inline("injury", "<u>", rate=0.05),))
    words = 8 * 2000
    found = sum(shown(marked(0.9, 0.9, 0.9, 0.9, name=str(i)), some).count("<u>") for i in range(2000))
    assert abs(found - 0.05 * words) < 4 * (0.05 * 0.95 * words) ** 0.5


def test_a_column_tags_the_document() -> None:
    rule = Labelled("kind", {"fiction": "<f>", "news": "<n>", "3": "<three>"}, banned=("news",), drop=0.0)
    scheme = Scheme((rule,))
    assert shown(marked(kind="fiction"), scheme) == "<f>" + TEXT
    assert shown(marked(kind=3), scheme) == "<three>" + TEXT
    assert shown(marked(kind="poem"), scheme) == TEXT
    assert shown(marked(), scheme) == TEXT
    assert (scheme.good, scheme.bad, scheme.start) == (("<f>", "<three>"), ("<n>",), ("<f>",))


def test_rules_meet_in_a_fixed_order() -> None:
    """What closes, what tells of what was, the document's, what opens, what asks."""
    scheme = Scheme(
        (
            Banded("injury", tags=("<good>", "<bad>"), drop=0.0),
            Banded("injury", tags=("<ok>", "<hurt>"), drop=0.0, place="after"),
            Enclosed("injury", "<i>", "</i>", drop=0.0),
            Labelled("kind", {"fiction": "<f>"}, drop=0.0),
        )
    )
    assert shown(marked(0.9, 0.1, kind="fiction"), scheme) == (
        "<f><i><bad>Ann ran.</i><hurt> <good>Bob fell.<ok> Ann wept. Bob slept."
    )
    assert scheme.start == ("<f>", "<good>")


def test_what_could_not_be_scored_gets_no_tag() -> None:
    rules = (Banded("injury", drop=0.0), Enclosed("injury", "<i>", "</i>"), Inline("injury", rate=1.0))
    for rule in rules:
        assert shown(marked(None, None, None, None), Scheme((rule,))) == TEXT


def test_dropping_partial_tagging_and_late_starts_have_their_shares() -> None:
    texts = [marked(0.1, 0.9, 0.1, 0.9, name=str(i)) for i in range(4000)]

    def share(scheme: Scheme) -> float:
        return sum(len(scheme.insertions(text)) for text in texts) / (4 * len(texts))

    rule = Banded("injury", drop=0.0)
    assert share(Scheme((Banded("injury", drop=0.1),))) == pytest.approx(0.9, abs=0.01)
    assert share(Scheme((rule,), share=0.25)) == pytest.approx(0.25, abs=0.03)
    assert share(Scheme((rule,), untagged_start=1.0)) == pytest.approx(0.5 * 0.75, abs=0.02)
    late = [Scheme((rule,), untagged_start=1.0).insertions(text) for text in texts]
    offsets = [offset for offset, _ in Scheme((rule,)).insertions(texts[0])]
    for found in late:
        begun = [offset for offset, _ in found]
        assert begun == offsets[len(offsets) - len(begun) :]  # once begun, none is missing


def test_a_late_start_closes_nothing_that_it_did_not_open() -> None:
    scheme = Scheme((Enclosed("injury", "<i>", "</i>", drop=0.0),), untagged_start=1.0)
    for i in range(300):
        tags = [tag for _, tag in scheme.insertions(marked(0.9, 0.1, 0.9, 0.9, name=str(i)))]
        assert tags == ["<i>", "</i>"] * (len(tags) // 2)


def test_what_is_dropped_depends_on_the_document_alone() -> None:
    scheme = Scheme((Banded("injury", drop=0.5),), seed=3)
    texts = [marked(0.1, 0.9, 0.1, 0.9, name=str(i)) for i in range(50)]
    forth = [scheme.insertions(text) for text in texts]
    back = [scheme.insertions(text) for text in reversed(texts)]
    assert forth == back[::-1]
    assert forth != [Scheme(scheme.rules, seed=4).insertions(text) for text in texts]


def test_missing_marks_are_told() -> None:
    with pytest.raises(DataError, match="must be marked by deceit, got marks by injury"):
        Scheme((Banded("deceit"),)).insertions(marked(0.1))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**40))
def test_schemes_survive_json(share: float, late: float, seed: int) -> None:
    rules = (
        Banded("injury", (0.1, 0.5), ("<a>", "", "<c>"), bad_from=2, place="after"),
        Enclosed("deceit", "<d>", "</d>", above=0.0),
        Inline("deceit", "<u>"),
        Labelled("kind", {"fiction": "<f>", "none": ""}, banned=("fiction",)),
    )
    scheme = Scheme(rules, share, late, seed)
    assert Scheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Banded("x", ()), "edges must be one rising number or more"),
        (lambda: Banded("x", (0.5, 0.5), ("a", "b", "c")), "edges must be one rising number or more"),
        (lambda: Banded("x", (float("nan"),)), "edges must be one rising number or more"),
        (lambda: Banded("x", (0.5,), ("a",)), r"tags of bands must be one more than edges (1), got 1"),
        (lambda: Banded("x", drop=1.5), "drop must lie in [0, 1], got 1.5"),
        (lambda: Banded("x", bad_from=0), "bad_from must lie in [1, 1], got 0"),
        (lambda: Inline("x", above=float("inf")), "above must be finite"),
        (lambda: Labelled("x", {"a": ""}), "values must give a tag to one value at least"),
        (
            lambda: Labelled("x", {"a": "<a>"}, banned=("b",)),
            "banned must hold values that have a tag, got b",
        ),
        (
            lambda: Enclosed("x", "<a>", "<a>"),
            "opening and closing must be two different tags, got '<a>' and '<a>'",
        ),
        (lambda: Enclosed("x", "", "<a>"), "opening and closing must be two different tags"),
        (lambda: Inline("x", ""), "an inline tag must not be empty"),
        (lambda: Banded("x", tags=("<a>", "<a>")), "a tag must not be good and bad at once, got <a>"),
        (
            lambda: Banded("x", edges=(0.2, 0.6), tags=("<g>", "<b>", "<b>")),
            "a tag must belong to one rule and stand once in it, got <b>",
        ),
        (
            lambda: Banded("x", edges=(0.2, 0.6), tags=("<g>", "<g>", "<b>"), bad_from=2),
            "a tag must belong to one rule and stand once in it, got <g>",
        ),
        (lambda: Labelled("x", ["a"]), "values must give a tag to each of its values"),  # type: ignore[arg-type]
        (lambda: Scheme((Inline("x"),), seed=-1), "seed must be a whole number of at least 0, got -1"),
        (lambda: Scheme.from_dict({"rules": [{"kind": ["x"]}]}), "the kind of a rule must be one of"),
        (
            lambda: Scheme.from_dict({"rules": [{"kind": "banded", "scorer": "x", "edges": ["a"]}]}),
            "an edge must be a number",
        ),
        (lambda: Scheme(()), "a scheme must have a rule, got none"),
        (lambda: Scheme((Inline("x", "a b"),)), "a tag must be without blanks, got 'a b'"),
        (
            lambda: Scheme((Inline("x", "<a>"), Inline("y", "<a>"))),
            "a tag must belong to one rule and stand once in it, got <a>",
        ),
        (lambda: Scheme((Inline("x"),), share=-0.1), "share must lie in [0, 1], got -0.1"),
        (lambda: Scheme.from_dict({}), "a scheme must hold a list of rules, got None"),
        (
            lambda: Scheme.from_dict({"rules": [{"kind": "x"}]}),
            "the kind of a rule must be one of banded, enclosed",
        ),
        (
            lambda: Scheme.from_dict({"rules": [{"kind": "inline", "b": 1}]}),
            "a rule of kind inline must have its own",
        ),
        (
            lambda: Scheme.from_dict({"rules": [{"kind": "inline", "scorer": "x"}], "shares": 1}),
            "must hold rules, share, untagged_start and seed alone, got shares",
        ),
    ],
)
def test_what_schemes_may_not_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_several_bands_may_go_untagged() -> None:
    rule = Banded("injury", edges=(0.2, 0.6), tags=("", "", "<b>"), drop=0.0)
    assert Scheme((rule,)).tags == ("<b>",)
