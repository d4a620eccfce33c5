"""A prompt read once for all its completions gives the scores of texts read whole, and is forgotten in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSequenceClassification

from fivenines.errors import NotEnoughDataError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.continuation import Parts
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.prefix_scoring import PrefixScorer, _batches, make_prefix_scorer
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet

IDS = st.lists(st.integers(1, 49), min_size=1, max_size=14).map(tuple)


def random_model(architecture: str = "gpt2", **changes: Any) -> Any:
    """A classifier of 50 tokens and 32 positions, whose weights are large enough to tell texts apart."""
    common = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = common | {
        "intermediate_size": 64,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "num_labels": 2,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **(options | {"initializer_range": 0.3} | changes))
    auto: Any = AutoModelForSequenceClassification
    return auto.from_config(config).eval()


def scorer_of(model: Any, megabytes: float = 16.0) -> PrefixScorer:
    scorer = make_prefix_scorer(model, megabytes=megabytes, tokens=32, precision="float32")
    assert scorer is not None
    return scorer


MODELS = {name: random_model(name) for name in ("gpt2", "llama", "gpt_neox")}
SCORERS = {name: scorer_of(model) for name, model in MODELS.items()}


@pytest.mark.parametrize("architecture", list(MODELS))
@given(texts=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12), max_tokens=st.sampled_from([8, 40, 400]))
def test_logits_are_those_of_whole_texts(
    architecture: str, texts: list[tuple[tuple[int, ...], tuple[int, ...]]], max_tokens: int
) -> None:
    model, scorer = MODELS[architecture], SCORERS[architecture]
    with torch.inference_mode():
        whole = torch.cat([model(input_ids=torch.tensor([a + b])).logits for a, b in texts])
    for _ in range(2):  # prompts that are new, and prompts that are remembered
        torch.testing.assert_close(scorer.logits(texts, max_tokens), whole, atol=1e-4, rtol=1e-4)


def test_a_prompt_is_read_once() -> None:
    scorer = scorer_of(random_model())
    scorer.prefixes.hits = scorer.prefixes.misses = 0  # the trial has read two
    scorer.logits([((1, 2, 3), (4,)), ((1, 2, 3), (5, 6)), ((7, 8), (9,))], 400)
    assert (scorer.prefixes.hits, scorer.prefixes.misses, len(scorer.prefixes)) == (0, 2, 2)
    scorer.logits([((7, 8), (1,)), ((1, 2), (9,))], 400)
    assert (scorer.prefixes.hits, scorer.prefixes.misses, len(scorer.prefixes)) == (1, 3, 3)
    scorer.clear()
    assert len(scorer.prefixes) == 0


def test_a_batch_has_a_limit() -> None:
    prompts, completions = st.integers(1, 20), st.integers(1, 200)
    texts = st.lists(st.tuples(prompts, completions).map(lambda n: ((1,) * n[0], (2,) * n[1])), max_size=60)

    @given(texts=texts, limit=st.integers(1, 600))
    def check(texts: list[Parts], limit: int) -> None:
        batches = _batches(texts, limit)
        assert sorted(i for batch, _, _ in batches for i in batch) == list(range(len(texts)))
        for batch, width, new in batches:
            assert len(batch) == 1 or len(batch) * (width + new) <= limit
            assert all(len(texts[i][0]) <= width and len(texts[i][1]) <= new for i in batch)

    check()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_text_does_not_depend_on_its_company(precision: Any) -> None:
    scorer = make_prefix_scorer(MODELS["gpt2"], megabytes=16.0, tokens=32, precision=precision)
    assert scorer is not None
    rng = np.random.default_rng(0)

    def draw() -> tuple[int, ...]:
        return tuple(rng.integers(1, 50, rng.integers(1, 16)).tolist())

    texts = [(draw(), draw()) for _ in range(40)]
    together = scorer.logits(texts, 400)
    for i in (0, 7, 23):
        scorer.clear()
        alone = scorer.logits([texts[i]], 400)[0]
        torch.testing.assert_close(alone, together[i], atol=1e-6, rtol=1e-6)


def test_memory_has_a_limit() -> None:
    scorer = scorer_of(random_model(), megabytes=0.01)
    scorer.logits([((i, i + 1), (4,)) for i in range(1, 40)], 400)
    assert 0 < scorer.prefixes.nbytes <= 0.01 * 2**20


def test_models_that_do_not_keep_plain_states_are_refused() -> None:
    sliding = random_model("mistral", sliding_window=4, num_key_value_heads=2)
    assert make_prefix_scorer(sliding, megabytes=16, tokens=32, precision="float32") is None
    assert make_prefix_scorer(MODELS["gpt2"], megabytes=0, tokens=32, precision="float32") is None
    assert make_prefix_scorer(random_model("bert"), megabytes=16, tokens=32, precision="float32") is None


@pytest.fixture(scope="module")
def snippets() -> list[Snippet]:
    rng = np.random.default_rng(0)
    words = ["the", "cat", "dog", "saw", "bit", "ran", "house", "red"]
    prompts = [" ".join(rng.choice(words, n)) for n in (3, 5, 8)]
    return [Snippet(prompts[i % 3], " ".join(rng.choice(words, 1 + i % 5))) for i in range(60)]


@pytest.fixture(scope="module")
def folder(snippets: list[Snippet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("classifier")
    size = LanguageModelConfig(layers=2, width=32, heads=2, context=24, tokenizer="word")
    LanguageModel.create([s.text for s in snippets], size).save(made / "generator")
    classifier = Classifier.load(made / "generator", ClassifierConfig(precision="float32"))
    classifier.fit(
        snippets, judged(snippets), training=TrainingConfig(epochs=3, learning_rate=3e-3, threads=1)
    )
    classifier.save(made / "classifier")
    return made / "classifier"


def judged(snippets: list[Snippet]) -> list[Judgment]:
    return [Judgment(s.id, Answer.FAILURE if "bit" in s.completion else Answer.OK) for s in snippets]


def test_a_classifier_scores_alike_with_and_without_memory(folder: Path, snippets: list[Snippet]) -> None:
    config = ClassifierConfig(precision="float32")
    remembers = Classifier.load(folder, config)
    reads_whole = Classifier.load(folder, ClassifierConfig(precision="float32", prefix_cache_mb=0))
    spaced = Snippet("\n" + "the cat " * 30, "ran")
    odd = [Snippet("the cat " * 30, "ran"), spaced, Snippet("cat", " "), Snippet("cat", "dog " * 40)]
    expected = reads_whole.margins(snippets + odd)
    assert np.isnan(expected[-2:]).all()
    assert np.isfinite(expected[:-2]).all()
    np.testing.assert_allclose(remembers.margins(snippets + odd), expected, atol=1e-5)
    np.testing.assert_allclose(remembers.margins(snippets + odd), expected, atol=1e-5)  # from memory
    assert remembers._prefixes is not None
    empty = [*snippets, Snippet("", "the dog bit"), Snippet(" ", "the dog bit")]  # these two are read whole
    np.testing.assert_allclose(remembers.margins(empty), reads_whole.margins(empty), atol=1e-5)


def test_what_was_forgotten_is_read_again_bit_by_bit(folder: Path, snippets: list[Snippet]) -> None:
    classifier = Classifier.load(folder)
    fresh = classifier.margins(snippets)
    classifier.margins(snippets[:7])
    classifier.forget()
    np.testing.assert_array_equal(classifier.margins(snippets), fresh)


def test_a_fit_forgets_what_the_old_weights_read(folder: Path, snippets: list[Snippet]) -> None:
    classifier = Classifier.load(folder, ClassifierConfig(precision="float32"))
    before = classifier.margins(snippets)
    classifier.fit(
        snippets, judged(snippets), training=TrainingConfig(epochs=2, learning_rate=3e-3, threads=1)
    )
    after = classifier.margins(snippets)
    assert not np.allclose(before, after)
    classifier.forget()
    np.testing.assert_array_equal(classifier.margins(snippets), after)
    with pytest.raises(NotEnoughDataError):  # a fit that fails has put the first weights back
        classifier.fit(snippets, [Judgment(s.id, Answer.OK) for s in snippets])
    failed = classifier.margins(snippets)
    classifier.forget()
    np.testing.assert_array_equal(classifier.margins(snippets), failed)


@pytest.mark.parametrize("ends", [False, True])
def test_an_end_of_text_is_no_place_to_read_a_score(
    folder: Path, snippets: list[Snippet], ends: bool
) -> None:
    """Whether the tokenizer appends it or a generator spelled it out."""
    classifier = Classifier.load(folder, ClassifierConfig(precision="float32"))
    whole = Classifier.load(folder, ClassifierConfig(precision="float32", prefix_cache_mb=0))
    expected = classifier.margins(snippets)
    if ends:
        for one in (classifier, whole):
            backend: Any = one.tokenizer
            backend.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", one.tokenizer.eos_token_id)]
            )
        said = snippets
    else:
        said = [Snippet(s.prompt, f"{s.completion}<|endoftext|>") for s in snippets]
    np.testing.assert_allclose(classifier.margins(said), expected, atol=1e-5)
    np.testing.assert_allclose(whole.margins(said), expected, atol=1e-5)
    assert classifier.pairs.overhead == 0


def test_a_start_of_text_stays_when_the_prompt_is_cut(folder: Path, snippets: list[Snippet]) -> None:
    classifiers = [
        Classifier.load(folder, ClassifierConfig(precision="float32", prefix_cache_mb=megabytes))
        for megabytes in (16, 0)
    ]
    for one in classifiers:
        backend: Any = one.tokenizer
        backend.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", one.tokenizer.eos_token_id)]
        )
    assert classifiers[0].pairs.overhead == 1
    (long,) = classifiers[0].pairs.encode([Snippet("cat " * 40, "the dog bit")])
    assert long is not None
    words = classifiers[0].tokenizer.convert_ids_to_tokens(long["input_ids"])
    assert words == ["<|endoftext|>", *["▁cat"] * 20, "▁the", "▁dog", "▁bit"]
    said = [*snippets, Snippet("cat " * 40, "the dog bit"), Snippet("", "the dog bit")]
    np.testing.assert_allclose(classifiers[0].margins(said), classifiers[1].margins(said), atol=1e-5)
