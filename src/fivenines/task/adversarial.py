"""The sections of task.toml about attacks: how the classifier is attacked, and how rounds harden it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fivenines.task.section import Count, Positive, Section, as_tuple

__all__ = ["Attack", "Families", "Family", "Rounds"]

Family = Literal[
    "words", "characters", "gradient", "recombination", "prompts", "paraphrase", "sampling", "guided"
]
Families = Annotated[tuple[Family, ...], BeforeValidator(as_tuple)]


class Attack(Section):
    """How the classifier is attacked, by `fivenines attack` and in rounds. Paths are relative to the task's folder.

    ``families``: the attacks whose finds the classifier learns from; those of ``held_out`` only measure it. ``starts``
    failing texts are attacked by each in a round, with ``queries`` scored texts for each.
    "words" tries the words of ``words`` (a file: a line for each class of words that may replace each other; words
    behind a + may be inserted) or those that ``masked_model`` (a folder, see `fivenines train-masked`) thinks fit;
    "paraphrase" asks the model ``paraphraser``, shown ``examples`` (JSONL: sentence, rewritten). "sampling" draws
    from the generator, "guided" from one that is led towards its judged failures.
    What an edit must keep: the words of the file ``keep``; all but a share ``max_changed`` of the words; the meaning
    (``similarity``: least cosine of sentence embeddings, needs the extra minilm); ``fluency`` (nats a word that the
    generator may find it less likely). ``search``: greedy, beam or best first. ``shortlist``: words tried in a place.
    """

    families: Families = ("recombination", "prompts", "characters")
    held_out: Families = ()
    starts: Count = 200
    queries: Count = 200
    search: Literal["greedy", "beam", "best first"] = "greedy"
    shortlist: Count = 8
    words: str | None = None
    masked_model: str | None = None
    paraphraser: str | None = None
    examples: str | None = None
    keep: str | None = None
    max_changed: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    similarity: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    fluency: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := sorted(set(self.families) & set(self.held_out)):
            raise ValueError(f"held_out must not name a family that is learnt from, got {', '.join(both)}")
        return self


class Rounds(Section):
    """How a round hardens the classifier.

    It learns from ``replay`` of the judged training snippets (all that fail), all finds of all rounds, each of which
    counts ``weight`` times, and as many harmless texts edited alike as ``matched`` says for each find. Nobody judges
    two more kinds, which it is taught to reject: ``odd`` texts made odd for each of the snippets, and for each that
    fails ``augment`` edits by the families, whose constraints must keep the label; those of the last ``average`` rounds
    are learnt together. It is trained for ``epochs``, as the classifier was but for ``learning_rate``, from the weights
    of the round before or of the first classifier (``start``).

    The classifier of the round, which is deployed and which the next round attacks, has the mean of the weights that
    the last ``average`` rounds trained. Then finds that it does not reject at the threshold count more and more, in
    ``passes`` gentle passes at most, and where those do not do in as many at the full learning rate. Measured on
    ``measure_starts`` other failing texts with ``measure_queries`` each, by all families; 0 leaves that out.
    """

    replay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    odd: Annotated[float, Field(ge=0.0)] = 0.0
    augment: Annotated[float, Field(ge=0.0)] = 0.0
    weight: Count = 3
    matched: Annotated[float, Field(ge=0.0)] = 2.0
    passes: Count = 5
    start: Literal["current", "initial"] = "current"
    average: Count = 4
    epochs: Positive = 1.0
    learning_rate: Positive | None = None
    measure_starts: Annotated[int, Field(ge=0)] = 100
    measure_queries: Count = 400
