"""The how-tos are true: their Python runs and prints what they say, and their links lead somewhere.

Every ``python`` block runs by itself and is followed by a ``text`` block with what it prints. One that needs files or
minutes stands below the comment ``<!-- not run by tests: why -->``; it must still be Python.
"""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import CodeType

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "how-to").glob("*.md"))
_FENCE = re.compile(
    r"(?:^<!-- not run by tests: (?P<why>[^\n]+) -->\n)?"
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of Python, the line of the page above it, what the page says it prints, and why it is not run."""

    page: str
    line: int
    code: str
    printed: str | None
    why: str | None

    def compile(self) -> CodeType:
        """The code, with the page's line numbers in its errors."""
        return compile("\n" * self.line + self.code, self.page, "exec")

    def run(self) -> str:
        """What it prints, in a namespace of its own."""
        printed = StringIO()
        with redirect_stdout(printed):
            exec(self.compile(), {"__name__": "__main__"})
        return printed.getvalue()


def blocks_of(text: str, page: str) -> list[Block]:
    """The Python blocks of a page."""
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(page, line, match["code"], match["printed"], match["why"]))
    fences = re.findall(r"^\s*```\s*python", text, flags=re.MULTILINE)
    assert len(found) == len(fences), f"{page}: a stray fence"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"), page.name)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_python_prints_what_the_page_says(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block.compile()
    if block.why is None:
        assert block.printed is not None, "a text block with the output must follow, or a comment say why not"
        monkeypatch.chdir(tmp_path)  # nothing of the repository is at hand, and nothing is left in it
        assert block.run() == block.printed


def test_a_false_page_is_noticed() -> None:
    text = (
        "# Page\n\n```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n"
        "<!-- not run by tests: needs a day -->\n```python\nprint(2)\n```\n\n"
        "<!-- not run at all -->\n```python\nraise SystemExit\n```\n"
    )
    false, long, silent = blocks_of(text, "page.md")
    assert (false.line, false.printed, false.run()) == (3, "3\n", "2\n")
    assert (long.why, long.printed) == ("needs a day", None)
    assert (silent.why, silent.printed) == (None, None)
    with pytest.raises(AssertionError, match="stray fence"):
        blocks_of("``` python\nprint(1)\n```\n", "page.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
