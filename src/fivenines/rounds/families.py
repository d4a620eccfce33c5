"""The attacks that a task names, made for a classifier."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from fivenines.attacks.attack import Attack
from fivenines.attacks.candidates import Masked, Source, WordList
from fivenines.attacks.characters import CharacterNoise
from fivenines.attacks.constraints import (
    Constraint,
    Fluent,
    KeepWords,
    MaxWordsChanged,
    SimilarMeaning,
    StillFails,
)
from fivenines.attacks.goal import Goal
from fivenines.attacks.gradient_swaps import GradientSwaps
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.paraphrase import FewShot, Paraphrase, Rewrite, Rewriter
from fivenines.attacks.prompt_search import PromptSearch
from fivenines.attacks.recombination import Recombination
from fivenines.attacks.sampling import Sampling
from fivenines.attacks.search import Beam, BestFirst, Greedy, Strategy
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.errors import ConfigError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.language_model import LanguageModel
from fivenines.models.masked import MaskedLanguageModel
from fivenines.models.protocols import GeneratorLike
from fivenines.models.sentences import SentenceEncoder
from fivenines.pipeline.learning import load_generator
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Answer, Snippet
from fivenines.rounds.expert import guided_generator
from fivenines.rounds.word_files import read_examples, read_word_list, read_words
from fivenines.storyworld import SimulatedAttacker, Truth, truth, vocabulary
from fivenines.task import Task

__all__ = [
    "DRAWING",
    "HOW",
    "Arsenal",
    "arsenal_of",
    "attack_files",
    "attacks_of",
    "goal_of",
    "simulated_rewriter",
    "storyworld_fails",
]

# of [attack]: what its attacks read, and all that says how they attack
FILES = ("words", "keep", "examples", "masked_model", "paraphraser")
HOW = ("search", "shortlist", "max_changed", "similarity", "fluency", *FILES)
# families that draw from a generator: they start from prompts and edit nothing
DRAWING = ("sampling", "guided")


def goal_of(task: Task, classifier: Classifier, threshold: float) -> Goal:
    """To fool this classifier at this threshold. storyworld's truth confirms at once, people do so afterwards."""
    return Goal(classifier, threshold, storyworld_fails if task.labels.source == "storyworld" else None)


def attack_files(task: Task) -> dict[str, str | Path]:
    """The files and model folders that the attacks of a task read; a name on the hub stands for itself."""
    settings, found = task.attack, dict[str, str | Path]()
    for name in FILES:
        value = getattr(settings, name)
        if value is not None:
            found[name] = task.path(value) if task.path(value).exists() else value
    return found


@dataclass
class Arsenal:
    """What the attacks of a task are made of. ``prompts``: those under which completions are put; ``generator`` loads
    the task's own, which draws for the family "sampling", and ``guided`` the one led towards failures. ``answer``: what
    the texts are that are edited, failing or harmless.

    Models are loaded when a family needs them, and once, for :meth:`twin` too.
    """

    task: Task
    prompts: Sequence[str]
    generator: Callable[[], LanguageModel]
    guided: Callable[[], GeneratorLike]
    answer: Answer = Answer.FAILURE

    def twin(self, answer: Answer) -> Arsenal:
        """The same means, to edit texts of another kind."""
        other = copy.copy(self)
        other.answer = answer
        return other

    def attack(self, family: str, classifier: Classifier) -> Attack:
        """The attack of this family on ``classifier``; it is named after its family.

        :raises ConfigError: for a family whose means the task does not name.
        """
        maker: dict[str, Callable[[Classifier], Attack]] = {
            "words": self._words,
            "characters": self._characters,
            "gradient": self._gradient,
            "recombination": self._recombination,
            "prompts": self._prompts,
            "paraphrase": self._paraphrase,
            "sampling": self._sampling,
            "guided": self._guided,
        }
        return maker[family](classifier)

    # -- a method a family

    def _words(self, classifier: Classifier) -> Attack:
        return WordSubstitution(
            self._source,
            gradient=Gradients(classifier),
            strategy=self._strategy,
            operations=("replace", "insert", "delete"),
            shortlist=self.task.attack.shortlist,
            keep=self._kept,
            constraints=self._constraints,
            name="words",
        )

    def _characters(self, classifier: Classifier) -> Attack:
        return CharacterNoise(
            gradient=Gradients(classifier),
            strategy=self._strategy,
            keep=self._kept,
            constraints=self._constraints,
            name="characters",
        )

    def _gradient(self, classifier: Classifier) -> Attack:
        gradient = Gradients(classifier)
        return GradientSwaps(gradient, keep=self._kept, constraints=self._constraints, name="gradient")

    def _recombination(self, classifier: Classifier) -> Attack:
        return Recombination(self.prompts, constraints=self._truth, name="recombination")

    def _prompts(self, classifier: Classifier) -> Attack:
        return PromptSearch(self.prompts, constraints=self._truth, name="prompts")

    def _paraphrase(self, classifier: Classifier) -> Attack:
        return Paraphrase(self._rewriter, constraints=self._constraints, name="paraphrase")

    def _sampling(self, classifier: Classifier) -> Attack:
        return Sampling(self._generator, name="sampling")

    def _guided(self, classifier: Classifier) -> Attack:
        return Sampling(self._guide, name="guided")

    # -- what they are made of

    @property
    def _strategy(self) -> Strategy:
        kinds: dict[str, Strategy] = {"greedy": Greedy(places=4), "beam": Beam(), "best first": BestFirst()}
        return kinds[self.task.attack.search]

    @cached_property
    def _source(self) -> Source:
        settings = self.task.attack
        if settings.masked_model is not None:
            return Masked(MaskedLanguageModel.load(self.task.model_source(settings.masked_model)))
        if settings.words is not None:
            return read_word_list(self.task.path(settings.words))
        if self.task.labels.source == "storyworld":
            words = [word for word in vocabulary() if word.isalpha()]
            return WordList({word.lower(): words for word in words}, insertions=words)
        then = "Name attack.words (a list of your own) or attack.masked_model (see fivenines train-masked)."
        raise ConfigError(
            sentence("attack family words", "needs to know which words to try", "neither", then)
        )

    @cached_property
    def _rewriter(self) -> Rewriter:
        settings = self.task.attack
        if settings.paraphraser is not None and settings.examples is not None:
            model = LanguageModel.load(self.task.model_source(settings.paraphraser))
            return FewShot(model.with_sampling(stop="eos"), read_examples(self.task.path(settings.examples)))
        if self.task.labels.source == "storyworld":
            return simulated_rewriter
        then = "Name attack.paraphraser, a model, and attack.examples, a JSONL file."
        raise ConfigError(sentence("attack family paraphrase", "needs a model and examples", "neither", then))

    @cached_property
    def _kept(self) -> frozenset[str]:
        keep = self.task.attack.keep
        return frozenset() if keep is None else frozenset(read_words(self.task.path(keep)))

    @property
    def _constraints(self) -> tuple[Constraint, ...]:
        """On edits that should keep the label, the cheapest first."""
        return (*self._truth, *self._limits)

    @cached_property
    def _limits(self) -> tuple[Constraint, ...]:
        settings, found = self.task.attack, list[Constraint]()
        if self._kept:
            found.append(KeepWords(self._kept))
        if settings.max_changed is not None:
            found.append(MaxWordsChanged(settings.max_changed))
        if settings.similarity is not None:
            found.append(SimilarMeaning(SentenceEncoder.load(), settings.similarity))
        if settings.fluency is not None:
            found.append(Fluent(self._generator, settings.fluency))
        return tuple(found)

    @cached_property
    def _guide(self) -> GeneratorLike:
        return self.guided()

    @cached_property
    def _generator(self) -> LanguageModel:
        return self.generator()

    @property
    def _truth(self) -> tuple[Constraint, ...]:
        """storyworld's truth costs nothing and is asked before the classifier is."""
        if self.task.labels.source != "storyworld":
            return ()
        return (StillFails(storyworld_fails if self.answer is Answer.FAILURE else _fine),)


def arsenal_of(work: Workspace, prompts: Sequence[str]) -> Arsenal:
    """The means of a task, to put completions under ``prompts``."""
    return Arsenal(work.task, prompts, partial(load_generator, work), partial(guided_generator, work))


def attacks_of(arsenal: Arsenal, families: Iterable[str], classifier: Classifier) -> dict[str, Attack]:
    """All of them, so that one which cannot be made is known before the others have taken their time."""
    return {family: arsenal.attack(family, classifier) for family in families}


def storyworld_fails(snippets: Sequence[Snippet], /) -> list[bool]:
    """Whether each text is a failure by storyworld's truth; what is no story is none."""
    return [truth(snippet) is Truth.FAILURE for snippet in snippets]


def _fine(snippets: Sequence[Snippet]) -> list[bool]:
    return [truth(snippet) is Truth.OK for snippet in snippets]


def simulated_rewriter(requests: Sequence[Rewrite], /) -> list[list[Snippet]]:
    """Edits by a simulated person, who keeps the truth."""
    return [
        SimulatedAttacker("rounds", seed=request.seed).reworked(request.snippet, request.n)
        for request in requests
    ]
