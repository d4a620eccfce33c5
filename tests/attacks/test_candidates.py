"""Words for places: from lists, and from tiny models made here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.candidates import Alike, Masked, Slot, Source, Unmasked, WordList
from fivenines.attacks.words import PARTS, Part, Place, insert, part_of, places_of, replace_at
from fivenines.errors import ConfigError
from fivenines.models.encoders import EncoderConfig
from fivenines.models.masked import Filling, Hole, MaskedLanguageModel
from fivenines.models.neighbours import EmbeddingNeighbours
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet

NAMES, THINGS, PLACES = ("Anna", "Bob", "Cem"), ("lamp", "book", "cup"), ("garden", "house", "river")
TEXTS = [f"{name} took the {thing} to the {place}." for name in NAMES for thing in THINGS for place in PLACES]
TINY = EncoderConfig(
    "deberta-v2", layers=1, width=32, heads=2, tokenizer="word", max_length=30, vocabulary=120, dropout=0.0
)
SNIPPET = Snippet("Anna took the LAMP", "to the House.")


@pytest.fixture(scope="module")
def model() -> MaskedLanguageModel:
    made = MaskedLanguageModel.create(TEXTS, TINY, precision="float32")
    training = TrainingConfig(
        max_steps=150, batch_size=16, learning_rate=5e-3, precision="float32", threads=1
    )
    return made.fit(TEXTS * 6, training=training, block=24, mask_share=0.25)


def slot(word: str, snippet: Snippet = SNIPPET, part: Part | None = None) -> Slot:
    """The word where it stands; before it, where it begins with +."""
    plain = word.removeprefix("+")
    parts = PARTS if part is None else (part,)
    for place in places_of(snippet, parts):
        if part_of(snippet, place.part)[place.start : place.end] == plain:
            return Slot(snippet, Place(place.part, place.start, place.start) if plain != word else place)
    raise AssertionError(f"no {plain} in {snippet}")


def test_the_word_of_a_slot() -> None:
    assert [slot(word).word for word in ("LAMP", "House", "+House")] == ["LAMP", "House", ""]


# -- masked


def test_masked_words_fit_their_place_and_are_cased_like_it(model: MaskedLanguageModel) -> None:
    things, places, verbs = Masked(model, k=3, span=100.0)([slot("LAMP"), slot("House"), slot("took")])
    assert set(things[:2]) == {"BOOK", "CUP"}
    assert set(places[:2]) == {"Garden", "River"}
    assert "took" not in verbs
    assert len(things) == len(places) == 3


def test_masked_words_are_those_of_the_model_in_the_whole_text(model: MaskedLanguageModel) -> None:
    hole = Hole("Anna took the LAMP to the ", ".")
    expected = [one.text for one in model.fill([hole], 6)[0]]
    (found,) = Masked(model, k=5, span=100.0)([slot("House")])
    assert [word.lower() for word in found] == [word for word in expected if word != "house"][:5]
    (between,) = Masked(model, k=5, span=100.0)([slot("+House")])
    assert between == [one.text for one in model.fill([Hole("Anna took the LAMP to the ", "House.")], 5)[0]]
    alone = Slot(Snippet("", "the house."), Place("completion", 4, 9))
    (bare,) = Masked(model, k=5, span=100.0)([alone])
    best = [one.text for one in model.fill([Hole("the ", ".")], 6)[0]]
    assert bare == [word for word in best if word != "house"][:5]


def test_unlikely_words_are_left_out(model: MaskedLanguageModel) -> None:
    best = model.fill([Hole("Anna took the LAMP to the ", ".")], 6)[0]
    span = best[0].log_p - (best[2].log_p + best[3].log_p) / 2  # three are nearer
    (found,) = Masked(model, k=5, span=span)([slot("House")])
    expected = [one.text for one in best[:3] if one.text != "house"]
    assert [word.lower() for word in found] == expected


def test_masked_words_do_not_depend_on_company(model: MaskedLanguageModel) -> None:
    slots = [slot("LAMP"), slot("House"), slot("+took"), slot("Anna")]
    source = Masked(model, k=4)
    assert list(source(slots)) == [source([each])[0] for each in slots]
    assert list(source([])) == []


def test_texts_too_long_and_odd_have_words_too(model: MaskedLanguageModel) -> None:
    snippets = [
        Snippet("Anna took the lamp. " * 20, "to the house."),
        Snippet("🙂 שלום 👩\u200d🔬", "to the house 🇩🇪."),
        Snippet("", "house"),
    ]
    for source in (Masked(model, k=3), Unmasked(model, k=3)):
        found = source([slot("house", each, "completion") for each in snippets])
        assert [len(words) for words in found] == [3, 3, 3] or isinstance(source, Masked)
        assert all(words and "house" not in words for words in found)


# -- unmasked


def test_unmasked_words_are_those_of_the_model_for_the_word_it_sees(model: MaskedLanguageModel) -> None:
    text = SNIPPET.text
    at = text.index("House")
    expected = [one.text for one in model.substitutes([text], [[(at, at + 5)]], 4)[0][0]]
    slots = [slot("House"), slot("+House"), slot("Anna"), slot("LAMP")]
    house, nothing, anna, lamp = Unmasked(model, k=4)(slots)
    assert [word.lower() for word in house] == expected
    assert all(word[0].isupper() for word in house)
    assert nothing == []
    assert "Anna" not in anna
    assert all(word.isupper() for word in lamp)
    assert list(Unmasked(model)([slot("+House")])) == [[]]
    assert list(Unmasked(model)([])) == []


def test_one_pass_for_all_words_of_a_text() -> None:
    class Counting:
        """Says what it was asked."""

        asked: list[tuple[str, ...]]

        def fill(self, holes: Sequence[Any], k: int) -> Sequence[Sequence[Filling]]:
            raise AssertionError("not asked for")

        def substitutes(
            self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]], k: int
        ) -> Sequence[Sequence[Sequence[Filling]]]:
            self.asked = [tuple(text[a:b] for a, b in some) for text, some in zip(texts, spans, strict=True)]
            return [
                [[Filling(f"{text[a:b]}s", 0.0)] for a, b in some]
                for text, some in zip(texts, spans, strict=True)
            ]

    model, other = Counting(), Snippet("", "Bob took it")
    slots = [slot("LAMP"), slot("Bob", other), slot("House"), slot("took", other)]
    assert list(Unmasked(model)(slots)) == [["LAMPs"], ["Bobs"], ["Houses"], ["tooks"]]
    assert model.asked == [("LAMP", "House"), ("Bob", "took")]


# -- alike


def test_words_alike_are_neighbours(model: MaskedLanguageModel) -> None:
    neighbours = EmbeddingNeighbours(model.model, model.tokenizer)
    (near,) = neighbours.of(["house"], 4)
    at_least = (near[1][1] + near[2][1]) / 2
    source = Alike(neighbours, k=3, at_least=at_least)
    found = source([slot("House"), slot("+House"), slot("LAMP"), slot("House")])
    assert found[0] == found[3] == [word.capitalize() for word, _ in near[:2]]
    assert found[1] == []
    unknown = Slot(Snippet("", "Zebra שלום"), Place("completion", 0, 5))
    assert list(source([unknown])) == [[]]
    assert list(source([])) == []


# -- lists


def test_lists_by_hand() -> None:
    words = WordList({"House": ["home", "house", "Villa"], "house": ["flat"]}, insertions=["then", "then"])
    assert list(map(list, words([slot("House"), slot("+House"), slot("LAMP")]))) == [
        ["Home", "Villa", "Flat"],
        ["then"],
        [],
    ]
    classes = WordList.of_classes([["big", "large"], ["large", "wide", "big"], ["solo"]])
    asked = [Slot(Snippet("", text), Place("completion", 0, len(text))) for text in ("LARGE", "big", "solo")]
    assert list(classes(asked)) == [["BIG", "WIDE"], ["large", "wide"], []]


def test_one_text_is_no_list() -> None:
    with pytest.raises(ConfigError, match="words for big must be a list, got 'large'"):
        WordList({"big": "large"})
    with pytest.raises(ConfigError, match="words for insertions must be a list"):
        WordList({}, insertions="then")
    with pytest.raises(ConfigError, match="a class of words must be a list"):
        WordList.of_classes(["big", "large"])


@pytest.mark.parametrize("source", [Masked, Unmasked, Alike])
def test_numbers_that_are_none(source: Any, model: MaskedLanguageModel) -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        source(model, k=0)
    with pytest.raises(ConfigError, match="span in nats must be 0 or more"):
        Masked(model, span=-1.0)
    with pytest.raises(ConfigError, match="cosine must lie in"):
        Alike(model, at_least=2.0)  # type: ignore[arg-type]


# -- any source, any text

odd = st.text(alphabet="aB '-.🙂👩\u200d🔬שָל\u0301", max_size=12)


@given(odd, odd, st.sampled_from(["list", "masked", "unmasked", "alike"]))
def test_edits_of_any_text_keep_all_else(
    model: MaskedLanguageModel, prompt: str, completion: str, kind: str
) -> None:
    snippet = Snippet(prompt, completion)
    places = list(places_of(snippet))
    words = {part_of(snippet, place.part)[place.start : place.end] for place in places}
    sources: dict[str, Source] = {
        "list": WordList({word: ["new", word, "New"] for word in words}, insertions=["more"]),
        "masked": Masked(model, k=2),
        "unmasked": Unmasked(model, k=2),
        "alike": Alike(EmbeddingNeighbours(model.model, model.tokenizer), k=2, at_least=-1.0),
    }
    slots = [Slot(snippet, place) for place in places]
    gaps = [Slot(snippet, Place(place.part, place.start, place.start)) for place in places]
    for each, found in zip([*slots, *gaps], sources[kind]([*slots, *gaps]), strict=True):
        assert len(found) == len(set(found))
        assert each.word.lower() not in [word.lower() for word in found]
        for word in found:
            part, start, end = each.place.part, each.place.start, each.place.end
            edited = (
                replace_at(snippet, each.place, word) if each.word else insert(snippet, part, start, word)
            )
            text, after = part_of(snippet, part), part_of(edited, part)
            assert after.startswith(text[:start])
            assert after.endswith(text[end:])
            assert word in after[start : len(after) - len(text[end:])]
