"""What a store is: people's work, append-only, and the queue of what they are to do next.

The rules that every store keeps, and that ``fivenines.testing.store_contract`` checks:

- Nothing a person typed is ever changed or removed. A correction is a later row; both stay.
- An import is whole or absent. What was there already is passed over, so every import can be repeated.
- Two people who ask at once never get the same item when it needs one label only.
- Several threads and processes may use one store at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from fivenines.records import Comparison, Label, Snippet

__all__ = ["Draw", "Guidelines", "Item", "Progress", "Store"]


@dataclass(frozen=True, slots=True)
class Draw:
    """How an item was drawn: what an estimate needs to know when its labels have come.

    ``distribution`` names the prompts it came from; ``design`` says how it was chosen ("uniform", "stratified
    by score", ...); ``inclusion`` is the probability with which it was chosen, in (0, 1], None when unknown;
    ``priority`` orders the queue, the highest first.
    """

    distribution: str = ""
    design: str = ""
    inclusion: float | None = None
    priority: float = 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """A snippet that waits for labels, or has them. ``labelers`` counts the people who labelled it."""

    snippet: Snippet
    purpose: str
    draw: Draw
    labels_needed: int
    labelers: int

    @property
    def complete(self) -> bool:
        return self.labelers >= self.labels_needed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the labelling for a purpose has come. ``done`` counts no label beyond those needed."""

    items: int = 0
    complete: int = 0
    needed: int = 0
    done: int = 0

    @property
    def missing(self) -> int:
        """Labels still to be given."""
        return self.needed - self.done


@dataclass(frozen=True, slots=True)
class Guidelines:
    """One version of what the labelers were told; version 1 is the first."""

    version: int
    text: str
    author: str
    at: str


class Store(Protocol):
    """People's work. A context manager; closing it twice is harmless. All methods may raise StoreError (the
    database cannot be used) and ResourceError (disk full, read-only)."""

    def add_items(
        self,
        purpose: str,
        snippets: Sequence[Snippet],
        draws: Draw | Sequence[Draw] = Draw(),
        labels_per_item: int = 1,
    ) -> int:
        """Ask for labels on snippets; returns how many were new to this purpose.

        A snippet that is there keeps the draw it came with; a higher ``labels_per_item`` raises its need.

        Raises:
            DataError: a text that cannot be stored, a draw out of range, a number of draws other than one or
                the number of snippets; nothing is stored.
        """

    def items(self, purpose: str) -> list[Item]:
        """The items of a purpose in the order they were added; empty for an unknown purpose."""

    def purposes(self) -> list[str]:
        """The purposes that have items, sorted."""

    def counts(self, purpose: str) -> Progress:
        """The progress of a purpose, in constant time; all 0 for an unknown purpose."""

    def next_item(self, labeler: str, purpose: str) -> Item | None:
        """The first item, by priority, that this person has not labelled and that still needs a label.

        It is reserved for the person for a while: until it is labelled, who asks again gets it again, and
        nobody else takes the place. None when nothing is left for this person now. Costs no more in a large
        store.
        """

    def add_labels(self, labels: Iterable[Label], lines: Sequence[int] | None = None) -> int:
        """Keep labels; returns how many were new. All of them are kept, or none.

        A label without a time is stamped with now, unless it repeats what the labeler last said of the
        snippet. ``lines`` are the places to name in an error, by default 1, 2, ...

        Raises:
            LabelError: a snippet that is unknown, a gold answer that contradicts another (only the one who
                gave it may correct it, by a later time), a time that cannot be read; names the place.
        """

    def labels(self, purpose: str | None = None) -> list[Label]:
        """All labels, or those on the items of a purpose, in the order they came."""

    def add_comparisons(
        self, purpose: str, comparisons: Iterable[Comparison], lines: Sequence[int] | None = None
    ) -> int:
        """Keep blind preferences; returns how many were new. Whole or absent, repeatable, as for labels."""

    def comparisons(self, purpose: str | None = None) -> list[Comparison]:
        """All comparisons, or those of a purpose, in the order they came."""

    def said(self, purpose: str) -> str:
        """A hash of what was said of the items of a purpose, labels and comparisons, in whatever order."""

    def add_guidelines(self, text: str, author: str = "") -> Guidelines:
        """Keep a version of the guidelines, unless it is the latest. Labels note the version of their day."""

    def guidelines(self) -> list[Guidelines]:
        """All versions, oldest first."""

    def close(self) -> None:
        """Let the database go."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
