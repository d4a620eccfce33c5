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

FEMALE = tuple("Ana Cora Dina Elsa Fay Gina Hana Ida Lena Mia Nora Rosa".split())
MALE = tuple("Abel Bruno Carl Emil Finn Gus Hugo Ivan Leo Max Otto Paul".split())
NAMES = FEMALE + MALE
GENDER = {name.lower(): "she" for name in FEMALE} | {name.lower(): "he" for name in MALE}

FEELING = tuple(
    "baker sailor nurse farmer teacher guard painter singer cook tailor dog cat horse goat elf dragon".split()
)
WILD = ("wolf", "bear", "snake")  # they feel as well, but come without a name
UNFEELING = tuple("robot doll statue puppet scarecrow snowman mannequin dummy skeleton".split())

HARD = ("arrow", "stone", "dart", "spear", "brick")
SOFT = ("feather", "leaf", "pillow", "sponge")

CLASSES: dict[str, tuple[str, ...]] = {
    "KIND": FEELING + UNFEELING,
    "BEAST": WILD,
    "PLACE": tuple("door window stove table well gate wall tree cart stairs fence bench".split()),
    "PART": tuple("arm leg hand foot knee shoulder neck ankle".split()),
    "MISSILE": HARD + SOFT,
    "HAZARD": tuple("beam ladder shelf lamp bell branch crate barrel".split()),
    "TOOL": tuple("hammer axe knife sword stick spade".split()),
    "HOT": tuple("kettle pan iron poker pot".split()),
    "VESSEL": tuple("cup jug bottle bowl mug".split()),
    "COLOR": tuple("red blue green white".split()),
    "THING": tuple("basket drum sack box chair clock vase hat".split()),
    "WOUND": tuple("broken burned bruised bleeding swollen".split()),
    "BLOW": tuple("kicked stabbed scratched punched struck".split()),
    "BLOW0": tuple("kick stab scratch punch strike".split()),
    "KIND_ACT": tuple("hugged thanked greeted followed watched tickled".split()),
    "KIND_ACT0": tuple("hug thank greet follow watch tickle".split()),
    "POSTURE": tuple("stood sat waited rested worked".split()),
    "WENT": tuple("walked ran moved went crept".split()),
    "FELL": tuple("fell crashed dropped tumbled".split()),
    "TOPIC": tuple("rain harvest market sea moon news".split()),
    "FOOD": tuple("bread soup cake cheese".split()),
    "SEASON": tuple("winter spring summer autumn".split()),
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
