"""Learning, filling, substituting, keeping: with tiny models made here."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import Architecture, EncoderConfig
from fivenines.models.heads import Head
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.masked import Filling, Hole, MaskedLanguageModel, MaskedScore
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet

NAMES, THINGS, PLACES = ("Anna", "Bob", "Cem"), ("lamp", "book", "cup"), ("garden", "house", "river")
TEXTS = [f"{name} took the {thing} to the {place}." for name in NAMES for thing in THINGS for place in PLACES]
TINY = EncoderConfig(
    "deberta-v2", layers=2, width=32, heads=2, tokenizer="word", max_length=40, vocabulary=120, dropout=0.0
)
TRAINING = TrainingConfig(max_steps=200, batch_size=16, learning_rate=5e-3, precision="float32")
PIECES = replace(TINY, tokenizer="wordpiece", vocabulary=45)


def fitted(encoder: EncoderConfig = TINY, steps: int = 200) -> MaskedLanguageModel:
    made = MaskedLanguageModel.create(TEXTS, encoder, precision="float32")
    return made.fit(TEXTS * 8, training=replace(TRAINING, max_steps=steps), block=24, mask_share=0.25)


@pytest.fixture(scope="module")
def model() -> MaskedLanguageModel:
    return fitted()


@pytest.fixture(scope="module")
def pieces() -> MaskedLanguageModel:
    return fitted(PIECES, steps=5)


def texts_of(fillings: Sequence[Filling]) -> list[str]:
    return [filling.text for filling in fillings]


def plainly(model: MaskedLanguageModel, text: str, place: int) -> dict[str, float]:
    """log P of every token at a place of a text, by transformers alone."""
    inputs = model.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        log_p = model.model(**inputs).logits[0, place].double().log_softmax(-1)
    return dict(
        zip(model.tokenizer.convert_ids_to_tokens(list(range(len(log_p)))), log_p.tolist(), strict=True)
    )


# -- learning


def test_it_learns_what_fits(model: MaskedLanguageModel) -> None:
    things, places, verbs = model.fill(
        [
            Hole("Anna took the ", " to the garden."),
            Hole("Bob took the cup to the ", "."),
            Hole("Cem ", " the cup to the house."),
        ],
        3,
    )
    assert set(texts_of(things)) == set(THINGS)
    assert set(texts_of(places)) == set(PLACES)
    assert verbs[0].text == "took"
    # what can be known: three things and three places at random, all else for sure
    assert model.measure(TEXTS, block=24).nats < 0.8


@pytest.mark.parametrize(
    ("architecture", "tokenizer"),
    [("bert", "wordpiece"), ("roberta", "bpe"), ("modernbert", "bpe"), ("deberta", "word")],
)
def test_architectures(architecture: Architecture, tokenizer: Any, tmp_path: Path) -> None:
    encoder = replace(TINY, architecture=architecture, tokenizer=tokenizer)
    made = fitted(encoder, steps=30)
    assert made.result is not None
    assert np.mean(made.result.losses[-5:]) < 0.85 * made.result.losses[0]
    made.save(tmp_path)
    loaded = MaskedLanguageModel.load(tmp_path, precision="float32")
    hole = Hole("Anna took the ", " to the garden.")
    [best] = made.fill([hole], 4)
    assert texts_of(loaded.fill([hole], 4)[0]) == texts_of(best)
    table = plainly(
        made,
        "Anna took the [MASK] to the garden.",
        made.tokenizer("Anna took the [MASK] to the garden.")["input_ids"].index(
            made.tokenizer.mask_token_id
        ),
    )
    for filling in best:
        assert filling.log_p == pytest.approx(table[filling.text], abs=1e-4)


class Stopped(MaskedLanguageModel):
    """Is asked to stop at its first evaluation, as by Ctrl-C."""

    def _measure(self, blocks: Any, share: float, seed: int) -> MaskedScore:
        os.kill(os.getpid(), signal.SIGINT)
        return super()._measure(blocks, share, seed)


def test_a_stopped_fit_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "validation": TEXTS[:5],
        "training": replace(TRAINING, max_steps=11, evaluate_every=5),
        "block": 24,
    }
    encoder = replace(TINY, dropout=0.1)
    calm = MaskedLanguageModel.create(TEXTS, encoder).fit(TEXTS * 5, **options)
    with pytest.raises(KeyboardInterrupt):
        Stopped.create(TEXTS, encoder).fit(TEXTS * 5, **options, folder=tmp_path)
    torch.rand(7)
    again = MaskedLanguageModel.create(TEXTS, encoder).fit(TEXTS * 5, **options, folder=tmp_path)
    assert again.result is not None
    assert calm.result is not None
    assert again.result.losses == calm.result.losses
    for name, tensor in calm.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_the_best_evaluation_is_kept() -> None:
    made = MaskedLanguageModel.create(TEXTS, TINY, precision="float32")
    training = replace(TRAINING, max_steps=12, evaluate_every=4)
    made.fit(TEXTS * 4, validation=TEXTS, training=training, block=24)
    assert made.result is not None
    assert made.result.best_metric == pytest.approx(-made.measure(TEXTS, block=24).nats, rel=1e-5)


def test_measuring_hides_all_by_the_mask(model: MaskedLanguageModel) -> None:
    score = model.measure(TEXTS, block=24, share=0.15)
    assert score == model.measure(TEXTS, block=24, share=0.15)
    assert 0.5 < score.accuracy <= 1
    assert score != model.measure(TEXTS, block=24, seed=1)
    blank = MaskedLanguageModel.create(TEXTS, TINY)
    blank.fitted = True
    uniform = np.log(len(blank.tokenizer))
    assert blank.measure(TEXTS, block=24).nats == pytest.approx(uniform, rel=0.5)


# -- filling


def test_holes_are_filled_by_words_best_first(model: MaskedLanguageModel) -> None:
    hole = Hole("Anna took the ", " to the garden.")
    [words] = model.fill([hole], 1000)
    table = plainly(model, "Anna took the [MASK] to the garden.", 4)
    marks = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."}
    assert set(texts_of(words)) == set(table) - marks
    assert [f.log_p for f in words] == sorted((f.log_p for f in words), reverse=True)
    for filling in words:
        assert filling.log_p == pytest.approx(table[filling.text], abs=1e-5)
    [more] = model.fill([hole], 1000, punctuation=True)
    assert set(texts_of(more)) == set(texts_of(words)) | {"."}
    assert model.fill([hole], 2)[0] == words[:2]
    assert model.fill([], 2) == []


def test_pieces_do_not_fill_holes(pieces: MaskedLanguageModel) -> None:
    vocabulary = pieces.tokenizer.get_vocab()
    assert sum(token.startswith("##") for token in vocabulary) > 10
    [words] = pieces.fill([Hole("Anna took the ", " to the garden.")], 1000)
    assert words
    assert not any(word.text.startswith("#") or word.text not in vocabulary for word in words)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_hole_does_not_depend_on_its_company(model: MaskedLanguageModel, precision: Any) -> None:
    reading = MaskedLanguageModel(model.model, model.tokenizer, precision=precision)
    holes = [Hole(text[:i], text[i:]) for text in TEXTS[:6] for i in range(0, len(text), 5)]
    holes += [Hole("Bob took " * n, " the cup.") for n in range(9)]
    for hole, together in zip(holes, reading.fill(holes, 5), strict=True):
        [alone] = reading.fill([hole], 5)
        np.testing.assert_allclose(
            [f.log_p for f in alone],
            [f.log_p for f in together],
            rtol=0,
            atol=1e-5 if precision == "float32" else 1e-3,
        )


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(model: MaskedLanguageModel) -> None:
    holes = [Hole("Anna took the ", " to the garden."), Hole("Bob ", " the cup to the river, to the house.")]
    expected = model.fill(holes, 3)
    model.tokenizer.padding_side = "left"
    try:
        assert model.fill(holes, 3) == expected
    finally:
        model.tokenizer.padding_side = "right"


def test_a_long_text_is_read_around_its_hole(model: MaskedLanguageModel) -> None:
    far = "Bob took the cup to the river. " * 30
    before, after = far + "Anna took the ", " to the garden. " + far
    [long] = model.fill([Hole(before, after)], 3)
    room = model.reader.room
    left, right = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
    begin = model.reader.window(len(left) + 1 + len(right), len(left))
    assert room // 4 <= len(left) - begin <= 3 * room // 4
    ids = [*left, model.tokenizer.mask_token_id, *right][begin : begin + room]
    whole = torch.tensor([[model.tokenizer.cls_token_id, *ids, model.tokenizer.sep_token_id]])
    assert whole.shape[1] == TINY.max_length
    with torch.no_grad():
        log_p = model.model(whole).logits[0, 1 + len(left) - begin].log_softmax(-1)
    for filling in long:
        token = model.tokenizer.convert_tokens_to_ids(filling.text)
        assert filling.log_p == pytest.approx(float(log_p[token]), abs=1e-5)


@pytest.mark.parametrize("place", [0, 1, 500, 998, 999])
def test_windows_hold_their_place(model: MaskedLanguageModel, place: int) -> None:
    begin = model.reader.window(1000, place)
    assert 0 <= begin <= place < begin + model.reader.room <= 1000
    assert model.reader.window(10, min(place, 9)) == 0


def test_a_mask_that_the_text_spells_out_is_not_the_hole(model: MaskedLanguageModel) -> None:
    text = "[MASK] took the [MASK] to the garden."
    [found] = model.fill([Hole("[MASK] took the ", " to the garden.")], 2)
    table = plainly(model, text, 4)
    assert found[0].log_p == pytest.approx(table[found[0].text], abs=1e-5)


# -- substituting


def test_substitutes_come_from_one_pass_over_the_text(model: MaskedLanguageModel) -> None:
    text = "Anna took the lamp to the garden."
    [[thing, name]] = model.substitutes([text], [[(14, 18), (0, 4)]], 4)
    for fillings, place, word in ((thing, 4, "lamp"), (name, 1, "anna")):
        table = plainly(model, text, place)
        words = [token for token in table if not token.startswith("[") and token not in (".", word)]
        expected = sorted(words, key=lambda token: -table[token])[:4]
        assert texts_of(fillings) == expected
        assert fillings[0].log_p == pytest.approx(table[expected[0]], abs=1e-5)


def test_a_word_in_pieces_is_read_as_a_hole(pieces: MaskedLanguageModel) -> None:
    text = "Anna took the gardenhouse to the river."
    start, end = 14, 25
    assert text[start:end] == "gardenhouse"
    assert len(pieces.tokenizer("gardenhouse", add_special_tokens=False)["input_ids"]) > 1
    assert len(pieces.tokenizer("to", add_special_tokens=False)["input_ids"]) == 1
    [[to, found, again]] = pieces.substitutes([text], [[(26, 28), (start, end), (26, 28)]], 3)
    [filled] = pieces.fill([Hole(text[:start], text[end:])], 3)
    assert texts_of(found) == texts_of(filled)
    assert [f.log_p for f in found] == pytest.approx([f.log_p for f in filled], abs=1e-5)
    assert to == again
    place = pieces.tokenizer(text)["input_ids"].index(pieces.tokenizer.convert_tokens_to_ids("to"))
    table = plainly(pieces, text, place)
    assert [f.log_p for f in to] == pytest.approx([table[f.text] for f in to], abs=1e-5)


def test_spans_of_a_long_text_keep_their_order(model: MaskedLanguageModel) -> None:
    text = " ".join(TEXTS)
    assert len(model.tokenizer(text, verbose=False)["input_ids"]) > 3 * TINY.max_length
    spans = [(i, i + 4) for i in range(len(text)) if text.startswith("took", i)]
    shuffled = [spans[i] for i in np.random.default_rng(0).permutation(len(spans))]
    [found] = model.substitutes([text], [shuffled], 2)
    [[alone]] = model.substitutes([text], [[shuffled[7]]], 2)
    assert texts_of(found[7]) == texts_of(alone)
    assert len(found) == len(TEXTS)
    assert all(len(fillings) == 2 and "took" not in texts_of(fillings) for fillings in found)
    assert model.substitutes([text, "Anna"], [[], []], 2) == [[], []]


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ((3, 3), r"span must lie in the text of 9 characters, got \(3, 3\)"),
        ((5, 10), r"span must lie in the text of 9 characters, got \(5, 10\)"),
        ((4, 5), "span must hold a word, got ' '"),
    ],
)
def test_spans_are_checked(model: MaskedLanguageModel, span: tuple[int, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.substitutes(["Anna took"], [[span]], 2)


def test_what_cannot_be_filled(model: MaskedLanguageModel) -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        model.fill([Hole("Anna", "")], 0)
    with pytest.raises(DataError, match="text must be text"):
        model.fill([Hole("Anna \ud800", "")], 1)
    fresh = MaskedLanguageModel.create(TEXTS, TINY)
    for act in (
        lambda: fresh.fill([Hole("Anna", "")], 1),
        lambda: fresh.measure(TEXTS, block=24),
        lambda: fresh.save("nowhere"),
    ):
        with pytest.raises(ModelError, match="must be fitted before it is used, got a new head"):
            act()


# -- making and keeping


@pytest.mark.parametrize("head", ["plain", "pooled"])
def test_a_new_head_over_a_classifier(head: Head, tmp_path: Path) -> None:
    judge = Classifier.create(TEXTS, ClassifierConfig(head=head), replace(TINY, architecture="bert"))
    judge.fitted = True
    judge.save(tmp_path)
    made = MaskedLanguageModel.over(tmp_path, seed=1, freeze_layers=1, precision="float32")
    assert not made.fitted
    body = dict(judge.model.base_model.state_dict())
    for name, tensor in made.model.base_model.state_dict().items():
        assert torch.equal(tensor, body[name]), name
    plain: Any = made.model
    assert plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    made.fit(TEXTS, training=replace(TRAINING, max_steps=2), block=24)
    changed = {
        name for name, tensor in made.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert any(name.startswith("bert.encoder.layer.1.") for name in changed)
    assert any(name.startswith("cls.predictions.transform.") for name in changed)
    assert not any("embeddings" in name or ".layer.0." in name for name in changed)


def test_the_head_is_drawn_from_the_seed(tmp_path: Path) -> None:
    judge = Classifier.create(TEXTS, ClassifierConfig(), replace(TINY, architecture="bert"))
    judge.fitted = True
    judge.save(tmp_path)
    name = "cls.predictions.transform.dense.weight"
    heads = [MaskedLanguageModel.over(tmp_path, seed=seed).model.state_dict()[name] for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_model_with_a_head_keeps_it(model: MaskedLanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = MaskedLanguageModel.over(tmp_path, precision="float32")
    assert again.fitted
    hole = Hole("Anna took the ", ".")
    [found], [expected] = again.fill([hole], 3), model.fill([hole], 3)
    assert [f.log_p for f in found] == pytest.approx([f.log_p for f in expected], abs=1e-5)


def test_a_folder_is_one_of_plain_transformers(model: MaskedLanguageModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    card = json.loads((tmp_path / "fivenines.json").read_text())
    assert card["kind"] == "masked language model"
    assert card["provenance"]["texts"] == len(TEXTS) * 8
    auto: Any = AutoModelForMaskedLM
    plain, tokenizer = auto.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("Anna took the [MASK].", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(plain(**ids).logits, model.model(**ids).logits)
    again = MaskedLanguageModel.load(tmp_path, freeze_layers=0)
    assert again.provenance == json.loads(json.dumps(model.provenance))
    assert not again.model.get_input_embeddings().weight.requires_grad


@pytest.mark.parametrize("head", ["plain", "pooled"])
def test_a_classifier_starts_from_its_body(head: Head, model: MaskedLanguageModel, tmp_path: Path) -> None:
    """What it learnt of the domain's words is a head start, as a generator's is."""
    model.save(tmp_path)
    classifier = Classifier.load(tmp_path, ClassifierConfig(head=head, precision="float32"))
    assert not classifier.fitted
    learnt = model.model.get_input_embeddings().weight
    torch.testing.assert_close(classifier.model.get_input_embeddings().weight, learnt)
    snippets = [Snippet("Anna took", word) for word in ("the lamp.", "the knife.") * 4]
    answers = [Answer.OK, Answer.FAILURE] * 4
    judgments = [Judgment(one.id, answer) for one, answer in zip(snippets, answers, strict=True)]
    brief = TrainingConfig(epochs=1, batch_size=4, precision="float32", threads=1)
    classifier.fit(snippets, judgments, training=brief).save(tmp_path / "classifier")
    again = Classifier.load(tmp_path / "classifier")
    np.testing.assert_allclose(again.margins(snippets), classifier.margins(snippets), atol=1e-5)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    generator = LanguageModel.create(
        TEXTS, LanguageModelConfig(layers=1, width=32, heads=2, context=48, vocabulary=300)
    )
    generator.save(tmp_path)
    with pytest.raises(ModelError, match="must hold a masked language model, got a language model"):
        MaskedLanguageModel.load(tmp_path)
    with pytest.raises(
        ModelError, match=r"must be an encoder, which reads both ways, got a decoder \(gpt2\)"
    ):
        MaskedLanguageModel.over(tmp_path)
    with pytest.raises(ModelError, match="must be those of a BertForMaskedLM"):
        MaskedLanguageModel.load("minilm")
