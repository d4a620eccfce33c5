"""A causal language model of transformers: train, sample, measure, save, load."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import NewGELUActivation

from fivenines.errors import ConfigError, DataError, ModelError, sentence
from fivenines.models.batching import Batch, pad, plan_batches, to_device
from fivenines.models.causal import LanguageModelConfig, block_batches, make_causal_model, pack
from fivenines.models.checkpoints import remove_checkpoint
from fivenines.models.continuation import continued
from fivenines.models.devices import place, training_attention, uses_bfloat16
from fivenines.models.folder import Card, load_model, load_tokenizer, read_card, save_folder
from fivenines.models.losses import IGNORE, language_model_loss, token_log_likelihood
from fivenines.models.sampling import Sampler, SamplingConfig, output_size
from fivenines.models.tokenizing import train_tokenizer
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig, TrainingResult
from fivenines.records import Snippet

__all__ = ["LanguageModel", "LanguageModelConfig", "SamplingConfig"]

KIND = "language model"
_LOGITS_AT_ONCE = 2**25  # numbers: 128 MB in float32
_TINY = 1e-12  # variance of what had no choice


class LanguageModel:
    """Continues prompts. Made by :meth:`load` or :meth:`create`; a ``GeneratorLike``."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: SamplingConfig | None = None,
        *,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.sampling = SamplingConfig() if sampling is None else sampling
        self.provenance = {} if provenance is None else provenance
        self.result: TrainingResult | None = None  # of the last fit
        self._sampler: Sampler | None = None

    # -- making

    @classmethod
    def load(cls, name: str | Path, sampling: SamplingConfig | None = None) -> Self:
        """From a folder that :meth:`save` wrote, any folder of transformers with a causal language model and
        its tokenizer, or a hub name.

        Without ``sampling`` a saved model samples as it was saved. Raises ModelError for what cannot be
        loaded.
        """
        card = read_card(name)
        if card is not None and card.kind != KIND:
            raise ModelError(sentence(f"model folder {name}", f"must hold a {KIND}", f"a {card.kind}"))
        if sampling is None and card is not None:
            sampling = SamplingConfig(**card.settings)
        tokenizer = load_tokenizer(name)
        model = load_model(AutoModelForCausalLM, name)
        _fuse_activations(model)
        place(model)
        provenance = {"base": str(name)} if card is None else dict(card.provenance)
        return cls(model, tokenizer, sampling, provenance=provenance)

    @classmethod
    def create(
        cls,
        texts: Sequence[str],
        config: LanguageModelConfig | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Self:
        """A small model with random weights, and a tokenizer trained on ``texts``. Raises DataError for texts
        without words.
        """
        config = LanguageModelConfig() if config is None else config
        tokenizer = train_tokenizer(texts, config.tokenizer, config.vocabulary, config.context)
        model = make_causal_model(config, tokenizer)
        place(model)
        model.train(False)
        return cls(model, tokenizer, sampling, provenance={"base": asdict(config)})

    def forget(self) -> None:
        """Forget the prompts that were read; draws are then those of a fresh process, bit by bit."""
        if self._sampler is not None:
            self._sampler.clear()

    def changed(self) -> None:
        """Say that ``model`` or ``tokenizer`` was changed from outside: the next draw reads them anew."""
        self._sampler = None

    def with_sampling(self, **changes: Any) -> Self:
        """The same model, weights shared, that samples otherwise: ``with_sampling(temperature=0.7)``."""
        return type(self)(
            self.model, self.tokenizer, replace(self.sampling, **changes), provenance=self.provenance
        )

    @property
    def context(self) -> int:
        """The longest text in tokens, prompt and completion together."""
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(context) if context else 2**20

    # -- learning

    def fit(
        self,
        texts: Sequence[str],
        *,
        validation: Sequence[str] | None = None,
        training: TrainingConfig | None = None,
        block: int | None = None,
        folder: Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Learn to write like ``texts``, one document each, from the weights as they are now.

        Texts are packed into blocks of ``block`` tokens (None: the model's context, 1024 at most), with the
        end-of-text token after each. With ``validation`` the weights of the best evaluation are kept, by
        nats per word. With ``folder`` a killed fit goes on from its checkpoint.

        Raises DataError for texts without words, ConfigError for a block that the model cannot take.
        """
        training = TrainingConfig() if training is None else training
        block = min(self.context, 1024) if block is None else block
        if not 2 <= block <= self.context:
            raise ConfigError(sentence("block", f"must lie in [2, {self.context}]", block))
        inputs, labels = self._packed(texts, block)
        source = block_batches(inputs, labels, batch_size=training.batch_size, seed=training.seed)
        validate = None
        if validation is not None:
            held_out = list(validation)
            _count_words(held_out)  # complain now, not after the first epoch
            validate = lambda model: -self.nats_per_word(held_out, block=block)  # noqa: E731
        self.changed()
        with training_attention(self.model):
            result = train(
                self.model, source, _loss, training, validate=validate, folder=folder, progress=progress
            )
        self.learnt(result, training, texts=len(texts), tokens=int((labels != IGNORE).sum()))
        return self

    def learnt(self, result: TrainingResult, training: TrainingConfig, **what: Any) -> None:
        """Take note of a training of ``model``: how it went, and ``what`` was learnt, go into the provenance."""
        self.changed()
        self.result = result
        summary = {k: v for k, v in result.to_dict().items() if k not in ("losses", "seconds")}
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.provenance = self.provenance | {
            **what,
            "training": asdict(training),
            "result": summary,
            "versions": versions | {"transformers": transformers.__version__},
        }

    def _packed(self, texts: Sequence[str], block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        end = self.tokenizer.eos_token_id
        if end is None:
            then = "Set tokenizer.eos_token and save the model again."
            raise ModelError(sentence("tokenizer", "must have an end-of-text token", "none", then))
        kept = [text for text in texts if text.strip()]
        ids = self.tokenizer(kept, verbose=False)["input_ids"] if kept else []
        return pack(ids, block, end)

    # -- measuring

    def nats_per_word(self, texts: Sequence[str], *, block: int | None = None) -> float:
        """Mean negative log-likelihood per word (words are what spaces part), end-of-text tokens included.

        By the word, because a token of one tokenizer is not a token of another. Documents longer than
        ``block`` tokens are read in pieces. Raises DataError for texts without words.
        """
        words = _count_words(texts)
        inputs, labels = self._packed(texts, min(self.context, 1024) if block is None else block)
        total = 0.0
        at_once = max(1, self.tokens_at_once() // inputs.shape[1])
        for start in range(0, len(inputs), at_once):
            rows = slice(start, start + at_once)
            batch = {"input_ids": torch.from_numpy(inputs[rows]), "labels": torch.from_numpy(labels[rows])}
            total -= float(self._likelihoods(batch).sum())
        return total / words

    def log_likelihood(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """log P(completion | prompt) in nats, shape (n,): of the tokens of " completion" after the prompt.

        The end of the completion is not charged. A prompt too long for the context loses its left end. Where
        the tokenizer joins prompt and completion over their border, the joint token is charged.

        Raises DataError for an empty completion or prompt, ModelError for a completion longer than the
        context.
        """
        out = np.zeros(len(snippets))
        for rows, batch in self._charged(snippets):
            out[rows] = self._likelihoods(batch).sum(dim=-1).cpu().numpy()
        return out

    @torch.inference_mode()
    def surprise(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """How odd a completion is for the model, shape (n,): its surprise in standard deviations of what is expected.

        sum_t (-log p_t - H_t) / sqrt(sum_t V_t) over its tokens, with the entropy H_t of the next token and the
        variance V_t of its -log p. For draws of the model at temperature 1 the terms are martingale differences, so
        that it has about mean 0 and variance 1; the idea is that of the typical set (Nalisnick et al., arXiv
        1906.02994). Of two accepted texts the odder is the one to doubt: classifiers err where their training data
        hold nothing alike.

        Raises as :meth:`log_likelihood`.
        """
        self.model.train(False)
        out = np.zeros(len(snippets))
        for rows, batch in self._charged(snippets):
            batch = to_device(batch, self.model.device)
            logits = self.model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1].float()
            labels = batch["labels"][:, 1:]
            log_p = logits.log_softmax(dim=-1)  # (n, t - 1, vocabulary)
            p, charged = log_p.exp(), labels != IGNORE
            entropy = -(p * log_p).sum(dim=-1)
            variance = (p * log_p.square()).sum(dim=-1) - entropy.square()
            excess = -log_p.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1) - entropy
            sums = [(each * charged).sum(dim=-1).double() for each in (excess, variance)]
            out[rows] = (sums[0] / sums[1].clamp_min(_TINY).sqrt()).cpu().numpy()
        return out

    def _charged(self, snippets: Sequence[Snippet]) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """Rows and their batch, in which the tokens of the completions alone are charged."""
        found = continued(self.tokenizer, snippets)
        texts = [self._fitting(snippet, *pair) for snippet, pair in zip(snippets, found, strict=True)]
        for rows in plan_batches([len(ids) for ids, _ in texts], max_tokens=self.tokens_at_once()):
            ids = pad([texts[i][0] for i in rows], 0)  # on the right, where a causal model does not look
            labels = ids.clone()
            for row, i in enumerate(rows):
                labels[row, : texts[i][1]] = IGNORE
                labels[row, len(texts[i][0]) :] = IGNORE
            yield rows, {"input_ids": ids, "labels": labels}

    def _fitting(self, snippet: Snippet, ids: list[int], before: int) -> tuple[list[int], int]:
        """The tokens of a snippet and how many of them are the prompt's, cut on the left to the context."""
        if not snippet.completion.strip():
            raise DataError(sentence("completion", "must not be empty", repr(snippet.completion)))
        if before == 0:
            raise DataError(sentence("prompt", "must not be empty", repr(snippet.prompt)))
        extra = max(0, len(ids) - self.context)
        if extra >= before:
            must = f"must fit into the model's context of {self.context} tokens"
            raise ModelError(sentence("completion", must, f"{len(ids) - before} tokens"))
        return ids[extra:], before - extra

    def tokens_at_once(self) -> int:
        """How many tokens to read in one batch, so that their logits fit into memory."""
        return min(8192, max(self.context, _LOGITS_AT_ONCE // output_size(self.model)))

    @torch.inference_mode()
    def _likelihoods(self, batch: Batch) -> Tensor:
        """Nats of each charged token, (n, t - 1) float64; in float32 whatever the training ran in."""
        self.model.train(False)
        batch = to_device(batch, self.model.device)
        logits = self.model(input_ids=batch["input_ids"], use_cache=False).logits
        return token_log_likelihood(logits, batch["labels"]).double()

    # -- sampling

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt, as ``self.sampling`` says; see ``GeneratorLike``.

        Raises ModelError for weights that give no finite logits.
        """
        if isinstance(prompts, str):
            raise DataError(sentence("prompts", "must be a list of texts", "one text"))
        return self.sampler.sample(prompts, seed)

    @property
    def sampler(self) -> Sampler:
        """Draws as ``self.sampling`` says, and remembers the prompts that it read."""
        if self._sampler is None or self._sampler.config != self.sampling:
            self._sampler = Sampler(self._as_sampled(), self.tokenizer, self.sampling)
        return self._sampler

    def _as_sampled(self) -> PreTrainedModel:
        """The model in the precision of sampling: itself, or a copy."""
        self.model.train(False)
        precision = self.sampling.precision
        if precision == "auto":
            precision = _sampling_precision(self.model)
        if precision == "float32":
            return self.model
        half: nn.Module = copy.deepcopy(self.model)
        half.to(torch.bfloat16)
        return half  # type: ignore[return-value]

    # -- keeping

    def save(self, folder: str | Path, *, tags: dict[str, Any] | None = None) -> None:
        """A plain transformers folder and ``fivenines.json``, with a scheme of ``tags`` in it where there is one.

        Removes a training checkpoint that stands there. Raises ResourceError when the disk is full.
        """
        card = Card(KIND, asdict(self.sampling), provenance=self.provenance, tags=tags)
        save_folder(Path(folder), self.model, self.tokenizer, card)
        remove_checkpoint(Path(folder))


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return language_model_loss(logits, batch["labels"])


def _count_words(texts: Sequence[str]) -> int:
    words = sum(len(text.split()) for text in texts)
    if words == 0:
        raise DataError(sentence("texts", "must hold words", "none"))
    return words


def _fuse_activations(model: PreTrainedModel) -> None:
    """GPT-2's and GPT-Neo's GELU as one fused operation instead of eight: the same function (tanh form)."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _sampling_precision(model: PreTrainedModel) -> str:
    """bfloat16 on an accelerator that has it; float32 on a CPU."""
    on_cpu = model.device.type == "cpu"
    return "bfloat16" if not on_cpu and uses_bfloat16("auto", model.device) else "float32"
