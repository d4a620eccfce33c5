"""The filtered generator: draw, score, keep or reject until one passes or the budget ends; then it abstains.

Nothing leaves that the classifier did not pass. A candidate without a valid score (the classifier raised,
gave NaN, a number outside [0, 1] or an answer of the wrong shape) is rejected like a bad one, with its
reason.

**Scheduling.** A call to the generator asks for ``batch_size`` draws. While enough prompts wait, each prompt
in flight gets the draws that it needs for its next decision, oldest first, and new prompts enter only when
there is room: the working set stays the same from call to call, which suits a generator that caches prompts.
When no prompt is left to enter, the room goes to draws ahead of need, where they are most likely to be of
use. A prompt's draws are judged in the order they were drawn, and draws behind the one that decided are
dropped and counted as ``stats.surplus``: what is returned has the distribution of one-at-a-time rejection
sampling exactly.

**Seeds.** Call number c of a run uses a seed made of (seed, c), and the schedule depends on scores alone,
never on time. So generator, classifier, prompts, seed and settings together (batch_size and window are
settings) give the same outputs; changing the batch size gives other, equally valid ones.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, ModelError, ScoringError, sentence
from fivenines.filtering.schedule import Draw, Schedule, Slot, check_prompt
from fivenines.filtering.scoring import PatientScorer
from fivenines.models.protocols import GeneratorLike, ScorerLike, forget
from fivenines.records import Candidate, Output, Reason, Snippet

__all__ = ["FilterStats", "FilteredGenerator", "Policy", "Rater", "ThresholdLike", "Tighten"]

Policy = Literal["first", "safest", "best"]
Rater = Callable[[Sequence[Snippet]], ArrayLike]  # one number per snippet; higher is better
Tighten = Callable[[float, int], float]  # (threshold, rejections so far) -> threshold, never a looser one


class ThresholdLike(Protocol):
    """A threshold that knows how it was chosen."""

    @property
    def value(self) -> float: ...


@dataclass
class FilterStats:
    """What a run cost so far. ``drawn`` is the honest cost: it counts draws that nobody looked at too."""

    outputs: int = 0  # finished, abstentions among them
    abstentions: int = 0
    calls: int = 0  # of the generator
    drawn: int = 0
    decided: int = 0  # draws that were looked at: the sum of Output.draws
    surplus: int = 0  # drawn ahead of need, then not needed
    scored: int = 0  # sent to the classifier
    first_draws: int = 0
    first_accepted: int = 0
    generating_seconds: float = 0.0
    scoring_seconds: float = 0.0
    reasons: Counter[Reason] = field(default_factory=Counter)  # of the draws that were looked at

    @property
    def acceptance(self) -> float:
        """Share of the first draws that passed: unbiased for the mean acceptance over prompts.

        The share among all draws is not: prompts that are hard to pass are drawn more often.
        NaN without draws.
        """
        return self.first_accepted / self.first_draws if self.first_draws else float("nan")

    @property
    def draws_per_output(self) -> float:
        """Draws that were looked at, per finished prompt; NaN before the first."""
        return self.decided / self.outputs if self.outputs else float("nan")


@dataclass
class FilteredGenerator:
    """A generator behind a classifier.

    :param generator: draws completions.
    :param classifier: gives P(failure); NaN or an exception rejects the text.
    :param threshold: accept when score < threshold; a number in [0, 1] or an object with ``.value``.
    :param budget: draws for a prompt before it abstains.
    :param policy: "first" returns the first accepted draw; "safest" draws ``n``, returns the one of the
        lowest score if that passes, else draws ``n`` more; "best" draws ``n``, returns the one that ``rater``
        likes best among those that pass, else draws ``n`` more.
    :param n: draws per decision for "safest" and "best".
    :param rater: for "best": a function from snippets to numbers, higher is better; or a scorer, whose score
        is a probability of something bad, so lower is better.
    :param tighten: a factor in (0, 1] by which each rejection multiplies the threshold, or a function of
        (threshold, rejections so far) that never loosens it. Why: a prompt that was rejected k times is one
        that the generator fails on often, and an output counts by 1/A(x) in the failure rate of the system.
        The reweighting of unfiltered draws by 1/A(x) does not hold for a threshold that moves.
    :param batch_size: draws per call of the generator and texts per call of the classifier.
    :param window: prompts held at once, in flight or finished and waiting for their turn; 16 batches if None.
    :param keep_candidates: "all" keeps every candidate that was looked at on the output; "none" saves the
        memory.
    :raises ConfigError: for a setting out of range.
    """

    generator: GeneratorLike
    classifier: ScorerLike
    threshold: float | ThresholdLike
    budget: int = 50
    policy: Policy = "first"
    n: int = 8
    rater: Rater | ScorerLike | None = None
    tighten: float | Tighten | None = None
    batch_size: int = 64
    window: int | None = None
    keep_candidates: Literal["all", "none"] = "all"
    stats: FilterStats = field(default_factory=FilterStats, init=False)

    def __post_init__(self) -> None:
        if self.policy not in ("first", "safest", "best"):
            raise ConfigError(sentence("policy", "must be first, safest or best", self.policy))
        if self.keep_candidates not in ("all", "none"):
            raise ConfigError(sentence("keep_candidates", "must be all or none", self.keep_candidates))
        for name in ("budget", "n", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))
        if self.window is not None and self.window < 1:
            raise ConfigError(
                sentence("window", "must be at least 1", self.window, "Leave it out if unsure.")
            )
        if self.policy != "first" and self.n > self.budget:
            must = f"must not exceed the budget of {self.budget} draws"
            raise ConfigError(sentence("n", must, self.n, "Give a larger budget or a smaller n."))
        if (self.rater is None) == (self.policy == "best"):
            what = f'policy "{self.policy}"'
            raise ConfigError(
                sentence(what, "needs a rater" if self.rater is None else "uses no rater", self.rater)
            )
        self._limits()

    def generate(self, prompts: Iterable[str], *, seed: int = 0, ordered: bool = True) -> Iterator[Output]:
        """One output per prompt. Prompts may be a stream of any length; memory is bounded by ``window``.

        In the order of the prompts; with ``ordered=False`` as they finish, which returns easy prompts first:
        take all of them, or the sample is biased. Stopping early loses only what was not yet yielded.
        ``stats`` describes the run that was started last.

        :raises DataError: for a prompt that is empty or no text, naming its position; from a stream, after
            the outputs of the prompts before it.
        :raises ScoringError: when the classifier gives no valid score for three batches and five prompts in a
            row, or for a whole run because it raised each time. What was yielded before is sound.
        """
        if isinstance(prompts, str):
            raise ConfigError(sentence("prompts", "must be a list or stream of texts", "one text"))
        if seed < 0:
            raise ConfigError(sentence("seed", "must be 0 or more", seed))
        if isinstance(prompts, Sequence):
            for position, prompt in enumerate(prompts):
                check_prompt(position, prompt)
        self.stats = FilterStats()
        return _Run(self, iter(prompts), seed, ordered).outputs()

    def forget(self) -> None:
        """Let the models forget the prompts that they have read: the next run is that of a fresh process."""
        forget(self.generator, self.classifier, self.rater)

    def _limits(self) -> list[float]:
        """The threshold after 0, 1, ... rejections."""
        base = getattr(self.threshold, "value", self.threshold)
        if not isinstance(base, int | float) or not 0.0 <= base <= 1.0:
            raise ConfigError(sentence("threshold", "must lie in [0, 1]", base, "Give a probability."))
        if self.tighten is None:
            return [float(base)] * self.budget
        if isinstance(self.tighten, int | float):
            factor = float(self.tighten)
            if not 0.0 < factor <= 1.0:
                then = "It multiplies the threshold at each rejection."
                raise ConfigError(sentence("tighten", "must lie in (0, 1]", factor, then))
            return [base * factor**rejections for rejections in range(self.budget)]
        limits = [float(self.tighten(base, rejections)) for rejections in range(self.budget)]
        for rejections, (before, limit) in enumerate(zip([base, *limits], limits, strict=False)):
            if not 0.0 <= limit <= before:
                must = f"must stay in [0, {before}] after {rejections} rejections"
                raise ConfigError(sentence("tighten", must, limit, "It may never loosen the threshold."))
        return limits


class _Run:
    """The state of one call of ``generate``."""

    def __init__(self, settings: FilteredGenerator, prompts: Iterator[str], seed: int, ordered: bool) -> None:
        self.settings = settings
        self.stats = settings.stats
        self.limits = settings._limits()
        size, window = settings.batch_size, settings.window
        self.schedule = Schedule(
            prompts,
            size,
            settings.budget,
            per_decision=1 if settings.policy == "first" else settings.n,
            window=16 * size if window is None else window,
        )
        self.scorer = PatientScorer(settings.classifier)
        self.seed = seed
        self.ordered = ordered
        self.finished: dict[int, Output] = {}  # by position; waits for its turn
        self.turn = 0

    def outputs(self) -> Iterator[Output]:
        while plan := self.schedule.plan(len(self.finished)):
            self._draw(plan)
            self.schedule.remove({slot for slot, _ in plan if self._decide(slot)})
            yield from self._ready()
        if self.schedule.prompts_error is not None:
            raise self.schedule.prompts_error
        self.scorer.check_at_end()

    # drawing and scoring

    def _draw(self, plan: list[tuple[Slot, int]]) -> None:
        """Draw and score by the plan; every draw goes to the end of its prompt's queue."""
        slots = [slot for slot, count in plan for _ in range(count)]
        completions = self._sample([slot.prompt for slot in slots])
        filled = [i for i, completion in enumerate(completions) if completion.strip()]
        snippets = [Snippet(slots[i].prompt, completions[i]) for i in filled]
        scores = self._score(snippets)
        ratings = self._rate(snippets, scores)
        drawn: list[tuple[float | None, float]] = [(None, 0.0)] * len(slots)
        for i, score, rating in zip(filled, scores.tolist(), ratings.tolist(), strict=True):
            drawn[i] = (score if score == score else None, rating)  # NaN is no score
        for slot, completion, (score, rating) in zip(slots, completions, drawn, strict=True):
            slot.waiting.append(Draw(completion, score, rating))

    def _sample(self, prompts: list[str]) -> list[str]:
        entropy = np.random.SeedSequence([self.seed, self.stats.calls]).generate_state(1, np.uint64)[0]
        self.stats.calls += 1
        self.stats.drawn += len(prompts)
        begin = time.perf_counter()
        completions = self.settings.generator.sample(prompts, seed=int(entropy) >> 1)  # torch takes 63 bits
        self.stats.generating_seconds += time.perf_counter() - begin
        if len(completions) != len(prompts):
            must = f"must return one completion per prompt ({len(prompts)})"
            raise ModelError(sentence("generator", must, f"{len(completions)} completions"))
        for completion in completions:
            if not isinstance(completion, str):
                raise ModelError(sentence("generator", "must return texts", completion))
        return completions

    def _score(self, snippets: list[Snippet]) -> NDArray[np.float64]:
        begin = time.perf_counter()
        scores = self.scorer.scores(snippets)
        self.stats.scoring_seconds += time.perf_counter() - begin
        self.stats.scored += len(snippets)
        return scores

    def _rate(self, snippets: list[Snippet], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rater's numbers for the draws that can pass, higher is better; an invalid one ranks last."""
        rater = self.settings.rater
        ratings = np.full(len(snippets), -np.inf)
        passing = np.flatnonzero(scores < self.limits[0])  # NaN is not
        if rater is None or not passing.size:
            return ratings
        chosen = [snippets[i] for i in passing]
        if isinstance(rater, ScorerLike):
            rated = -np.asarray(rater.scores(chosen), dtype=np.float64)
        else:
            rated = np.asarray(rater(chosen), dtype=np.float64)
        if rated.shape != passing.shape:
            must = f"must return one number per snippet, shape {passing.shape}"
            raise ScoringError(sentence("rater", must, f"shape {rated.shape}"))
        ratings[passing] = np.nan_to_num(rated, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        return ratings

    # deciding

    def _decide(self, slot: Slot) -> bool:
        """Look at the draws in order until one passes, the budget ends or the queue runs dry."""
        while self.schedule.due(slot) <= 0:
            size = min(self.schedule.per_decision, self.settings.budget - slot.draws)
            draws = [slot.waiting.popleft() for _ in range(size)]
            limit = self.limits[slot.draws]
            kept = self._choose(draws, limit)
            self._record(slot, draws, kept, limit)
            self.schedule.decisions += 1
            if kept is not None:
                self.schedule.accepted += 1
                return self._finish(slot, draws[kept])
            if slot.draws == self.settings.budget:
                return self._finish(slot, None)
        return False

    def _choose(self, draws: list[Draw], limit: float) -> int | None:
        passing = [i for i, draw in enumerate(draws) if draw.below(limit)]
        if not passing:
            return None
        if self.settings.policy == "best":
            return max(passing, key=lambda i: draws[i].rating)
        return min(passing, key=lambda i: draws[i].score or 0.0)  # ties and "first": the earliest

    def _record(self, slot: Slot, draws: list[Draw], kept: int | None, limit: float) -> None:
        if slot.draws == 0:
            self.stats.first_draws += 1
            self.stats.first_accepted += draws[0].below(limit)
        for i, draw in enumerate(draws):
            slot.draws += 1
            if draw.below(limit):
                reason = Reason.ACCEPTED if i == kept else Reason.OUTRANKED
            elif draw.score is not None:
                reason = Reason.SCORE
            else:
                reason = Reason.UNSCORED if draw.completion.strip() else Reason.EMPTY
            self.stats.reasons[reason] += 1
            if self.settings.keep_candidates == "all":
                slot.candidates.append(
                    Candidate(slot.prompt, draw.completion, draw.score, i == kept, reason, slot.draws)
                )

    def _finish(self, slot: Slot, draw: Draw | None) -> bool:
        completion, score = (draw.completion, draw.score) if draw is not None else (None, None)
        output = Output(slot.prompt, completion, score, slot.draws, tuple(slot.candidates))
        self.finished[slot.position] = output
        self.stats.outputs += 1
        self.stats.abstentions += draw is None
        self.stats.decided += slot.draws
        self.stats.surplus += len(slot.waiting)
        return True

    def _ready(self) -> Iterator[Output]:
        if not self.ordered:
            while self.finished:
                yield self.finished.pop(next(iter(self.finished)))
        while self.turn in self.finished:
            output = self.finished.pop(self.turn)
            self.turn += 1
            yield output
