"""The page in a real browser: no horizontal scrolling on a phone."""

from __future__ import annotations

import html as escaping
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fivenines.report import Report, Sample, Samples, render_html

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURE = """
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const wide = [...page.querySelectorAll("body *")].filter(
    e => !e.closest(".scroll, pre, svg, .skip") && e.getBoundingClientRect().right > WIDTH + 0.5);
  const small = [...page.querySelectorAll("svg text")].map(e => e.getBoundingClientRect().height);
  document.body.dataset.found = JSON.stringify({
    scroll: page.documentElement.scrollWidth, room: page.documentElement.clientWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 80)), smallest: Math.min(...small)});
});
</script>
"""


def measured(page: str, width: int, folder: Path) -> dict[str, object]:
    """What the browser says of the page in a frame of this width; no window is as narrow as a phone."""
    style = f"width:{width}px;height:800px;border:0"
    frame = f'<iframe style="{style}" srcdoc="{escaping.escape(page)}"></iframe>'
    outer = folder / "outer.html"
    script = MEASURE.replace("WIDTH", str(width))
    outer.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{frame}{script}</body>", encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [
        str(BROWSER),
        *flags.split(),
        profile,
        "--virtual-time-budget=5000",
        "--dump-dom",
        outer.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-500:]
    result: dict[str, object] = json.loads(escaping.unescape(found.group(1)))
    return result


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
@pytest.mark.parametrize("width", [360, 1280])
def test_no_horizontal_scrolling(report: Report, tmp_path: Path, width: int) -> None:
    long = Sample("W" * 3000, "i" * 3000 + " \u05d0" * 50, 0.5, "accepted", 1, "d" * 300)
    wide = replace(report, samples=Samples((long,), (long,)), behavior="x" * 2000, command="y" * 500)
    found = measured(render_html(wide), width, tmp_path)
    assert found["scroll"] == found["room"], found["wide"]
    assert not found["wide"]
    assert float(str(found["smallest"])) >= 9  # text of the plots stays legible
