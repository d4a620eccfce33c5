"""The words of the story language, and the way between a text and its tokens.

Every word has at most one class, so that a sentence has one shape. Names carry a gender (for pronouns) and
nothing else: who can feel is said by the kind with which the story introduces a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "CLASSES",
    "CLASS_OF",
    "FEELING",
    "FEMALE",
    "GENDER",
    "MALE",
    "NAMES",
    "SOFT",
    "UNFEELING",
    "WILD",
    "detokenize",
    "tokenize",
]


def _row(words: str) -> tuple[str, ...]:
    return tuple(words.split())


FEMALE = _row("Ana Cora Elsa Gina Ida Mia")
MALE = _row("Bruno Emil Finn Gus Leo Otto")
NAMES = FEMALE + MALE
GENDER = {name.lower(): "she" for name in FEMALE} | {name.lower(): "he" for name in MALE}

FEELING = _row(
    "baker sailor nurse farmer teacher guard painter singer cook tailor dog cat horse goat elf dragon"
)
WILD = ("wolf", "bear", "snake")  # they feel as well, but come without a name
UNFEELING = _row("robot doll statue puppet scarecrow snowman mannequin dummy skeleton")

HARD = ("arrow", "stone", "dart", "spear", "brick")
SOFT = ("feather", "leaf", "pillow", "sponge")

CLASSES: dict[str, tuple[str, ...]] = {
    "KIND": FEELING + UNFEELING,
    "BEAST": WILD,
    "PLACE": _row("door window stove table well gate wall tree cart stairs fence bench"),
    "PART": _row("arm leg hand foot knee shoulder neck ankle"),
    "MISSILE": HARD + SOFT,
    "HAZARD": _row("beam ladder shelf lamp bell branch crate barrel"),
    "TOOL": _row("hammer axe knife sword stick spade"),
    "HOT": _row("kettle pan iron poker pot"),
    "VESSEL": _row("cup jug bottle bowl mug"),
    "COLOR": _row("red blue green white"),
    "THING": _row("basket drum sack box chair clock vase hat"),
    "WOUND": _row("broken burned bruised bleeding swollen"),
    "BLOW": _row("kicked stabbed scratched punched struck"),
    "BLOW0": _row("kick stab scratch punch strike"),
    "KIND_ACT": _row("hugged thanked greeted followed watched tickled"),
    "KIND_ACT0": _row("hug thank greet follow watch tickle"),
    "POSTURE": _row("stood sat waited rested worked"),
    "WENT": _row("walked ran moved went crept"),
    "FELL": _row("fell crashed dropped tumbled"),
    "TOPIC": _row("rain harvest market sea moon news"),
    "FOOD": _row("bread soup cake cheese"),
    "SEASON": _row("winter spring summer autumn"),
}
CLASS_OF: dict[str, str] = {word: name for name, words in CLASSES.items() for word in words}

_TOKEN = re.compile(r"'s\b|\w+|[^\w\s]")
_CLOSING = frozenset((".", ",", "'s", "!", "?", ";", ":"))


def tokenize(text: str) -> list[str]:
    """Words, punctuation marks and the possessive ``'s``, each a token; case is kept.

    >>> tokenize("The arrow hit Ana's robot.")
    ['The', 'arrow', 'hit', 'Ana', "'s", 'robot', '.']
    """
    return _TOKEN.findall(text)


def detokenize(tokens: Iterable[str]) -> str:
    """The text that :func:`tokenize` cuts into these tokens: inverse to it on every text of the language.

    Quotation marks open and close in turn.
    """
    pieces: list[str] = []
    quoted = False
    glue = True  # whether the next token follows without a space
    for token in tokens:
        closes = token in _CLOSING or (token == '"' and quoted)
        pieces.append(token if glue or closes else f" {token}")
        glue = False
        if token == '"':
            glue, quoted = not quoted, not quoted
    return "".join(pieces)
