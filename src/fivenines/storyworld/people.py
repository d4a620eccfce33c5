"""Simulated people: labelers, raters and attackers. They see texts, and attackers the classifier's score."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.records import Answer, Comparison, Label, Severity, Snippet
from fivenines.storyworld.coherence import coherence
from fivenines.storyworld.grammar import PREFIXES, SUFFIXES
from fivenines.storyworld.lexicon import CLASS_OF, CLASSES, FEMALE, GENDER, MALE, detokenize, tokenize
from fivenines.storyworld.reading import Truth, read, truth

__all__ = ["Attempted", "SimulatedAttacker", "SimulatedLabeler", "SimulatedRater"]


def _share(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(sentence(what, "must lie in [0, 1]", value))


@dataclass(frozen=True)
class SimulatedLabeler:
    """Reads as :func:`truth` does, and errs: wrong with probability ``noise``, unsure with probability
    ``unsure``.

    The same labeler gives the same snippet the same label. What is no story hurts nobody: ok.
    """

    name: str
    noise: float = 0.02
    unsure: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _share("noise", self.noise)
        _share("unsure", self.unsure)

    def label(self, snippet: Snippet) -> Label:
        """The label, with severity and the seconds that it took."""
        rng = random.Random(f"label {self.seed} {self.name} {snippet.id}")
        reading = read(snippet)
        failure = reading.truth is Truth.FAILURE
        draw = rng.random()
        seconds = round((3 + 0.15 * len(snippet.text.split())) * rng.lognormvariate(0, 0.4), 1)
        if draw < self.unsure:
            return Label(snippet.id, self.name, Answer.UNSURE, Severity.BORDERLINE, seconds=seconds)
        erred = draw < self.unsure + self.noise
        answer = Answer.FAILURE if failure != erred else Answer.OK
        severity = Severity.NONE if answer is Answer.OK else Severity.CLEAR
        if erred:
            severity = Severity.BORDERLINE
        elif failure and any(harm.new and harm.way == "death" for harm in reading.harms):
            severity = Severity.EGREGIOUS
        return Label(snippet.id, self.name, answer, severity, seconds=seconds)


@dataclass(frozen=True)
class SimulatedRater:
    """Prefers the more coherent of two completions, with Gaussian ``noise`` (in units of coherence).

    Blind: shown in the other order, the same completion is preferred. Equal texts are a tie.
    """

    name: str
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ConfigError(sentence("noise", "must be 0 or more", self.noise))

    def compare(self, prompt: str, left: str, right: str) -> Comparison:
        """Which of two completions of a prompt reads better."""
        first, second = sorted((left, right))
        rng = random.Random(f"compare {self.seed} {self.name} {prompt} {first} {second}")
        margin = (
            coherence(Snippet(prompt, first)) - coherence(Snippet(prompt, second)) + rng.gauss(0, self.noise)
        )
        seconds = round(12 * rng.lognormvariate(0, 0.4), 1)
        preferred = "tie"
        if left != right and margin != 0:
            preferred = "left" if (margin > 0) == (first == left) else "right"
        return Comparison(prompt, left, right, self.name, preferred, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Attempted:
    """A text that an attacker looked at, and the score that it was shown."""

    snippet: Snippet
    score: float


_PLAIN = ("It rained all day.", "The light was low and the day was long.", "The bread smelled good.")
_SAME_MEANING = ("It was true that", "It was not true that")


@dataclass
class SimulatedAttacker:
    """Rewrites a failing snippet word by word until a classifier passes it, and keeps it failing.

    It knows what a person at the screen knows: the text, the vocabulary, whether the text still fails when
    read, and the score of each text that it tries. ``patience`` is the number of tries without gain after
    which it gives up.
    """

    name: str
    seed: int = 0
    patience: int = 60
    _rng: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"attack {self.seed} {self.name}")

    def propose(self, snippet: Snippet, n: int = 1) -> list[Snippet]:
        """Up to ``n`` different edits of a snippet, one edit each, all of which still fail.

        Raises:
            DataError: the snippet does not fail, so there is nothing to hide.
        """
        if truth(snippet) is not Truth.FAILURE:
            raise DataError(sentence("the snippet to attack", "must be a failure", snippet.text))
        return self.reworked(snippet, n)

    def reworked(self, snippet: Snippet, n: int = 1) -> list[Snippet]:
        """Up to ``n`` different edits of a story, one edit each, that keep its truth, whichever it is."""
        wanted = truth(snippet)
        found: dict[str, Snippet] = {}
        for _ in range(40 * n):
            edited = self._edit(snippet)
            if edited != snippet and edited.id not in found and truth(edited) is wanted:
                found[edited.id] = edited
                if len(found) == n:
                    break
        return list(found.values())

    def attack(
        self, snippet: Snippet, score: Callable[[Snippet], float], threshold: float, tries: int = 200
    ) -> list[Attempted]:
        """All texts tried in order, the last one fooling the classifier (score below the threshold) if one
        did.

        Goes on from the best text so far, as a person does.
        """
        seen = [Attempted(snippet, score(snippet))]
        best, idle = seen[0], 0
        while best.score >= threshold and len(seen) <= tries and idle < self.patience:
            proposed = self.propose(best.snippet)
            if not proposed:
                break
            tried = Attempted(proposed[0], score(proposed[0]))
            seen.append(tried)
            idle = 0 if tried.score < best.score else idle + 1
            best = tried if tried.score < best.score else best
        return seen

    def _edit(self, snippet: Snippet) -> Snippet:
        kinds = (
            self._swap_word,
            self._swap_word,
            self._rename,
            self._adverb,
            self._plain_sentence,
            self._reword,
        )
        prompt, completion = self._rng.choice(kinds)(snippet.prompt, snippet.completion)
        return Snippet(prompt, completion, snippet.source)

    def _swap_word(self, prompt: str, completion: str) -> tuple[str, str]:
        """Another word of the same class, in the completion or the prompt."""
        in_completion = self._rng.random() < 0.6
        tokens = tokenize(completion if in_completion else prompt)
        places = [at for at, token in enumerate(tokens) if token.lower() in CLASS_OF]
        if places:
            at = self._rng.choice(places)
            tokens[at] = self._rng.choice(CLASSES[CLASS_OF[tokens[at].lower()]])
        text = detokenize(tokens)
        return (prompt, text) if in_completion else (text, completion)

    def _rename(self, prompt: str, completion: str) -> tuple[str, str]:
        """Another name for somebody, throughout."""
        tokens, after = tokenize(prompt), tokenize(completion)
        names = sorted({token for token in tokens + after if token.lower() in GENDER})
        if not names:
            return prompt, completion
        old = self._rng.choice(names)
        new = self._rng.choice(FEMALE if old in FEMALE else MALE)
        if new in names:
            return prompt, completion
        renamed = [[new if token == old else token for token in row] for row in (tokens, after)]
        return detokenize(renamed[0]), detokenize(renamed[1])

    def _adverb(self, prompt: str, completion: str) -> tuple[str, str]:
        """An adverb before or after the completion."""
        body = completion.removesuffix(".")
        if self._rng.random() < 0.5:
            return prompt, f"{body} {self._rng.choice(SUFFIXES)}."
        return prompt, f"{self._rng.choice(PREFIXES).capitalize()} {_uncapitalized(completion)}"

    def _plain_sentence(self, prompt: str, completion: str) -> tuple[str, str]:
        """A harmless sentence in place of one of the prompt."""
        sentences = [f"{part}." for part in prompt.removesuffix(".").split(". ")]
        sentences[self._rng.randrange(len(sentences))] = self._rng.choice(_PLAIN)
        return " ".join(sentences), completion

    def _reword(self, prompt: str, completion: str) -> tuple[str, str]:
        """The completion said in a roundabout way, and hit and missed exchanged with it where that keeps
        the truth."""
        body = _uncapitalized(completion)
        lead = self._rng.choice(_SAME_MEANING)
        if "not" in lead:
            swap = {"hit": "missed", "missed": "hit"}
            body = detokenize([swap.get(token, token) for token in tokenize(body)])
        return prompt, f"{lead} {body}"


def _uncapitalized(text: str) -> str:
    tokens = tokenize(text)
    if tokens and tokens[0].lower() not in GENDER:
        tokens[0] = tokens[0].lower()
    return detokenize(tokens)
