from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fivenines.errors import DataError, ResourceError
from fivenines.report import LabelFacts, ModelFacts, Report, Sample, Samples, render_html, write_report
from fivenines.report.figures import tradeoff_figure
from fivenines.stats import failure_rate_exact

VOID = {"meta", "link", "br", "img", "hr", "input"}
MAX_BYTES = 3_000_000


class Page(HTMLParser):
    """The tags of a page with their attributes; fails on what is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_html(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed_and_can_be_read_aloud(page: Page, html: str) -> None:
    assert html.lstrip().startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.all("svg"):
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"] or "") > 10
    assert len(page.all("svg")) == len(page.all("figcaption")) >= 9
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))
    assert {one or other for one, other in used} <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(page: Page, html: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", html)
    assert all(value.startswith("#") for value in re.findall(r"url\(([^)]*)\)", html))
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name in ("src", "srcset", "action") for name in attrs), tag
        assert (attrs.get("href") or "#").startswith(("#", "data:,"))


def test_colours_follow_light_and_dark(html: str) -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= {"#000000"}  # matplotlib's default stroke of nothing
    assert "var(--filtered)" in svg
    assert "prefers-color-scheme: dark" in html
    assert {"name": "color-scheme", "content": "light dark"} in Page(html).all("meta")


def test_the_first_screen_gives_the_answer_and_what_it_rests_on(page: Page, report: Report) -> None:
    measured = report.evaluation.distributions[0]
    rate = measured.filtered_failure_rate
    assert f"at least {rate.nines:.1f} nines" in page.text
    assert f"No failure in {rate.n:,} labelled outputs: the failure rate is at most" in page.text
    assert "‑fold" in page.text
    assert "true value" in page.text
    for text in ("exact", "valid at any n", "assumes: ", "approximate: bootstrap"):
        assert text in page.text
    for estimate in measured.estimates.values():
        assert estimate.line in page.text  # by its own words, at least once
    assert str(report.threshold) in page.text
    assert report.command in page.text


def test_json_is_strict_and_enough_to_draw_the_page_again(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "new")
    assert path.name == "report.html"
    text = (path.parent / "report.json").read_text(encoding="utf-8")
    plain = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert Report.from_dict(plain).to_dict() == plain
    assert render_html(Report.from_dict(plain)) == path.read_text(encoding="utf-8")
    assert max(len(text), path.stat().st_size) < MAX_BYTES
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(DataError, match="report must have the keys of to_dict, got 'evaluation'"):
        Report.from_dict({"task": "x"})


def test_a_folder_that_cannot_be_written_leaves_nothing(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises((ResourceError, OSError)):
        write_report(report, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "here"


HOSTILE = (
    "</style><script>alert(1)</script>",
    '"><img src=http://evil.example onerror=alert(1)>',
    "{{ 7 * 7 }} {% include 'x' %} $\\frac{1}{0}$ $_",
    "a\u202eevil\u2066 \x00\x1b[31m \ud800 \ufeff",
    "W" * 200_000,
    "e" + "\u0301" * 5_000,
    "'; DROP TABLE labels; --\n\n\n\t<b>bold</b>&amp;",
)


def test_texts_of_a_model_stay_texts(make_report: Callable[..., Report], tmp_path: Path) -> None:
    small = make_report(tuple(HOSTILE[:3]), prompts=60, labels=40, compared=5)
    sample = tuple(Sample(text, text, None, text, 1, text) for text in HOSTILE)
    hostile = replace(
        small,
        task=HOSTILE[0],
        behavior=HOSTILE[1],
        samples=Samples(sample, sample, 7, 7),
        classifier=replace(small.classifier, name=HOSTILE[0], facts={HOSTILE[0]: HOSTILE[3]}),
        labels=tuple(LabelFacts(text, 1, 1, 0, 1, 0, agreement=text) for text in HOSTILE),
        versions={text: text for text in HOSTILE},
        timing={HOSTILE[2]: 1.0},
        assumptions=HOSTILE,
        command=HOSTILE[1],
        created=HOSTILE[0],
    )
    html = write_report(hostile, tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "img", "b"} & {tag for tag, _ in page.tags}
    assert "{{ 7 * 7 }}" in page.text
    assert "<script>alert(1)</script>" in page.text  # shown, not run
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069\ufeff]", html)
    assert "⟨U+202E⟩" in page.text
    assert len(html) < MAX_BYTES


def test_ten_thousand_samples_are_cut_with_a_note(report: Report, tmp_path: Path) -> None:
    many = tuple(Sample(f"prompt {i}", "text " * 50, 0.5, "accepted", 1) for i in range(10_000))
    path = write_report(replace(report, samples=Samples(many, many[:3])), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "The first 10 of 10,000, as they came." in page.text
    assert "The first 3 of 3, as they came." in page.text
    assert "prompt 9 " in page.text
    assert "prompt 10 " not in page.text
    assert (tmp_path / "report.json").stat().st_size < MAX_BYTES


def test_without_labels_every_number_is_not_measured(make_report: Callable[..., Report]) -> None:
    bare = make_report(("only",), prompts=30, labels=0, compared=0)
    bare = replace(bare, classifier=ModelFacts(), generator=ModelFacts(), labels=(), draws={}, timing={})
    text = Page(render_html(replace(bare, samples=Samples(), threshold=None, versions={}))).text
    assert "not measured" in text
    assert "30 outputs were made and none of them has a label yet." in text
    assert "at least" not in text.split("By prompts")[0]
    assert "filtered failure rate not measured" in text


def test_failures_through_the_filter_are_counted(report: Report) -> None:
    main = replace(report.evaluation.distributions[0], filtered_failure_rate=failure_rate_exact(3, 100_000))
    evaluation = replace(report.evaluation, distributions=(main,))
    text = Page(render_html(replace(report, evaluation=evaluation))).text.replace("\xa0", " ")
    assert "at least 4.0 nines" in text
    assert "3 failures in 100,000 labelled outputs" in text
    assert "the failure rate is between 6.1 × 10⁻⁶ and 8.8 × 10⁻⁵." in text


def test_a_narrow_range_of_thresholds_still_has_its_ends_on_the_axis() -> None:
    near = [(at, failure_rate_exact(1, 50)) for at in (0.0155, 0.0157)]
    drawn = tradeoff_figure(near, 0.0156, "narrow", "Failure rate", log=True)
    assert ">0.0155<" in drawn
    assert ">0.0157<" in drawn
