"""Private data that has a form: addresses of e-mail, telephone, internet and accounts. Names have none: a classifier's.

Every pattern is bounded, so that no text makes it slow, and what it finds is checked (Luhn, octets, number ranges).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fivenines.conditional.marks import Span
from fivenines.conditional.tagging.rules import per_segment
from fivenines.conditional.tagging.scorers import Scores, settings_version
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.errors import ConfigError, sentence

__all__ = ["KINDS", "PrivateDataScorer", "private_data"]

_RULES = 1  # goes into the version: to be raised with every change of what is found

_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,256}:[^\s/@\"'<>]{1,256}@[^\s/\"'<>]{1,256}", re.I
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![ -]?\d)")
_SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(\d{1,4}\))?(?:[ .-]?\d{2,5}){2,5}"  # +49 30 1234567
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}"  # (212) 555-0123
    r")(?![\w-]|\.\d)"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_BRANDS = (  # first digits and lengths: Visa, Mastercard, American Express, Discover, Diners, JCB
    re.compile(r"4\d{12}(?:\d{3}){0,2}"),
    re.compile(r"(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"),
    re.compile(r"3[47]\d{13}"),
    re.compile(r"6(?:011|5\d\d|4[4-9]\d)\d{12}"),
    re.compile(r"3(?:0[0-5]|[68]\d)\d{11}"),
    re.compile(r"35(?:2[89]|[3-8]\d)\d{12}"),
)


def _card(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    number = "".join(map(str, digits))
    if not any(brand.fullmatch(number) for brand in _BRANDS):
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]  # Luhn's sum
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _phone(text: str) -> bool:
    return 8 <= sum(c.isdigit() for c in text) <= 15  # E.164


def _address(text: str) -> bool:
    """One that may lead to somebody: not what every machine has (127.0.0.1), nor a short run like "a::b"."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    if found.is_loopback or found.is_unspecified:
        return False
    return found.version == 4 or (
        sum(bool(group) for group in text.split(":")) >= 3 and any(map(str.isdigit, text))
    )


def _any(text: str) -> bool:
    return True


# In this order: what an earlier kind has found is not found again.
_FINDERS: dict[str, tuple[tuple[re.Pattern[str], ...], Callable[[str], bool]]] = {
    "credentials": ((_URL,), _any),
    "email": ((_EMAIL,), _any),
    "card": ((_CARD,), _card),
    "social": ((_SOCIAL,), _any),
    "phone": ((_PHONE,), _phone),
    "address": ((_IPV4, _IPV6), _address),
}
KINDS = tuple(_FINDERS)


@dataclass(frozen=True)
class PrivateDataScorer:
    """How much private data reaches into each segment.

    ``kinds``: URLs with credentials, e-mail addresses, numbers of credit cards, of social security (United States) and
    of telephones (international, North American), internet addresses. Raises ConfigError for another.
    """

    name: str = "pii"
    kinds: tuple[str, ...] = KINDS
    version: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for kind in self.kinds or ("none",):
            if kind not in KINDS:
                raise ConfigError(
                    sentence("kinds of private data", f"must be among {', '.join(KINDS)}", kind)
                )
        object.__setattr__(self, "version", settings_version("pii", {**asdict(self), "rules": _RULES}))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "kind": "pii"}

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """Counts; nothing is left unscored."""
        return [
            per_segment(text.spans, [span for _, span in private_data(text.text, self.kinds)])
            if text.spans
            else np.empty(0)
            for text in texts
        ]


def private_data(text: str, kinds: Sequence[str] = KINDS) -> list[tuple[str, Span]]:
    """Kind and span of each piece of private data, in order; none overlap."""
    found: list[tuple[str, Span]] = []
    taken = bytearray(len(text))  # 1 where something was found
    for kind, (patterns, right) in _FINDERS.items():
        if kind not in kinds:
            continue
        for pattern in patterns:
            for match in pattern.finditer(text):
                start, end = match.span()
                if right(match[0]) and 1 not in taken[start:end]:
                    found.append((kind, (start, end)))
                    taken[start:end] = b"\1" * (end - start)
    return sorted(found, key=lambda each: each[1])
