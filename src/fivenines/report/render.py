"""The page and the JSON beside it."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fivenines.files import atomic_file, write_json_atomic
from fivenines.report.records import Report
from fivenines.report.view import page

__all__ = ["HTML_FILE", "JSON_FILE", "render_html", "write_report"]

HTML_FILE, JSON_FILE = "report.html", "report.json"


def render_html(report: Report) -> str:
    """The report as one HTML page: no script, and nothing that a browser would fetch.

    The same report gives the same page.
    """
    environment = Environment(
        loader=PackageLoader("fivenines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Plots are ours and escape their own labels; all else goes through autoescape.
    environment.filters["drawing"] = Markup
    return environment.get_template("report.html.j2").render(page(report))


def write_report(report: Report, folder: Path) -> Path:
    """Write report.html and report.json, each whole or not at all; returns the path of the page.

    Raises:
        ResourceError: disk full, no permission.
    """
    # What the JSON holds is what the page shows: the page is made from the JSON's form.
    plain = report.to_dict()
    text = render_html(Report.from_dict(plain))
    write_json_atomic(folder / JSON_FILE, plain)
    with atomic_file(folder / HTML_FILE) as handle:
        handle.write(text)
    return folder / HTML_FILE
