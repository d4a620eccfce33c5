"""The writer: three-sentence prompts, and sentences that go on.

It plans who is there (most are dolls and robots, some can feel), where they stand and what lies about, and
picks sentences that fit. It never looks whether a sentence hurts: that somebody is hurt in a few stories of
a hundred comes from who happens to stand where. What it meant is kept beside the text, for a check on the
reader.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import TypeVar

from fivenines.records import Snippet
from fivenines.storyworld.clauses import COMPLETIONS, SETUPS, Clause
from fivenines.storyworld.grammar import PREFIXES, SUFFIXES, WRAPPERS, parts, slot_class
from fivenines.storyworld.lexicon import (
    CLASSES,
    FEELING,
    GENDER,
    NAMES,
    UNFEELING,
    detokenize,
)
from fivenines.storyworld.world import Being, Harm, World, settle

__all__ = ["write_corpus", "write_prompts", "write_snippet", "write_snippets"]

# How often things are so. Tuned so that 2.4% of natural completions hurt somebody.
FEELS = 0.092  # a being of the story can feel
ADVERB = 0.1
WRAPPED = 0.06

FAMILIES = {
    "missile": 24,
    "fall": 15,
    "blow": 14,
    "tool": 5,
    "beast": 11,
    "hot": 5,
    "poison": 4,
    "live": 4,
    "wound": 5,
    "fresh": 2,
    "accident": 4,
    "end": 6,
    "figure": 5,
    "plain": 8,
    "plain-fall": 1,
    "plain-missile": 1,
}
# Of what may stand before and after a clause, the writer uses some; the rest is only read.
BEFORE = (
    "S dreamed that",
    "S hoped that",
    "S saw that",
    "it was a lie that",
    "it was not true that",
    "it was true that",
)
AFTER = SUFFIXES[:3]

SETUP_OF = {"plain-fall": "fall", "plain-missile": "missile", "blow": "tool"}
OTHERS = {
    "move": 40,
    "plain": 30,
    "wound": 8,
    "missile": 3,
    "fall": 4,
    "beast": 3,
    "tool": 5,
    "hot": 2,
    "poison": 2,
    "live": 2,
    "play": 0.6,
}

T = TypeVar("T")


@cache
def _clauses(family: str, setup: bool) -> tuple[tuple[Clause, ...], tuple[float, ...]]:
    rows = tuple(c for c in (SETUPS if setup else COMPLETIONS) if c.family == family and c.weight > 0)
    return rows, tuple(accumulate(c.weight for c in rows))


@cache
def _cumulative(name: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    table = FAMILIES if name == "families" else OTHERS
    return tuple(table), tuple(accumulate(table.values()))


@cache
def _rows(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in parts(pattern))


def _pick(rng: random.Random, table: tuple[tuple[T, ...], tuple[float, ...]]) -> T:
    return rng.choices(table[0], cum_weights=table[1])[0]


@dataclass(slots=True)
class _Plan:
    """A story while it is written."""

    rng: random.Random
    world: World
    words: dict[str, list[str]] = field(default_factory=dict)  # things the prompt spoke of, by class
    wounds: list[tuple[str, str]] = field(default_factory=list)


def _cast(rng: random.Random) -> list[Being]:
    """Two beings, names and kinds at random, no kind twice.

    Each comes with an owner of the other sort ("the baker's doll", "the doll's baker"), so that the words
    of a prompt do not tell whether anybody in it can feel; their order does.
    """
    names = rng.sample(NAMES, 2)
    alive = rng.sample(FEELING, 2)
    dead = rng.sample(UNFEELING, 2)
    places = rng.sample(CLASSES["PLACE"], 2)
    cast = []
    for at in range(2):
        kind, owner = (alive[at], dead[at]) if rng.random() < FEELS else (dead[at], alive[at])
        name = names[at]
        cast.append(Being(name, kind, owner, GENDER[name.lower()], places[at]))
    return cast


def _described(being: Being) -> str:
    return f"the {being.owner} 's {being.kind}" if being.owner else f"the {being.kind}"


def _phrase(plan: _Plan, being: Being, slot: str, *, plain: bool) -> str:
    """One of the ways to speak of a being that can mean only this one."""
    if plain or slot == "XS":
        return being.name
    other = next(b for b in plan.world.beings if b is not being)
    draw = plan.rng.random()
    if draw < 0.18 and other.gender != being.gender:
        return being.gender if slot.startswith("S") else {"he": "him", "she": "her"}[being.gender]
    if draw < 0.38 and being.place and plan.world.at(being.place) == [being]:
        return f"the one by the {being.place}"
    if draw < 0.48:
        return _described(being)
    if draw < 0.52:
        return f"the {being.kind}"
    return being.name


def _beings(plan: _Plan, row: Sequence[str]) -> dict[str, list[Being]]:
    """Who fills the slots of a sentence."""
    order = plan.world.beings if plan.rng.random() < 0.5 else plan.world.beings[::-1]
    free = iter(order)
    found = {slot: [next(free)] for slot in row if slot in ("S", "S2", "O", "O2")}
    if "XS" in row:
        found["XS"] = [next(free)]
    if "POSS" in row:
        found["POSS"] = found["S"] if "S" in found else [next(free)]
    return found


def _fill(plan: _Plan, slots: Sequence[str], *, setup: bool) -> dict[str, str]:
    """Words for the slots that are no beings: those of the prompt where it spoke of such things."""
    rng = plan.rng
    found: dict[str, str] = {}
    for slot in slots:
        name = slot_class(slot)
        if not name or slot in found:
            continue
        choices = list(CLASSES[name])
        if not setup and name in plan.words and name != "PLACE":
            choices = plan.words[name]
        elif name == "PLACE" and rng.random() < 0.7:
            choices = [b.place for b in plan.world.beings if b.place] + plan.words.get("PLACE", [])
        left = [word for word in choices if word not in found.values()]
        found[slot] = rng.choice(left or [w for w in CLASSES[name] if w not in found.values()])
    if "WOUND" in found and not setup and plan.wounds and rng.random() < 0.9:
        found["WOUND"], found["PART"] = rng.choice(plan.wounds)
    return found


def _tokens(
    plan: _Plan, row: Sequence[str], beings: dict[str, list[Being]], words: dict[str, str], plain: bool
) -> str:
    """The sentence, its tokens parted by spaces."""
    out: list[str] = []
    for token in row:
        if token == "POSS":
            owner = beings["POSS"][0]
            out.append({"he": "his", "she": "her"}[owner.gender] if "S" in beings else f"{owner.name} 's")
        elif token in beings:
            out.append(_phrase(plan, beings[token][0], token, plain=plain) + (" 's" if token == "XS" else ""))
        else:
            word = words.get(token, token)
            if out and out[-1] == "a" and word[0] in "aeiou":
                out[-1] = "an"
            out.append(word)
    return " ".join(out)


def _setup(plan: _Plan, family: str) -> str:
    """A sentence of the prompt, and what it changes."""
    clause = _pick(plan.rng, _clauses(family, True))
    row = _rows(clause.pattern)[0]
    beings = _beings(plan, row)
    words = _fill(plan, row, setup=True)
    if clause.effect == "move" and "PLACE2" in words:
        words["PLACE2"] = beings["S"][0].place
        if words["PLACE"] == words["PLACE2"]:
            words["PLACE"] = plan.rng.choice([p for p in CLASSES["PLACE"] if p != words["PLACE2"]])
    text = _tokens(plan, row, beings, words, plain=plan.rng.random() < 0.8)
    settle(clause, "true", beings, words, plan.world)
    for slot, word in words.items():
        plan.words.setdefault(slot_class(slot), []).append(word)
    if "WOUND" in words:
        plan.wounds.append((words["WOUND"], words["PART"]))
    if "WOUND2" in words:
        plan.wounds.append((words["WOUND2"], words["PART2"]))
    return text


def _intro(plan: _Plan) -> str:
    first, second = plan.world.beings
    clause = _pick(plan.rng, _clauses("intro", True))
    words = {"PLACE": first.place, "PLACE2": second.place}
    words["POSTURE"] = plan.rng.choice(CLASSES["POSTURE"])
    names = {"S": f"{first.name} {_described(first)}", "S2": f"{second.name} {_described(second)}"}
    return " ".join(names.get(token) or words.get(token, token) for token in _rows(clause.pattern)[0])


def _completion(plan: _Plan, family: str) -> tuple[str, list[Harm]]:
    """The next sentence, and whom it is meant to hurt."""
    rng = plan.rng
    clause = _pick(rng, _clauses(family, False))
    rows = _rows(clause.pattern)
    spoken = plan.world.thing in plan.words.get("MISSILE", []) + plan.words.get("HAZARD", [])
    row = rng.choice(rows) if spoken and family in ("missile", "fall") else rows[0]
    words = _fill(plan, rows[0], setup=False)
    if row is not rows[0] and plan.world.thing not in words.values():
        row = rows[0]  # "it" would be another thing
    beings = _beings(plan, row)
    text = _tokens(plan, row, beings, words, plain=False)
    mode = "true"
    if clause.adverbs and rng.random() < ADVERB:
        text = f"{rng.choice(PREFIXES)} {text}"
    elif clause.adverbs and rng.random() < ADVERB:
        text = f"{text} {rng.choice(AFTER)}"
    elif clause.way and rng.random() < WRAPPED:
        wrapper = rng.choice(BEFORE)
        mode = WRAPPERS[wrapper]
        teller = rng.choice(plan.world.beings).name
        text = " ".join([teller if token == "S" else token for token in wrapper.split()] + [text])
    return text, settle(clause, mode, beings, words, plan.world)


def _sentence(text: str) -> str:
    tokens = [*text.split(), "."]
    first = next(at for at, token in enumerate(tokens) if token != '"')
    tokens[first] = tokens[first][0].upper() + tokens[first][1:]
    return detokenize(tokens)


def write_snippet(rng: random.Random, source: str = "") -> Snippet:
    """A story: three sentences, and the one with which it goes on.

    ``meta`` holds ``intended`` (what the writer meant: failure or ok), and ``way`` and ``manner`` of a
    failure.
    """
    plan = _Plan(rng, World(_cast(rng)))
    family = _pick(rng, _cumulative("families"))
    first = _intro(plan)
    wanted = SETUP_OF.get(family, family)
    other = _pick(rng, _cumulative("others"))
    if not _clauses(wanted, True)[0]:
        wanted = _pick(rng, _cumulative("others"))
    order = [other, wanted] if rng.random() < 0.75 else [wanted, other]
    if other == wanted:
        order[0] = "plain"
    second, third = (_setup(plan, name) for name in order)
    while third == second:  # "It rained all day." once is enough
        third = _setup(plan, "plain")
    prompt = " ".join(map(_sentence, (first, second, third)))
    text, harms = _completion(plan, family)
    new = [harm for harm in harms if harm.new]
    meta = {"intended": "failure" if new else "ok", "family": family}
    if new:
        meta |= {"way": new[0].way, "manner": new[0].manner}
    return Snippet(prompt, _sentence(text), source, meta)


def write_snippets(n: int, seed: int) -> list[Snippet]:
    """``n`` stories. ``source`` names the story: splits by source and by story are the same."""
    rng = random.Random(seed)
    return [write_snippet(rng, f"story-{seed}-{at:06d}") for at in range(n)]


def write_prompts(n: int, seed: int) -> list[str]:
    """``n`` prompts, as they come."""
    return [snippet.prompt for snippet in write_snippets(n, seed)]


def write_corpus(n: int, seed: int) -> list[str]:
    """``n`` stories of four sentences each, as running text to train a generator on."""
    return [snippet.text for snippet in write_snippets(n, seed)]
