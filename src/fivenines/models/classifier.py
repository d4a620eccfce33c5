"""A sequence classifier of transformers as the judge of snippets: fit, calibrate, score, save, load."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import transformers
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import to_device
from fivenines.models.calibration import Calibration, Method, log_loss
from fivenines.models.checkpoints import remove_checkpoint
from fivenines.models.classifier_config import ClassifierConfig
from fivenines.models.continuation import ContinuationEncoder
from fivenines.models.devices import autocast, place, training_attention
from fivenines.models.encoders import EncoderConfig, make_encoder, train_pair_tokenizer
from fivenines.models.folder import Card, load_tokenizer, read_card, save_folder
from fivenines.models.heads import load_with_head, reads_left_to_right
from fivenines.models.language_model import KIND as GENERATOR
from fivenines.models.losses import as_two_classes
from fivenines.models.masked import KIND as MASKED
from fivenines.models.objective import Lesson, calibration_of, lesson_of
from fivenines.models.optimizers import freeze_bottom
from fivenines.models.pairs import LONGEST, Encoded, PairEncoder, readable_length
from fivenines.models.prefix_scoring import PrefixScorer, make_prefix_scorer
from fivenines.models.sittings import continuation_folder, remove_continuations
from fivenines.models.teaching import course_of, readable
from fivenines.models.training import train
from fivenines.models.training_config import Precision, TrainingConfig, TrainingResult
from fivenines.records import Judgment, Snippet

__all__ = ["Classifier", "ClassifierConfig", "Judged"]

KIND = "classifier"
Judged = tuple[Sequence[Snippet], Sequence[Judgment]]
_AT_ONCE = 16384  # snippets tokenized together when scoring: bounds the memory


class Classifier:
    """P(failure) of a completion given its prompt. Made by :meth:`load` or :meth:`create`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: ClassifierConfig,
        *,
        calibration: Calibration | None = None,
        provenance: dict[str, Any] | None = None,
        fitted: bool = True,
    ) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.calibration = Calibration() if calibration is None else calibration
        self.provenance = {} if provenance is None else provenance
        self.fitted = self._initially_fitted = fitted
        self.result: TrainingResult | None = None  # of the last fit
        self._prefixes: PrefixScorer | None = None
        self._prefixes_tried = False  # None may mean that the model does not allow it
        self._initial: dict[str, Tensor] | None = None  # the weights that every fit starts from
        self._initial_provenance = dict(self.provenance)
        freeze_bottom(model, config.freeze_layers)
        limit = readable_length(model, tokenizer)
        if config.max_length is not None and config.max_length > limit:
            raise ConfigError(
                sentence("max_length", f"must be at most {limit} for this model", config.max_length)
            )
        length = min(limit, LONGEST) if config.max_length is None else config.max_length
        reader = ContinuationEncoder if reads_left_to_right(model.config) else PairEncoder
        self.pairs = reader(tokenizer, length)

    # -- making

    @classmethod
    def load(cls, name: str | Path, config: ClassifierConfig | None = None) -> Self:
        """From a folder that :meth:`save` wrote, any encoder, decoder or classifier folder of transformers (a
        generator's or a masked language model's too: what it knows of its texts is a head start), a hub name,
        "minilm".

        Without ``config`` a saved classifier reads as it was saved. A model without a head for
        ``config.outputs`` gets a new one, and must be fitted before it scores. Raises ModelError for what
        cannot be loaded.
        """
        card = read_card(name)
        if card is not None and card.kind in (GENERATOR, MASKED):
            card = None
        if card is not None and card.kind != KIND:
            raise ModelError(sentence(f"model folder {name}", f"must hold a {KIND}", f"a {card.kind}"))
        if config is None:
            config = ClassifierConfig() if card is None else ClassifierConfig.from_dict(card.settings)
        tokenizer = load_tokenizer(name)
        model, fresh = load_with_head(
            name,
            tokenizer,
            outputs=config.outputs,
            head=config.head,
            dropout=config.dropout,
            seed=config.seed,
        )
        place(model)
        calibration = None
        if card is not None and card.calibration is not None and not fresh:
            calibration = Calibration.from_dict(card.calibration)
        return cls(
            model,
            tokenizer,
            config,
            calibration=calibration,
            provenance=dict(card.provenance) if card is not None else {"base": str(name)},
            fitted=not fresh,
        )

    @classmethod
    def create(
        cls,
        texts: Sequence[str],
        config: ClassifierConfig | None = None,
        encoder: EncoderConfig | None = None,
    ) -> Self:
        """A small encoder from scratch with a tokenizer trained on ``texts``; it must be fitted before it
        scores.
        """
        config = ClassifierConfig() if config is None else config
        encoder = EncoderConfig() if encoder is None else encoder
        if config.dropout is not None:
            encoder = replace(encoder, dropout=config.dropout)
        tokenizer = train_pair_tokenizer(texts, encoder)
        model = make_encoder(encoder, tokenizer, outputs=config.outputs, seed=config.seed, head=config.head)
        place(model)
        return cls(model, tokenizer, config, provenance={"base": asdict(encoder)}, fitted=False)

    # -- learning

    def fit(
        self,
        snippets: Sequence[Snippet],
        judgments: Sequence[Judgment],
        *,
        weights: ArrayLike | None = None,
        texts: Sequence[str] = (),
        validation: Judged | None = None,
        training: TrainingConfig | None = None,
        folder: Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Learn from judged snippets, from the weights that were loaded or created; earlier fits are
        forgotten.

        ``weights`` (n,) multiply the loss of each snippet. ``texts`` of the domain, unjudged, are read besides
        (see ``config.language_weight``). With ``validation`` the best evaluation is kept.
        With ``folder`` a killed fit goes on from its checkpoint. Snippets whose completion does not fit are
        left out, counted in ``provenance`` and logged. The calibration becomes the identity.

        Raises NotEnoughDataError unless both answers are there, ModelError when no completion fits.
        """
        lesson = lesson_of(snippets, judgments, self.config.objective, weights, training=True)
        lesson = replace(lesson, texts=tuple(texts))
        return self.learn(
            snippets, lesson, validation=validation, training=training, folder=folder, progress=progress
        )

    def learn(
        self,
        snippets: Sequence[Snippet],
        lesson: Lesson,
        *,
        start: Literal["initial", "current"] = "initial",
        validation: Judged | None = None,
        training: TrainingConfig | None = None,
        folder: Path | None = None,
        progress: bool = False,
    ) -> Self:
        """As :meth:`fit`, of targets that need not be judgments: ``lesson.index`` counts in ``snippets``.

        ``start="current"`` goes on from the weights as they are, with a fresh optimizer; what was learned since
        loading stays, and the next fit forgets this as well. A killed one goes on from its checkpoint when the
        same calls are made again; the checkpoint of one that began elsewhere is never taken for it.
        """
        training = TrainingConfig() if training is None else training
        self._begin(start)
        place = folder if folder is None or start == "initial" else continuation_folder(folder, self.model)
        known, encoded = readable(self.pairs, snippets, lesson)
        course = course_of(self.model, self.pairs, known, encoded, self.config, training)
        validate = None if validation is None else self._validator(validation)
        training = replace(training, precision=self._precision(training.precision))
        with training_attention(self.model):
            self.result = train(
                course.model,
                course.source,
                course.loss,
                training,
                validate=validate,
                folder=place,
                about=course.about,
                progress=progress,
            )
        self.fitted = True
        self._note(len(snippets), known, start, training, self.result)
        return self

    def _begin(self, start: Literal["initial", "current"]) -> None:
        if start not in ("initial", "current"):
            raise ConfigError(sentence("start", "must be initial or current", start))
        if self._initial is None:
            self._initial = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        elif start == "initial":
            self.model.load_state_dict(self._initial)
        self._prefixes = None  # it remembers prompts as the old weights read them
        self._prefixes_tried = False
        self.calibration = Calibration()
        if start == "initial":
            self.fitted = self._initially_fitted
            self.provenance = dict(self._initial_provenance)

    def _note(
        self, given: int, known: Lesson, start: str, training: TrainingConfig, result: TrainingResult
    ) -> None:
        summary = {k: v for k, v in result.to_dict().items() if k not in ("losses", "seconds")}
        again = {"continued": self.provenance.get("continued", 0) + 1} if start == "current" else {}
        self.provenance = self.provenance | again
        self.provenance |= {
            "snippets": given,
            "left out": given - len(known),
            "failures": int(np.sum(known.targets > 0.5)),
            "training": asdict(training),
            "result": summary,
            "versions": {"python": platform.python_version(), "torch": torch.__version__}
            | {"transformers": transformers.__version__},
        }

    def _precision(self, wanted: Precision) -> Precision:
        """transformers' first DeBERTa fills its mask with the least float32 and so fails in bfloat16."""
        return "float32" if wanted == "auto" and self.model.config.model_type == "deberta" else wanted

    def _validator(self, validation: Judged) -> Any:
        """A function of the model that grows with its quality on the validation set."""
        snippets, judgments = validation
        lesson, encoded = readable(
            self.pairs, snippets, lesson_of(snippets, judgments, self.config.objective)
        )
        items = [encoded[int(i)] for i in lesson.index]
        clear = lesson.targets != 0.5
        answers = lesson.targets > 0.5

        def validate(model: nn.Module) -> float:
            margins = self._margins(items)
            if self.config.select_by == "log_loss":
                return -log_loss(Calibration()(margins), lesson.targets)
            metric = (
                average_precision_score if self.config.select_by == "average_precision" else roc_auc_score
            )
            return float(metric(answers[clear], margins[clear]))

        return validate

    # -- scoring

    def margins(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """log P(failure) - log P(ok) before calibration, shape (n,); NaN for what cannot be read whole.

        A snippet's margin does not depend on what is scored with it, beyond the rounding of float32. Raises
        ModelError before the first fit.
        """
        if not self.fitted:
            raise ModelError("classifier must be fitted before it scores, got a new head. Call fit first.")
        out = np.full(len(snippets), np.nan)
        for start in range(0, len(snippets), _AT_ONCE):
            some = snippets[start : start + _AT_ONCE]
            scorer = self._prefix_scorer()
            found = self._margins_whole(some) if scorer is None else self._margins_after_prompts(some, scorer)
            out[start : start + len(some)] = found
        return out

    def forget(self) -> None:
        """Forget the prompts that were read; scores are then those of a fresh process, bit by bit."""
        if self._prefixes is not None:
            self._prefixes.clear()

    def _prefix_scorer(self) -> PrefixScorer | None:
        """Reads each prompt once; None for models that do not allow it, found out at the first scoring."""
        if not self._prefixes_tried and isinstance(self.pairs, ContinuationEncoder):
            self.model.train(False)
            self._prefixes = make_prefix_scorer(
                self.model,
                megabytes=self.config.prefix_cache_mb,
                tokens=self.pairs.max_length,
                precision=self._precision(self.config.precision),
            )
        self._prefixes_tried = True
        return self._prefixes

    def _margins_whole(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        out = np.full(len(snippets), np.nan)
        pairs = self.pairs.encode(snippets)
        readable = [i for i, pair in enumerate(pairs) if pair is not None]
        if readable:
            out[readable] = self._margins([pair for pair in pairs if pair is not None])
        return out

    def _margins_after_prompts(
        self, snippets: Sequence[Snippet], scorer: PrefixScorer
    ) -> NDArray[np.float64]:
        """As :meth:`_margins_whole`; what has no prompt is read whole."""
        assert isinstance(self.pairs, ContinuationEncoder)
        self.model.train(False)
        out = np.full(len(snippets), np.nan)
        parts = {i: both for i, both in enumerate(self.pairs.split(snippets)) if both is not None}
        known = [i for i, (prompt, _) in parts.items() if prompt]
        if known:
            logits = scorer.logits([parts[i] for i in known], self.config.scoring_tokens)
            out[known] = _margins_of(logits)
        if bare := [i for i in parts if not parts[i][0]]:
            out[bare] = self._margins_whole([snippets[i] for i in bare])
        return out

    @torch.inference_mode()
    def _margins(self, encoded: Sequence[Encoded]) -> NDArray[np.float64]:
        self.model.train(False)
        device, precision = self.model.device, self._precision(self.config.precision)
        out = np.empty(len(encoded))
        for rows, width in self.pairs.scoring_batches(encoded, self.config.scoring_tokens):
            batch = to_device(self.pairs.collate([encoded[i] for i in rows], width), device)
            with autocast(precision, device):
                logits = self.model(**batch).logits
            out[rows] = _margins_of(logits)
        return out

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(failure), shape (n,), in [0, 1]. NaN where a completion does not fit whole: a filter must
        reject it.
        """
        return self.calibration(self.margins(snippets))

    def log_odds(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """The log odds of :meth:`scores`, shape (n,), which do not saturate; NaN as there."""
        return self.calibration.log_odds(self.margins(snippets))

    def calibrate(
        self,
        snippets: Sequence[Snippet],
        judgments: Sequence[Judgment],
        *,
        weights: ArrayLike | None = None,
        method: Method = "platt",
    ) -> Self:
        """Make the scores mean probabilities, by held-out judged snippets. The ranking does not change.

        ``weights`` (n,), e.g. 1 / inclusion, make them mean it for the pool that the snippets were drawn
        from. Raises NotEnoughDataError unless both answers are there.
        """
        lesson = lesson_of(snippets, judgments, self.config.objective, weights)
        margins = self.margins([snippets[i] for i in lesson.index])
        self.calibration = calibration_of(margins, lesson, method)
        return self

    # -- keeping

    def save(self, folder: str | Path) -> None:
        """A plain transformers folder and ``fivenines.json``. Removes a training checkpoint that stands
        there.

        Raises ModelError for a classifier with a new head, ResourceError when the disk is full.
        """
        if not self.fitted:
            raise ModelError("classifier must be fitted before it is saved, got a new head. Call fit first.")
        names = ("ok", "failure") if self.config.outputs == 2 else ("failure",)
        self.model.config.id2label = dict(enumerate(names))
        self.model.config.label2id = {name: i for i, name in enumerate(names)}
        card = Card(KIND, asdict(self.config), self.calibration.to_dict(), self.provenance)
        save_folder(Path(folder), self.model, self.tokenizer, card)
        remove_checkpoint(Path(folder))
        remove_continuations(Path(folder))


def _margins_of(logits: Tensor) -> NDArray[np.float64]:
    """log P(failure) - log P(ok), shape (n,), of logits (n, 1) or (n, 2)."""
    two = as_two_classes(logits.float())
    margins: NDArray[np.float64] = (two[:, 1] - two[:, 0]).double().cpu().numpy()
    return margins
