"""What a story has said so far, and what a clause does in it. Shared by the reader and the writer.

The reader finds out from the text who is meant; the writer knows it from its plan. What then follows is the
same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fivenines.storyworld.clauses import Clause
from fivenines.storyworld.lexicon import FEELING, SOFT, WILD

__all__ = ["Being", "Harm", "World", "feels", "harms_of", "settle"]

_FEELING = frozenset(FEELING + WILD)

Key = tuple[str, ...]


def feels(kind: str) -> bool:
    """Whether a being of this kind can be hurt; a being of no known kind is taken for a person."""
    return not kind or kind in _FEELING


@dataclass(slots=True, eq=False)
class Being:
    """Somebody in the story. ``kind`` is empty for one whom the story has not introduced."""

    name: str = ""
    kind: str = ""
    owner: str = ""
    gender: str = ""
    place: str = ""
    told: set[Key] = field(default_factory=set)
    dead: bool = False

    @property
    def feels(self) -> bool:
        return feels(self.kind) and not self.dead


@dataclass(slots=True)
class World:
    """Everybody in the story, and what it has said of things."""

    beings: list[Being] = field(default_factory=list)
    hot: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    play: bool = False
    thing: str = ""  # the last missile or hanging thing spoken of: what "it" is
    subject: Being | None = None

    def at(self, place: str) -> list[Being]:
        return [being for being in self.beings if being.place == place]


@dataclass(frozen=True, slots=True)
class Harm:
    """Somebody who can feel is hurt. ``new`` when the story had not told it before."""

    being: Being
    way: str
    manner: str
    key: Key
    new: bool


Slots = dict[str, list[Being]]
Words = dict[str, str]


def _holds(clause: Clause, words: Words, world: World) -> bool:
    """Whether the thing that the clause speaks of can hurt at all."""
    if clause.needs == "hard":
        return words.get("MISSILE", world.thing) not in SOFT
    if clause.needs == "hot":
        return words["HOT"] in world.hot
    if clause.needs == "poison":
        return words["VESSEL"] in world.poison
    if clause.needs == "live":
        return words["COLOR"] in world.live
    return True


def _was_told(being: Being, key: Key) -> bool:
    """Whether this injury is one that was told, the same or with more said of it."""
    return any(
        len(told) == len(key) and all(now in ("", before) for now, before in zip(key, told, strict=True))
        for told in being.told
    )


def harms_of(clause: Clause, mode: str, beings: Slots, words: Words, world: World) -> list[Harm]:
    """Who is hurt by a clause taken as ``true``, ``false`` or ``unreal``; none when nothing is."""
    if mode == "unreal" or world.play or not clause.way:
        return []
    slots = clause.hurts if mode == "true" else clause.spares
    if not slots or not _holds(clause, words, world):
        return []
    filled = words
    if clause.key and "MISSILE" in clause.key and "MISSILE" not in words:
        filled = {**words, "MISSILE": world.thing}
    key = (clause.way, *(filled.get(slot, "") for slot in clause.key.split()))
    if slots == "THERE":  # "whoever was by the PLACE"
        beings = {"THERE": world.at(words["PLACE"])}
    elif slots == "BEAST":
        beings = {"BEAST": [Being(kind=words["BEAST"])]}
    return [
        Harm(being, clause.way, clause.manner, key, clause.again or not _was_told(being, key))
        for slot in slots.split()
        for being in beings.get(slot, ())
        if being.feels
    ]


def settle(clause: Clause, mode: str, beings: Slots, words: Words, world: World) -> list[Harm]:
    """The harms of a clause, with the world brought up to date by it."""
    harms = harms_of(clause, mode, beings, words, world)
    for harm in harms:
        harm.being.told.add(harm.key)
        if harm.way == "death":
            harm.being.dead = True
    if mode == "true":
        _remember(clause.effect, beings, words, world)
    world.thing = words.get("MISSILE") or words.get("HAZARD") or world.thing
    return harms


def _remember(effect: str, beings: Slots, words: Words, world: World) -> None:
    if effect == "intro":
        _put(beings["S"], words["PLACE"])
        _put(beings["S2"], words["PLACE2"])
    elif effect == "move":
        _put(beings["S"], words["PLACE"])
    elif effect == "swap":
        first, second = beings["S"], beings["S2"]
        if first and second:
            first[0].place, second[0].place = second[0].place, first[0].place
    elif effect == "wounds":
        for being in beings["S2"]:
            being.told.add(("wound", words["WOUND2"], words["PART2"]))
    elif effect == "play":
        world.play = True
    elif effect:
        _remember_thing(effect, words, world)


def _remember_thing(effect: str, words: Words, world: World) -> None:
    kind, second = effect.rstrip("2"), effect.endswith("2")
    known, slot = {
        "hot": (world.hot, "HOT"),
        "poison": (world.poison, "VESSEL"),
        "live": (world.live, "COLOR"),
    }[kind]
    harmful, harmless = (f"{slot}2", slot) if second else (slot, f"{slot}2")
    known.add(words[harmful])
    known.discard(words[harmless])


def _put(beings: list[Being], place: str) -> None:
    for being in beings:
        being.place = place
