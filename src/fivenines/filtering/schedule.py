"""Which prompts get how many draws in the next call of the generator."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fivenines.errors import DataError, sentence
from fivenines.records import Candidate

__all__ = ["Draw", "Schedule", "Slot", "check_prompt"]

_LEAST_USE = 0.4  # a draw ahead of need costs a whole draw on a processor: only where it is likely of use


class Draw(NamedTuple):
    completion: str
    score: float | None  # None: no valid score
    rating: float = 0.0

    def below(self, limit: float) -> bool:
        return self.score is not None and self.score < limit


@dataclass(slots=True, eq=False)
class Slot:
    """A prompt in flight."""

    position: int
    prompt: str
    waiting: deque[Draw] = field(default_factory=deque)  # drawn and scored, not yet looked at
    candidates: list[Candidate] = field(default_factory=list)
    draws: int = 0  # looked at, all rejected so far


@dataclass
class Schedule:
    """Fills calls of ``batch_size`` draws.

    Prompts in flight come first, oldest first, each with the draws that its next decision needs; new prompts
    enter when there is room; what is left goes to draws ahead of need.
    """

    prompts: Iterator[str] | None  # None once the stream has ended
    batch_size: int
    budget: int
    per_decision: int  # draws per decision
    window: int  # prompts held, in flight or finished and waiting for their turn
    active: list[Slot] = field(default_factory=list)
    entered: int = 0
    prompts_error: Exception | None = None  # raised at the end: the prompts in flight are finished first
    decisions: int = 2  # Laplace's rule: of two imagined decisions one accepted
    accepted: int = 1

    def plan(self, held: int) -> list[tuple[Slot, int]]:
        """Who gets how many draws; empty when all is done. ``held`` outputs wait for their turn."""
        room = self.batch_size
        plan: dict[Slot, int] = {}
        for slot in self.active:  # oldest first
            plan[slot] = min(self.due(slot), room)
            room -= plan[slot]
        while room > 0 and len(self.active) + held < self.window and (new := self._enter()) is not None:
            plan[new] = min(self.due(new), room)
            room -= plan[new]
        if room > 0 and plan:
            self._draw_ahead(plan, room)
        return [(slot, count) for slot, count in plan.items() if count]

    def due(self, slot: Slot) -> int:
        """Draws that the next decision on this prompt still needs."""
        return min(self.per_decision, self.budget - slot.draws) - len(slot.waiting)

    def remove(self, done: set[Slot]) -> None:
        if done:
            self.active = [slot for slot in self.active if slot not in done]

    def _enter(self) -> Slot | None:
        """The next prompt of the stream; an error ends the stream."""
        if self.prompts is None:
            return None
        try:
            prompt = next(self.prompts)
            check_prompt(self.entered, prompt)
        except StopIteration:
            self.prompts = None
            return None
        except Exception as error:
            self.prompts, self.prompts_error = None, error
            return None
        slot = Slot(self.entered, prompt)
        self.entered += 1
        self.active.append(slot)
        return slot

    def _draw_ahead(self, plan: dict[Slot, int], room: int) -> None:
        """Give ``room`` to further decisions, the likeliest to be needed first.

        A decision is needed when all before it reject. A prompt's acceptance is taken as the mean of a Beta
        prior worth two decisions around the acceptance of the run, after the rejections that this prompt has
        seen.
        """
        overall = self.accepted / self.decisions
        queue: list[tuple[float, int, float, Slot, int]] = []
        for slot in plan:
            acceptance = 2 * overall / (2 + slot.draws / self.per_decision)
            left = self.budget - slot.draws - len(slot.waiting) - plan[slot]
            queue.append((acceptance - 1.0, slot.position, acceptance, slot, left))
        heapq.heapify(queue)
        while queue and room > 0 and -queue[0][0] >= _LEAST_USE:
            use, position, acceptance, slot, left = queue[0]
            take = min(self.per_decision, left, room)
            if take == 0:
                heapq.heappop(queue)
                continue
            plan[slot] += take
            room -= take
            heapq.heapreplace(queue, (use * (1.0 - acceptance), position, acceptance, slot, left - take))


def check_prompt(position: int, prompt: object) -> None:
    """:raises DataError: for a prompt that is no text, or blank; ``position`` counts from 0."""
    if not isinstance(prompt, str):
        raise DataError(sentence(f"prompt {position + 1}", "must be text", prompt))
    if not prompt.strip():
        raise DataError(
            sentence(f"prompt {position + 1}", "must not be blank", repr(prompt), "Remove or fill it.")
        )
