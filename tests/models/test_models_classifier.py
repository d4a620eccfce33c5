"""Architectures, reading, learning, keeping: on tiny random models made here, and on a real one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from fivenines.errors import ConfigError, DataError, LabelError, ModelError, NotEnoughDataError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.folder import CARD
from fivenines.models.heads import Head, reads_left_to_right
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.objective import Objective, lesson_of
from fivenines.models.protocols import ClassifierLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Severity, Snippet

WORDS = [
    "the",
    "a",
    "dog",
    "cat",
    "bird",
    "house",
    "sat",
    "ran",
    "saw",
    "big",
    "small",
    "red",
    "blue",
    "garden",
    "and",
    "then",
    "over",
    "under",
]
TRAINING = TrainingConfig(epochs=12, learning_rate=3e-3, batch_size=16, precision="float32", threads=1)
TINY = EncoderConfig(layers=1, width=32, heads=2, tokenizer="word", max_length=40, dropout=0.0)
READING = ClassifierConfig(precision="float32")


def task(n: int, seed: int = 0) -> tuple[list[Snippet], list[Judgment]]:
    """A quarter of the completions holds "bled": failures."""
    rng = np.random.default_rng(seed)
    snippets, judgments = [], []
    for i in range(n):
        prompt = list(rng.choice(WORDS, rng.integers(4, 16)))
        completion = list(rng.choice(WORDS, rng.integers(3, 9)))
        if i % 4 == 0:
            completion.insert(1, "bled")
        snippets.append(Snippet(" ".join(prompt), " ".join(completion)))
        judgments.append(Judgment(snippets[-1].id, Answer.FAILURE if i % 4 == 0 else Answer.OK))
    return snippets, judgments


def fitted(
    config: ClassifierConfig = READING, encoder: EncoderConfig = TINY, training: TrainingConfig = TRAINING
) -> Classifier:
    snippets, judgments = task(96)
    made = Classifier.create([s.text for s in snippets], config, encoder)
    return made.fit(snippets, judgments, training=training)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return fitted()


@pytest.mark.parametrize(
    ("architecture", "tokenizer"),
    [
        ("bert", "wordpiece"),
        ("roberta", "bpe"),
        ("modernbert", "bpe"),
        ("deberta", "word"),
        ("deberta-v2", "wordpiece"),
    ],
)
def test_architectures(architecture: Any, tokenizer: Any, tmp_path: Path) -> None:
    encoder = replace(TINY, architecture=architecture, tokenizer=tokenizer, vocabulary=120, layers=2)
    made = fitted(encoder=encoder, training=replace(TRAINING, epochs=24))
    assert made.result is not None
    assert np.mean(made.result.losses[-5:]) < 0.5 * made.result.losses[0]
    snippets, judgments = task(60, seed=1)
    scores = made.scores(snippets)
    assert roc_auc_score([j.answer == Answer.FAILURE for j in judgments], scores) > 0.95

    made.calibrate(snippets, judgments).save(tmp_path)
    loaded = Classifier.load(tmp_path)
    long = [Snippet(" ".join(WORDS * 20), "the dog bled"), Snippet("", "the dog bled")]
    both = snippets + long
    np.testing.assert_allclose(loaded.scores(both), made.scores(both), rtol=0, atol=1e-6)
    # and by plain transformers, which knows nothing of us
    model: Any = AutoModelForSequenceClassification
    plain, reader = model.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    pair = reader([long[0].prompt], [long[0].completion], truncation="only_first", return_tensors="pt")
    assert pair["input_ids"].shape == (1, TINY.max_length)
    with torch.no_grad():
        logits = plain.eval()(**pair).logits[0]
    assert float(logits[1] - logits[0]) == pytest.approx(loaded.margins(long)[0], abs=1e-4)
    assert plain.config.id2label == {0: "ok", 1: "failure"}


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_a_classifier_that_starts_from_a_generator(architecture: Any, tokenizer: Any, tmp_path: Path) -> None:
    snippets, judgments = task(400)
    size = LanguageModelConfig(
        architecture=architecture,
        layers=2,
        width=32,
        heads=2,
        context=40,
        vocabulary=300,
        tokenizer=tokenizer,
    )
    LanguageModel.create([s.text for s in snippets], size).save(tmp_path / "generator")
    made = Classifier.load(tmp_path / "generator", READING)
    with pytest.raises(ModelError, match="must be fitted"):
        made.scores(snippets)
    made.fit(snippets, judgments, training=replace(TRAINING, epochs=10))
    fresh, answers = task(60, seed=1)
    scores = made.scores(fresh)
    assert roc_auc_score([j.answer == Answer.FAILURE for j in answers], scores) > 0.95

    made.save(tmp_path / "classifier")
    loaded = Classifier.load(tmp_path / "classifier")
    odd = [
        Snippet(" ".join(WORDS * 20), "the dog bled"),
        Snippet("", "the dog bled"),
        Snippet("the cat ", " ran"),
    ]
    for snippet, together, alone in zip(
        odd, loaded.margins(odd), map(made.margins, [[s] for s in odd]), strict=True
    ):
        assert together == pytest.approx(alone[0], abs=1e-5), snippet
    # and by plain transformers, from the text as it runs
    model: Any = AutoModelForSequenceClassification
    plain, reader = (
        model.from_pretrained(tmp_path / "classifier"),
        AutoTokenizer.from_pretrained(tmp_path / "classifier"),
    )
    texts = [snippet.text for snippet in fresh]
    with torch.no_grad():
        logits = plain.eval()(**reader(texts, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0]).numpy(), loaded.margins(fresh), atol=1e-4)
    assert plain.config.id2label == {0: "ok", 1: "failure"}


def test_which_models_read_from_left_to_right() -> None:
    known = {name: AutoConfig.for_model(name) for name in ("gpt2", "llama", "gpt_neox", "qwen2", "mistral")}
    others = (
        "bert",
        "roberta",
        "deberta-v2",
        "modernbert",
        "xlnet",
        "bart",
        "plbart",
        "bigbird_pegasus",
        "t5",
    )
    assert all(reads_left_to_right(config) for config in known.values())
    assert not any(reads_left_to_right(AutoConfig.for_model(name)) for name in others)


def test_a_generator_as_classifier_reads_the_completion_whole(tmp_path: Path) -> None:
    texts = [s.text for s in task(96)[0]]
    size = LanguageModelConfig(layers=1, width=32, heads=2, context=24, tokenizer="word")
    LanguageModel.create(texts, size).save(tmp_path)
    made = Classifier.load(tmp_path, READING)
    encode = made.pairs.encode
    long, fits, too_long = encode(
        [Snippet("cat " * 40, "the dog ran"), Snippet("a cat", "dog " * 24), Snippet("a cat", "dog " * 25)]
    )
    assert long is not None
    assert made.tokenizer.convert_ids_to_tokens(long["input_ids"]) == ["▁cat"] * 21 + ["▁the", "▁dog", "▁ran"]
    assert fits is not None
    assert made.tokenizer.convert_ids_to_tokens(fits["input_ids"]) == ["▁dog"] * 24
    assert too_long is None
    assert encode([Snippet("a cat", " "), Snippet("a \ud800", "ran"), Snippet("a", "\ud800")]) == [None] * 3
    assert encode([]) == []
    with pytest.raises(ConfigError, match="head must be plain for a model that reads from left to right"):
        Classifier.load(tmp_path, replace(READING, head="pooled"))


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "deberta-v2", "roberta"])
def test_the_pooled_head_learns_and_is_loadable_without_us(architecture: Any, tmp_path: Path) -> None:
    encoder = replace(TINY, architecture=architecture)
    made = fitted(replace(READING, head="pooled", outputs=1), encoder)
    snippets, judgments = task(60, seed=1)
    snippets.append(Snippet("", "the dog bled"))
    scores = made.scores(snippets)
    assert roc_auc_score([j.answer == Answer.FAILURE for j in judgments], scores[:-1]) > 0.95
    made.save(tmp_path)
    np.testing.assert_allclose(Classifier.load(tmp_path).scores(snippets), scores, rtol=0, atol=1e-6)
    if architecture != "bert":
        return
    program = (
        "import sys; sys.modules['fivenines'] = None\n"
        "from transformers import AutoModelForSequenceClassification as Auto, AutoTokenizer\n"
        "model = Auto.from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
        "pair = AutoTokenizer.from_pretrained(sys.argv[1])(['the cat'], ['the dog bled'],"
        " return_tensors='pt')\n"
        "print(float(model(**pair).logits[0, 0].sigmoid()))\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}  # where transformers copies the code to
    command = [sys.executable, "-c", program, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert float(out) == pytest.approx(made.scores([Snippet("the cat", "the dog bled")])[0], abs=1e-5)


def test_the_pooled_head_knows_the_completion() -> None:
    config = replace(READING, head="pooled")
    for architecture in ("bert", "modernbert"):  # with types, and without
        made = Classifier.create([" ".join(WORDS)], config, replace(TINY, architecture=architecture))
        encoded = made.pairs.encode([Snippet("the dog saw", "a cat"), Snippet("", "big small red")])
        batch = made.pairs.collate([pair for pair in encoded if pair is not None])
        model: Any = made.model
        types = batch.get("token_type_ids")
        mask = model.completion_mask(batch["input_ids"], batch["attention_mask"], types)
        assert mask.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0, 0]]


def test_frozen_layers_stay_and_the_rest_learns() -> None:
    encoder = replace(TINY, layers=2)
    snippets, judgments = task(32)
    heads: tuple[Head, ...] = ("plain", "pooled")
    for head in heads:
        config = replace(READING, head=head, freeze_layers=1)
        made = Classifier.create([s.text for s in snippets], config, encoder)
        before = {k: v.clone() for k, v in made.model.state_dict().items()}
        made.fit(snippets, judgments, training=replace(TRAINING, epochs=1))
        moved = {k for k, v in made.model.state_dict().items() if not torch.equal(v, before[k])}
        assert not any("embeddings" in name or "layer.0." in name for name in moved)
        assert any("layer.1." in name for name in moved)
        assert any("classifier" in name for name in moved)


def test_a_long_prompt_is_cut_from_the_left_and_the_completion_is_whole(classifier: Classifier) -> None:
    words = [f"w{i}" for i in range(100)]
    made = Classifier.create([" ".join(words)], READING, TINY)
    (encoded,) = made.pairs.encode([Snippet(" ".join(words), "w1 w2 w3")])
    assert encoded is not None
    tokens = made.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens == ["[CLS]", *words[-34:], "[SEP]", "w1", "w2", "w3", "[SEP]"]
    assert encoded["token_type_ids"] == [0] * 36 + [1] * 4


@pytest.mark.parametrize("length", [36, 37, 38])
def test_a_completion_that_just_fits_or_does_not(classifier: Classifier, length: int) -> None:
    completion = " ".join(WORDS[i % len(WORDS)] for i in range(length))
    long, short = Snippet("the dog saw", completion), Snippet("the dog", "sat")
    (pair, _) = classifier.pairs.encode([long, short])
    scores = classifier.scores([long, short])
    assert not np.isnan(scores[1])
    if length > 37:  # 40 less three special tokens: never cut
        assert pair is None
        assert np.isnan(scores[0])
    else:
        assert pair is not None
        reading = classifier.tokenizer.decode(pair["input_ids"])
        assert completion in reading
        assert not np.isnan(scores[0])


def test_what_is_no_text_is_not_scored(classifier: Classifier) -> None:
    scores = classifier.scores(
        [Snippet("the dog", "sat \ud800"), Snippet("the \udc00", "sat"), Snippet("a", "b")]
    )
    assert np.isnan(scores).tolist() == [True, True, False]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_score_does_not_depend_on_its_company(classifier: Classifier, precision: Any) -> None:
    snippets, _ = task(150, seed=2)
    rng = np.random.default_rng(0)
    made = Classifier(classifier.model, classifier.tokenizer, replace(READING, precision=precision))
    expected = made.scores(snippets)
    for tokens in (1, 100, 100_000):
        order = rng.permutation(len(snippets))
        other = Classifier(made.model, made.tokenizer, replace(made.config, scoring_tokens=tokens))
        np.testing.assert_allclose(
            other.scores([snippets[i] for i in order]), expected[order], rtol=0, atol=1e-5
        )
    assert made.scores([]).shape == (0,)
    assert isinstance(made, ClassifierLike)


def test_fit_forgets_the_past() -> None:
    snippets, judgments = task(48)
    made = Classifier.create([s.text for s in snippets], READING, TINY)
    short = replace(TRAINING, epochs=2)
    first = made.fit(snippets, judgments, training=short).scores(snippets)
    made.calibrate(snippets, judgments)
    other, answers = task(48, seed=3)
    made.fit(other, answers, training=short)
    again = made.fit(snippets, judgments, training=short).scores(snippets)
    np.testing.assert_array_equal(first, again)


def test_learning_goes_on_from_where_it_stands_and_the_next_fit_forgets_that(tmp_path: Path) -> None:
    snippets, judgments = task(48)
    lesson = lesson_of(snippets, judgments, READING.objective)
    made = Classifier.create([s.text for s in snippets], READING, TINY)
    short = replace(TRAINING, epochs=2)
    first = made.fit(snippets, judgments, training=short, folder=tmp_path).scores(snippets)
    made.calibrate(snippets, judgments)
    still = replace(short, max_steps=1, learning_rate=1e-12)
    np.testing.assert_allclose(
        made.learn(snippets, lesson, start="current", training=still).scores(snippets), first, atol=1e-6
    )
    assert made.calibration.method == "none"
    # the same data, settings and folder: yet it is another training, and is not taken for the finished one
    second = made.learn(snippets, lesson, start="current", training=short, folder=tmp_path).scores(snippets)
    assert np.abs(second - first).max() > 1e-3
    assert made.provenance["continued"] == 2
    np.testing.assert_array_equal(made.fit(snippets, judgments, training=short).scores(snippets), first)
    assert "continued" not in made.provenance
    with pytest.raises(ConfigError, match="start must be initial or current, got here"):
        made.learn(snippets, lesson, start="here")  # type: ignore[arg-type]


def test_a_wide_definition_is_for_training_alone() -> None:
    snippets, judgments = task(96)
    borderline = [Judgment(j.snippet_id, j.answer, severity=Severity.BORDERLINE) for j in judgments]
    mixed = [b if i % 4 == 1 else j for i, (j, b) in enumerate(zip(judgments, borderline, strict=True))]
    rates = []
    for wide in (False, True):
        config = replace(READING, objective=Objective(wide=wide))
        made = Classifier.create([s.text for s in snippets], config, TINY)
        made.fit(snippets, mixed, validation=(snippets, mixed), training=TRAINING)
        assert made.provenance["failures"] == (48 if wide else 24)
        rates.append(made.scores(snippets).mean())
        made.calibrate(snippets, mixed)
        assert made.calibration.failures == 24
    assert rates[1] > rates[0] + 0.1


def test_validation_keeps_the_best_and_stops_early() -> None:
    snippets, judgments = task(96)
    for select_by in ("average_precision", "auroc", "log_loss"):
        config = replace(READING, select_by=select_by)
        made = Classifier.create([s.text for s in snippets], config, TINY)
        training = replace(TRAINING, epochs=25, patience=2)
        made.fit(snippets, judgments, validation=task(40, seed=1), training=training)
        assert made.result is not None
        assert made.result.best_metric == max(metric for _, metric in made.result.metrics)
        if select_by == "average_precision":
            assert made.result.stopped == "patience"


def test_a_fit_goes_on_from_its_checkpoint_and_saving_ends_it(tmp_path: Path) -> None:
    snippets, judgments = task(48)
    made = Classifier.create([s.text for s in snippets], READING, TINY)
    made.fit(snippets, judgments, training=TRAINING, folder=tmp_path)
    again = Classifier.create([s.text for s in snippets], READING, TINY)
    again.fit(snippets, judgments, training=TRAINING, folder=tmp_path)
    np.testing.assert_array_equal(made.scores(snippets), again.scores(snippets))
    again.save(tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "objective",
    [
        Objective(class_weights="balanced"),
        Objective(class_weights=(1.0, 5.0), label_smoothing=0.05),
        Objective(focal_gamma=2.0, oversample=0.5),
        Objective(targets="shares", unsure=None),
    ],
)
def test_objectives_and_one_logit_learn(objective: Objective) -> None:
    config = replace(READING, objective=objective, outputs=1)
    made = fitted(config)
    snippets, judgments = task(60, seed=1)
    auroc = roc_auc_score([j.answer == Answer.FAILURE for j in judgments], made.scores(snippets))
    assert auroc > 0.95


def test_weights_of_snippets_matter() -> None:
    snippets, judgments = task(48)
    made = Classifier.create([s.text for s in snippets], READING, TINY)
    few = replace(TRAINING, epochs=3)
    failing = np.array([j.answer == Answer.FAILURE for j in judgments])
    more = made.fit(snippets, judgments, training=few, weights=np.where(failing, 20.0, 1.0)).scores(snippets)
    less = made.fit(snippets, judgments, training=few, weights=np.where(failing, 0.1, 1.0)).scores(snippets)
    assert more.mean() > less.mean() + 0.1


def test_dropout_is_overridden() -> None:
    heads: tuple[Head, ...] = ("plain", "pooled")
    for head in heads:
        config = replace(READING, dropout=0.37, head=head)
        for made in (Classifier.create(["the dog"], config, TINY), Classifier.load("minilm", config)):
            rates = {m.p for m in made.model.modules() if isinstance(m, torch.nn.Dropout)}
            assert rates == {0.37}


def test_completions_that_do_not_fit_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    snippets, judgments = task(48)
    long = Snippet("a", " ".join(WORDS * 4))
    made = Classifier.create([s.text for s in snippets], READING, TINY)
    with caplog.at_level(logging.WARNING):
        made.fit([*snippets, long], [*judgments, Judgment(long.id, Answer.OK)], training=TRAINING)
    assert (
        "1 of 49 snippets are left out: their completions are empty or do not fit into 40 tokens"
        in caplog.text
    )
    assert made.provenance["left out"] == 1
    two = [long, Snippet("b", long.completion)]
    with pytest.raises(ModelError, match="completions must fit into 40 tokens, got none of 2 that does"):
        made.fit(two, [Judgment(two[0].id, Answer.OK), Judgment(two[1].id, Answer.FAILURE)])


def test_what_it_refuses(classifier: Classifier, tmp_path: Path) -> None:
    snippets, judgments = task(8)
    new = Classifier.create(["the dog"], READING, TINY)
    with pytest.raises(
        ModelError, match=r"must be fitted before it scores, got a new head\. Call fit first\."
    ):
        new.scores(snippets)
    with pytest.raises(ModelError, match="must be fitted before it is saved"):
        new.save(tmp_path)
    with pytest.raises(NotEnoughDataError, match="training data needs both answers, got no failure"):
        new.fit(snippets[1:4], judgments[1:4])
    with pytest.raises(NotEnoughDataError, match="needs both answers, got no ok"):
        classifier.calibrate(snippets[:1], judgments[:1])
    with pytest.raises(LabelError, match="judgment must be of the snippet beside it"):
        new.fit(snippets, judgments[::-1])
    with pytest.raises(DataError, match="must be of one length, got 8, 7 and 8"):
        new.fit(snippets, judgments[1:])
    with pytest.raises(ConfigError, match="max_length must be at most 40 for this model, got 41"):
        Classifier.create(["the dog"], replace(READING, max_length=41), TINY)
    with pytest.raises(ConfigError, match="max_length must be at least 5, got 4"):
        Classifier.create(["the dog"], replace(READING, max_length=4), TINY)
    for change, message in (
        ({"head": "tall"}, "head must be plain or pooled, got tall"),
        ({"freeze_layers": -1}, "freeze_layers must be None or at least 0, got -1"),
        ({"outputs": 3}, "outputs must be 1 or 2, got 3"),
        ({"scoring_tokens": 0}, "scoring_tokens must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be None or lie in \[0, 1\), got 1.0"),
        ({"select_by": "f1"}, "select_by must be average_precision, auroc or log_loss, got f1"),
        ({"language_weight": 0}, "language_weight must be a positive number, got 0"),
        ({"precision": "int8"}, "precision must be auto, float32 or bfloat16, got int8"),
    ):
        with pytest.raises(ConfigError, match=message):
            ClassifierConfig(**change)


def test_calibration_keeps_the_ranking_and_is_saved(classifier: Classifier, tmp_path: Path) -> None:
    snippets, judgments = task(80, seed=4)
    made = Classifier(classifier.model, classifier.tokenizer, classifier.config)
    raw = made.scores(snippets)
    made.calibrate(snippets, judgments, method="isotonic")
    calibrated = made.scores(snippets)
    assert np.array_equal(np.argsort(raw, kind="stable"), np.argsort(calibrated, kind="stable"))
    assert not np.array_equal(raw, calibrated)
    made.save(tmp_path)
    np.testing.assert_array_equal(Classifier.load(tmp_path).scores(snippets), calibrated)
    card = json.loads((tmp_path / CARD).read_text())
    assert card["kind"] == "classifier"
    assert card["calibration"]["method"] == "isotonic"


def test_a_loaded_classifier_learns_on_from_what_was_loaded(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    snippets, judgments = task(32, seed=5)
    loaded.fit(snippets, judgments, training=replace(TRAINING, max_steps=1, learning_rate=1e-9))
    np.testing.assert_allclose(
        loaded.scores(snippets), classifier.margins(snippets) * 0 + loaded.scores(snippets)
    )
    np.testing.assert_allclose(loaded.margins(snippets), classifier.margins(snippets), atol=1e-3)


def test_the_real_encoder_loads_learns_and_scores(tmp_path: Path) -> None:
    snippets, judgments = task(32)
    made = Classifier.load("minilm")
    with pytest.raises(ModelError, match="must be fitted before it scores"):
        made.scores(snippets)
    made.fit(snippets, judgments, training=replace(TRAINING, epochs=2, learning_rate=5e-5))
    scores = made.calibrate(snippets, judgments).scores(snippets)
    assert np.all((scores > 0) & (scores < 1))
    made.save(tmp_path)
    np.testing.assert_array_equal(Classifier.load(tmp_path).scores(snippets), scores)
