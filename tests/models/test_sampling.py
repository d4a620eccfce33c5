"""The sampler against exact distributions, against transformers' own generate, and against itself."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.decoding import CachedDecoder, PlainDecoder
from fivenines.models.sampling import Sampler, SamplingConfig

END = 0
WORDS = ["<eos>", ".", ",", '"', "\n", *(f"w{i}" for i in range(12)), *(f"W{i}" for i in range(6)), "Mr."]
SIZE: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": None,
}
LLAMA: dict[str, Any] = SIZE | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
NEO: dict[str, Any] = {
    "num_layers": 2,
    "num_heads": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "gpt2": lambda: GPT2Config(**SIZE, n_layer=2, n_embd=16, n_head=2, n_positions=64),
    "llama": lambda: LlamaConfig(**LLAMA),
    "gpt_neox": lambda: GPTNeoXConfig(**(LLAMA | {"num_key_value_heads": 4})),
    "gpt_neo": lambda: GPTNeoConfig(**SIZE, **NEO, hidden_size=16, max_position_embeddings=64),
    "mistral": lambda: MistralConfig(**LLAMA, sliding_window=64),
    "mistral, narrow": lambda: MistralConfig(**LLAMA, sliding_window=6),
    "bloom": lambda: BloomConfig(**SIZE, n_layer=2, hidden_size=16, n_head=2),
}
PLAIN = ("mistral, narrow", "bloom")  # keep no plain states: the slow decoder must take over


def make_tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.Fuse()
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(tokenizer_object=inner, eos_token="<eos>")
    return wrapped


def make_model(kind: str = "gpt2", sharp: float = 6.0) -> PreTrainedModel:
    """Random weights, larger than usual so that the distributions are far from flat."""
    torch.manual_seed(3)
    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(CONFIGS[kind]())
    model.train(False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(sharp)
    return model


def sampler(model: PreTrainedModel | None = None, **changes: object) -> Sampler:
    settings = {"stop": "eos", "max_new_tokens": 12} | changes
    model = make_model() if model is None else model
    return Sampler(model, make_tokenizer(), SamplingConfig(**settings))  # type: ignore[arg-type]


def next_token(model: PreTrainedModel, prompt: str) -> torch.Tensor:
    """The exact distribution of the first token, float64."""
    ids = make_tokenizer()(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        shares: torch.Tensor = model(ids).logits[0, -1].double().softmax(-1)
    return shares


PROMPTS = ["w1 w2 w3", "W1 w2 w3 w4 w5 w6 w7 w8 w9", "w5", "w1 w2 , W3 w4", "w1 w2 w3"]


# -- against transformers


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("rows", [2, 64])
def test_greedy_texts_are_those_of_generate(kind: str, rows: int) -> None:
    model: Any = make_model(kind)
    tokenizer = make_tokenizer()
    ours = sampler(model, temperature=0.0, max_new_tokens=20, batch_size=rows)
    assert type(ours.decoder) is (PlainDecoder if kind in PLAIN else CachedDecoder)
    for prompt, text in zip(PROMPTS, ours.sample(PROMPTS, seed=0), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        full = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=END
        )
        theirs = full[0, ids.shape[1] :].tolist()
        cut = theirs.index(END) if END in theirs else len(theirs)
        words = [WORDS[i] for i in theirs[:cut]]
        assert "".join(words).strip().startswith(text)
        assert text or not words


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_logits_of_rows_that_come_and_go(kind: str, implementation: str) -> None:
    model = make_model(kind)
    model.set_attn_implementation(implementation)
    decoder = CachedDecoder(model)
    rng = np.random.default_rng(0)
    texts: list[list[int]] = []
    with torch.inference_mode():
        prompts = [tuple(rng.integers(1, len(WORDS), size=n).tolist()) for n in rng.integers(1, 9, size=30)]
        prefixes = iter(decoder.read(prompts))
        decoder.reserve(4, 8, 20)
        for step in range(100):
            while len(texts) < 4 and (prefix := next(prefixes, None)) is not None:
                decoder.join(prefix)
                texts.append(list(prefix.ids))
            if not texts:
                break
            tokens = rng.integers(1, len(WORDS), size=len(texts))
            logits = decoder.step(torch.from_numpy(tokens))
            for text, token, row in zip(texts, tokens.tolist(), logits, strict=True):
                text.append(token)
                torch.testing.assert_close(
                    row, model(torch.tensor([text])).logits[0, -1], rtol=1e-3, atol=1e-3
                )
            stay = [i for i in range(len(texts)) if (step + i) % 7 and len(texts[i]) < 28]
            count = len(stay)
            order = np.arange(count)
            order[[i for i in range(count) if i not in stay]] = [i for i in stay if i >= count]
            decoder.keep(order)
            texts = [texts[i] for i in order]


def test_a_model_that_gives_other_logits_from_its_cache_is_not_trusted() -> None:
    model = make_model()
    inner = model.forward

    def forgetful(*args: object, **options: object) -> object:
        if options.get("past_key_values") is not None:
            options["position_ids"] = torch.zeros_like(options["position_ids"])  # type: ignore[arg-type]
        return inner(*args, **options)

    forgetful.__signature__ = __import__("inspect").signature(inner)  # type: ignore[attr-defined]
    model.forward = forgetful
    assert type(sampler(model).decoder) is PlainDecoder


# -- distributions


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 4},
        {"top_p": 0.7},
        {"temperature": 1.7, "top_k": 10, "top_p": 0.8},
    ],
)
def test_tokens_follow_the_exact_distribution(settings: dict[str, Any]) -> None:
    model, prompt, draws = make_model(sharp=4.0), "w1 w2 w3", 4000
    expected = shaped(next_token(model, prompt), **settings).numpy()
    texts = sampler(model, max_new_tokens=1, batch_size=500, **settings).sample([prompt] * draws, seed=7)
    counts = Counter(texts)
    names = ["", *WORDS[1:4], "", *WORDS[5:]]  # the end and a newline come out as nothing
    seen: dict[str, float] = dict.fromkeys(names, 0.0)
    for name, share in zip(names, expected, strict=True):
        seen[name] += share
    assert set(counts) <= {name for name, share in seen.items() if share > 0}
    common = [name for name, share in seen.items() if share * draws > 5]
    rest = draws - sum(counts[name] for name in common)
    observed: list[float] = [*(counts[name] for name in common), rest]
    wanted = [*(seen[name] * draws for name in common)]
    wanted.append(draws - sum(wanted))
    if wanted[-1] < 1:
        observed, wanted = observed[:-1], wanted[:-1]
        wanted = [w * sum(observed) / sum(wanted) for w in wanted]
    assert chisquare(observed, wanted).pvalue > 1e-3


def shaped(p: torch.Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
    """Temperature, top-k and top-p written down slowly."""
    p = p ** (1 / temperature)
    p = p / p.sum()
    order = p.argsort(descending=True).tolist()
    if top_k:
        p[order[top_k:]] = 0
        p = p / p.sum()
    held = 0.0
    for token in order:
        if held >= top_p:
            p[token] = 0
        held += float(p[token])
    return p / p.sum()


def test_draws_of_one_prompt_are_independent_of_its_company() -> None:
    """Batch size, order and what is remembered change nothing but the rounding of floats."""
    model = make_model(sharp=4.0)
    prompts = PROMPTS * 8
    expected = sampler(model, batch_size=1).sample(prompts, seed=5)
    assert len(set(expected)) > 20
    for settings in ({"batch_size": 64}, {"batch_size": 7}, {"batch_size": 3, "prefix_cache_mb": 0}):
        assert sampler(model, **settings).sample(prompts, seed=5) == expected
    ours = sampler(model, batch_size=16)
    ours.sample(PROMPTS[::-1], seed=9)  # fills the cache in another order
    assert ours.sample(prompts, seed=5) == expected
    assert ours.sample(prompts[:11], seed=5) == expected[:11]


def test_other_seeds_give_other_draws() -> None:
    ours = sampler(make_model(sharp=4.0))
    assert ours.sample(PROMPTS, seed=0) != ours.sample(PROMPTS, seed=2**62)
    assert ours.sample([], seed=0) == []


# -- the prefix cache


def test_a_prompt_is_read_once() -> None:
    ours = sampler()
    ours.sample(PROMPTS * 3, seed=0)
    assert (ours.prefixes.misses, len(ours.prefixes)) == (4, 4)
    ours.sample(PROMPTS, seed=1)
    assert (ours.prefixes.hits, ours.prefixes.misses) == (4, 4)
    ours.clear()
    assert (len(ours.prefixes), ours.prefixes.nbytes) == (0, 0)


def test_the_cache_keeps_to_its_limit_and_drops_the_oldest() -> None:
    ours = sampler()
    ours.sample(["w1 w2"], seed=0)
    one = ours.prefixes.nbytes
    assert one > 2 * 2 * 2 * 16 * 4  # layers, keys and values, tokens, width, bytes
    ours.prefixes.limit = 2 * one
    for prompt in ("w1 w3", "w1 w2", "w1 w4"):  # w1 w3 is now the oldest
        ours.sample([prompt], seed=0)
    assert ours.prefixes.nbytes == 2 * one
    before = ours.prefixes.misses
    ours.sample(["w1 w2", "w1 w4"], seed=0)
    assert ours.prefixes.misses == before
    ours.sample(["w1 w3"], seed=0)
    assert ours.prefixes.misses == before + 1


# -- prompts


def test_long_prompts_keep_their_right_end() -> None:
    ours = sampler(temperature=0.0)
    words = [f"w{i % 12}" for i in range(100)]
    assert len(ours.encode(" ".join(words))) == 64 - 12
    assert ours.sample([" ".join(words)], seed=0) == ours.sample([" ".join(words[-52:])], seed=0)


def test_an_empty_prompt_starts_from_the_end_of_text() -> None:
    ours = sampler()
    assert ours.encode(" ") == (END,)
    ours.tokenizer.eos_token = None
    with pytest.raises(DataError, match="prompt must not be empty, got ''"):
        ours.encode("")


# -- trouble


def test_weights_that_give_nan_are_an_error() -> None:
    model: Any = make_model("llama")
    good = sampler(model)
    with torch.no_grad():
        model.get_output_embeddings().weight[3, 0] = float("nan")
    with pytest.raises(ModelError, match="the logits of the language model must be finite, got nan"):
        good.sample(["w1 w2"], seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a number of at least 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_k": -1}, "top_k must be an integer of at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer of at least 1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"stop": "word"}, "stop must be sentence, newline or eos, got word"),
        ({"prefix_cache_mb": -1.0}, "prefix_cache_mb must be at least 0"),
        ({"precision": "half"}, "precision must be auto, float32 or bfloat16"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingConfig(**changes)  # type: ignore[arg-type]


def test_no_room_for_a_prompt() -> None:
    with pytest.raises(
        ConfigError, match="max_new_tokens must be below the model's context of 64 tokens, got 64"
    ):
        sampler(max_new_tokens=64)
