"""Training, measuring, keeping: with tiny models of three architectures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.activations import NewGELUActivation

from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.causal import pack
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.losses import IGNORE
from fivenines.models.protocols import GeneratorLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.testing.generator_contract import GeneratorContract

NAMES, THINGS = ("Ana", "Bob", "Cem"), ("lamp", "book", "cup")
TEXTS = [
    f"{name} took the {thing}, and left. Then {name} came back. {name} put the {thing} down."
    for name in NAMES
    for thing in THINGS
]
PROMPT = "Ana took the lamp, and left."
ARCHITECTURES = ("gpt2", "llama", "gpt_neox")


def make(**changes: object) -> LanguageModel:
    settings = {"layers": 2, "width": 32, "heads": 2, "context": 48, "tokenizer": "word"} | changes
    config = LanguageModelConfig(**settings)  # type: ignore[arg-type]
    return LanguageModel.create(TEXTS, config, SamplingConfig(max_new_tokens=16))


@pytest.fixture(scope="module")
def trained() -> LanguageModel:
    model = make()
    training = TrainingConfig(max_steps=60, learning_rate=1e-2, batch_size=8, precision="float32")
    return model.fit(TEXTS * 4, training=training)


class TestContract(GeneratorContract):
    @pytest.fixture
    def generator(self) -> GeneratorLike:
        return make()


# -- learning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns(architecture: str) -> None:
    model = make(architecture=architecture)
    before = model.nats_per_word(TEXTS)
    training = TrainingConfig(max_steps=25, learning_rate=5e-3, batch_size=8, precision="float32")
    assert model.fit(TEXTS * 4, training=training) is model
    assert model.nats_per_word(TEXTS) < 0.6 * before
    assert model.provenance["texts"] == len(TEXTS) * 4
    assert model.result is not None
    assert model.result.steps == 25


def test_it_writes_what_it_learned(trained: LanguageModel) -> None:
    texts = trained.sample([PROMPT] * 20, seed=0)
    learned = [f"Then {name} came back." for name in NAMES]
    assert sum(text in learned for text in texts) >= 14


def test_the_best_evaluation_is_kept() -> None:
    model = make()
    training = TrainingConfig(max_steps=9, evaluate_every=3, learning_rate=5e-3, batch_size=8)
    model.fit(TEXTS * 4, validation=TEXTS, training=training)
    assert model.result is not None
    assert model.result.best_metric is not None
    assert -model.nats_per_word(TEXTS) == pytest.approx(model.result.best_metric, rel=1e-4)


def test_training_forgets_the_prompts_that_were_read(trained: LanguageModel) -> None:
    model = make()
    model.sample([PROMPT], seed=0)
    model.fit(TEXTS, training=TrainingConfig(max_steps=3, learning_rate=1e-2, batch_size=4))
    fresh = LanguageModel(model.model, model.tokenizer, model.sampling)
    assert model.sample([PROMPT] * 5, seed=1) == fresh.sample([PROMPT] * 5, seed=1)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="texts must hold words, got none"):
        make().fit(["", "  "])
    with pytest.raises(DataError, match="texts must hold words, got none"):
        make().fit(TEXTS, validation=[" "])
    with pytest.raises(DataError, match="texts for the tokenizer must hold words"):
        LanguageModel.create([" "])


def test_a_block_longer_than_the_context() -> None:
    with pytest.raises(ConfigError, match=r"block must lie in \[2, 48\], got 49"):
        make().fit(TEXTS, block=49)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30, "heads": 4}, "width must be an even multiple of heads"),
        ({"architecture": "rnn"}, "architecture must be one of gpt2, llama, gpt_neox, got rnn"),
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"tokenizer": "letters"}, "tokenizer must be bpe, lines or word"),
        ({"dropout": 1.0}, "dropout must lie in"),
    ],
)
def test_configs_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LanguageModelConfig(**changes)  # type: ignore[arg-type]


# -- packing


def test_short_documents_are_never_cut() -> None:
    inputs, labels = pack([[1, 2, 3], [4, 5], [6], [7, 8]], block=7, end=0)
    assert inputs.tolist() == [[1, 2, 3, 0, 4, 5, 0], [6, 0, 7, 8, 0, 0, 0]]
    assert labels.tolist() == [[1, 2, 3, 0, 4, 5, 0], [6, 0, 7, 8, 0, IGNORE, IGNORE]]


def test_long_documents_go_on_in_the_next_block() -> None:
    inputs, _ = pack([[*range(1, 8)], [9]], block=4, end=0)  # 7 and its end fill a block: 9 begins another
    assert inputs.tolist() == [[1, 2, 3, 4], [5, 6, 7, 0], [9, 0, 0, 0]]
    inputs, _ = pack([[1, 2, 3, 4, 5, 6], [7]], block=4, end=0)
    assert inputs.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]]


# -- measuring


def slow_log_likelihood(model: LanguageModel, prompt: str, completion: str) -> float:
    """Token by token, one forward pass each."""
    ids = model.tokenizer(f"{prompt} {completion}")["input_ids"]
    begin = len(model.tokenizer(prompt)["input_ids"])
    total = 0.0
    with torch.no_grad():
        for at in range(begin, len(ids)):
            logits = model.model(torch.tensor([ids[:at]])).logits[0, -1].double()
            total += float(logits.log_softmax(-1)[ids[at]])
    return total


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_likelihood_is_that_of_a_slow_computation(architecture: str) -> None:
    model = make(architecture=architecture, tokenizer="bpe", vocabulary=300, context=96)
    pairs = [
        (PROMPT, "Then Ana came back."),
        ("Bob took the cup, and left.", "Then"),
        ("Cem", "put it down."),
    ]
    expected = [slow_log_likelihood(model, *pair) for pair in pairs]
    got = model.log_likelihood([Snippet(*pair) for pair in pairs])
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_log_likelihood_of_a_long_prompt_loses_its_left_end() -> None:
    model = make()
    long = Snippet(" ".join([PROMPT] * 10), "Then Ana came back.")
    ids = model.tokenizer(long.text)["input_ids"][-model.context :]
    with torch.no_grad():
        table = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    expected = sum(float(table[at - 1, ids[at]]) for at in range(len(ids) - 5, len(ids)))
    assert model.log_likelihood([long])[0] == pytest.approx(expected, rel=1e-4)


def test_log_likelihood_of_what_cannot_be_read() -> None:
    model = make()
    with pytest.raises(DataError, match="completion must not be empty"):
        model.log_likelihood([Snippet(PROMPT, " ")])
    with pytest.raises(DataError, match="prompt must not be empty"):
        model.log_likelihood([Snippet("", "Then Ana came back.")])
    with pytest.raises(ModelError, match="completion must fit into the model's context of 48 tokens, got 60"):
        model.log_likelihood([Snippet("Ana", "lamp " * 60)])


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_surprise_is_that_of_a_slow_computation(architecture: str) -> None:
    model = make(architecture=architecture)
    pairs = [(PROMPT, "The lamp fell."), ("Ana saw it.", "Then Ana came back to the lamp."), (PROMPT, "No.")]
    got = model.surprise([Snippet(*pair) for pair in pairs])
    for found, (prompt, completion) in zip(got, pairs, strict=True):
        before = model.tokenizer(prompt)["input_ids"]
        ids = model.tokenizer(f"{prompt} {completion}")["input_ids"]
        excess = variance = 0.0
        for place in range(len(before), len(ids)):
            with torch.inference_mode():
                logits = model.model(torch.tensor([ids[:place]])).logits[0, -1].double()
            p = torch.softmax(logits, dim=-1)
            information = -torch.log(p)
            entropy = float((p * information).sum())
            excess += float(information[ids[place]]) - entropy
            variance += float((p * (information - entropy) ** 2).sum())
        assert found == pytest.approx(excess / variance**0.5, rel=1e-3, abs=1e-4)


def test_a_model_is_not_surprised_by_its_own_draws_but_by_noise(trained: LanguageModel) -> None:
    model = trained.with_sampling(temperature=1.0, top_p=1.0, stop="eos", max_new_tokens=8)
    own = [text for text in model.sample([PROMPT] * 400, seed=5) if text.strip()]
    found = model.surprise([Snippet(PROMPT, text) for text in own])
    assert abs(found.mean()) < 0.3
    assert 0.7 < found.std() < 1.4
    scrambled = [" ".join(reversed(text.split())) for text in own]
    assert model.surprise([Snippet(PROMPT, text) for text in scrambled]).mean() > found.mean() + 1.0


def test_nats_per_word_is_the_mean_over_all_texts() -> None:
    model = make()
    one_by_one = []
    for text in TEXTS[:3]:
        ids = [*model.tokenizer(text)["input_ids"], model.tokenizer.eos_token_id]
        with torch.no_grad():
            table = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        one_by_one.append(-sum(float(table[at - 1, ids[at]]) for at in range(1, len(ids))))
    words = sum(len(text.split()) for text in TEXTS[:3])
    alone = model.nats_per_word(TEXTS[:3], block=24)  # a block holds one of them
    assert alone == pytest.approx(sum(one_by_one) / words, rel=1e-4)
    with pytest.raises(DataError, match="texts must hold words"):
        model.nats_per_word([])


# -- keeping


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_save_and_load_give_the_same_model(architecture: str, tmp_path: Path) -> None:
    model = make(architecture=architecture)
    model.sampling = SamplingConfig(max_new_tokens=9, temperature=1.3, stop="eos")
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    assert again.sampling == model.sampling
    assert again.provenance == json.loads(json.dumps(model.provenance))
    snippets = [Snippet(text[:30], text[30:]) for text in TEXTS]
    assert again.log_likelihood(snippets).tolist() == model.log_likelihood(snippets).tolist()
    assert again.sample([PROMPT] * 8, seed=2) == model.sample([PROMPT] * 8, seed=2)


def test_a_folder_is_one_of_plain_transformers(tmp_path: Path) -> None:
    model = make(tokenizer="bpe", vocabulary=300)
    model.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    plain: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        expected = model.model(ids["input_ids"]).logits
        torch.testing.assert_close(plain(**ids).logits, expected)
    assert tokenizer.decode(ids["input_ids"][0]) == PROMPT


def test_a_foreign_folder_loads_and_runs_a_faster_activation(tmp_path: Path) -> None:
    model = make()
    model.model.config.activation_function = "gelu_new"
    model.save(tmp_path)
    (tmp_path / "fivenines.json").unlink()
    plain: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert any(isinstance(module, NewGELUActivation) for module in plain.modules())
    ours = LanguageModel.load(tmp_path)
    assert not any(isinstance(module, NewGELUActivation) for module in ours.model.modules())
    assert ours.provenance == {"base": str(tmp_path)}
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        torch.testing.assert_close(ours.model(ids).logits, plain(ids).logits)


def test_folders_that_hold_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must exist"):
        LanguageModel.load(tmp_path / "nothing")
    make().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="must hold a tokenizer"):
        LanguageModel.load(tmp_path)
    card = json.loads((tmp_path / "fivenines.json").read_text())
    (tmp_path / "fivenines.json").write_text(json.dumps(card | {"kind": "classifier"}))
    with pytest.raises(ModelError, match="must hold a language model, got a classifier"):
        LanguageModel.load(tmp_path)


def test_with_sampling_shares_the_weights() -> None:
    model = make()
    other = model.with_sampling(temperature=0.0)
    assert other.model is model.model
    assert (other.sampling.temperature, model.sampling.temperature) == (0.0, 1.0)
    assert len(set(other.sample([PROMPT] * 5, seed=0))) == 1
    model.sampling = other.sampling  # takes effect at the next call
    assert model.sample([PROMPT], seed=0) == other.sample([PROMPT], seed=0)


def test_one_text_is_no_list_of_prompts() -> None:
    with pytest.raises(DataError, match="prompts must be a list of texts, got one text"):
        make().sample(PROMPT, seed=0)
