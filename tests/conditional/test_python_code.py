"""Python style's recipe: what is a prompt, what counts as broken, and that nobody judges what cannot be read."""

from __future__ import annotations

import json
import math
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pep8 import OWN, Sizes, arms, fewer
from pep8_measured import Sums, fold, rate_of, statement_is_due, sums_of
from python_code import Judged, Places, first_statement_breaks, judge, marked, prompt_fits, reading, windows
from python_coder import Coder, LineRule, own_texts
from python_layout import Layout

from fivenines.conditional.backtracking import Backtracking, BacktrackingGenerator
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Conditional
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.conditional.training import Arm, fit_tagged
from fivenines.models.language_model import LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.stats import failure_rate_exact
from fivenines.store import RunFolder

PROMPT = "import os\n\n\ndef f(x):\n    if x:\n"


@pytest.mark.parametrize(
    ("written", "lines", "broken", "cut", "codes"),
    [
        ("        return os\n    return 1\n", 2, 0, 0, ()),
        ("        return os\n    y=1\n", 2, 1, 0, ("E225",)),
        ("        return os\n\n\n\n\nz = 1\n", 2, 1, 0, ("E303",)),
        (
            "        return os\n        \n    return 1\n",
            3,
            1,
            0,
            ("W293",),
        ),  # a blank line that breaks is a line
        (
            "        return os\n    y = (1,\n         2\n",
            1,
            0,
            2,
            (),
        ),  # open to the end: the two last are not judged
        ("        return os\n\n\n", 1, 0, 0, ()),
        ("", 0, 0, 0, ()),
        ("        y = (\n", 0, 0, 1, ()),
        ("        return os\n    y = 1)\n    z=3\n", 1, 0, 2, ()),  # no Python: not judged from there on
        ("        y = 1\n  z=3\n    a=3\n", 1, 0, 2, ()),
        ("        y = [\n            1,\n        )]\n", 0, 0, 3, ()),
    ],
)
def test_what_counts(written: str, lines: int, broken: int, cut: int, codes: tuple[str, ...]) -> None:
    found = judge(PROMPT, written)
    assert (found.lines, found.broken, found.cut, found.codes) == (lines, broken, cut, codes)
    assert found.wrong == (cut > 0 and "(" not in written)
    assert found.compiles == (lines > 0 and not found.wrong)


def test_what_more_lines_can_end_and_what_nothing_mends() -> None:
    for text in ("x = (\n", '"""open\n', "f(a,\n  b\n"):
        assert reading(text) == "open"
    broken = [
        "x = 1)",
        "if a:\n        b\n    c",
        "x = [)\n)",
        "x = (]",
        "y = {\n  1\n)",
        "x = 'abc",
        "x = 'it's'",
        "x = $ 1",
    ]
    for text in [*broken, "print('it's')", "x = 1 \\ 2"]:
        assert reading(f"{text}\n") == "broken", text
    assert reading("def f():\n") == reading("") == "whole"


def test_the_prompt_is_not_judged_but_read_with() -> None:
    assert judge("x=1\n" * 9, "y = 2\n").broken == 0
    assert judge("import os\n", "def f():\n    pass\n").codes == ("E302",)
    assert judge("x = [\n", "1]\n").codes == ("E122",)
    assert not judge("def f():\n", "    return (\n").compiles
    assert judge("import os\n", "x = 'a' if os == None else 2  # noqa\n").codes == (
        "E711",
    )  # nothing hides it


def test_the_first_statement() -> None:
    assert first_statement_breaks(PROMPT, "        y=1\n        return y\n")
    assert first_statement_breaks(PROMPT, "        y = 1\n        return(y)\n") is False
    assert first_statement_breaks(PROMPT, "        y = (\n") is None


@pytest.fixture(scope="module")
def files() -> list[MarkedText]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return [
        marked(name, (root / name).read_text("utf-8"))
        for name in ("bisect.py", "cmd.py", "shlex.py", "trace.py")
    ]


def test_windows_are_whole_statements_and_tables_are_left_out(files: list[MarkedText]) -> None:
    for file in files:
        layout = Layout()
        text = "".join(layout.decode(window.text) for window in windows(file))
        assert [line for line in text.split("\n") if line] == [line for line in file.text.split("\n") if line]
        scores = [score for window in windows(file) for score in window.marks[0].scores]
        assert scores == list(file.marks[0].scores)
    table = marked("table.py", "x = 1\ny = [\n" + "    1,\n" * 400 + "]\nz = 2\n")
    assert [Layout().decode(window.text) for window in windows(table)] == ["x = 1\n", "z = 2\n"]


def test_prompts_are_code_that_can_be_gone_on_with(files: list[MarkedText]) -> None:
    places = Places(files)
    found = places.prompts(40, 3)
    assert found == places.prompts(40, 3) != places.prompts(40, 4)
    texts = {file.id: file.text for file in files}
    for name, text in found:
        assert text in texts[name]
        assert prompt_fits(text)
    assert len({text for _, text in found}) > 20
    assert not prompt_fits("    x = 1\n" * 40)
    assert not prompt_fits("x = (\n" * 60)
    assert not prompt_fits("x = 1\n" * 2)
    docs = marked(
        "docs.py", '"""Words.\n\n' + "words of prose at the edge\n" * 60 + '"""\n\nx = 1\n' + "y = 2\n" * 60
    )
    assert not any(text.startswith("words") for _, text in Places([docs]).prompts(40, 0))


# -- a small model that writes code


@pytest.fixture(scope="module")
def model(files: list[MarkedText]) -> TaggedModel:
    texts = [window for file in files for window in windows(file)]
    config = LanguageModelConfig(
        architecture="llama", layers=2, width=64, heads=4, context=256, vocabulary=600, tokenizer="lines"
    )
    sampling = SamplingConfig(temperature=0.7, top_p=0.9, stop="eos", max_new_tokens=60)
    scheme = Scheme((Banded("pycodestyle", drop=0.0),))
    made = TaggedModel.create([text.text for text in texts], scheme, config, sampling)
    training = TrainingConfig(max_steps=150, batch_size=4, learning_rate=3e-3, optimizer="muon", threads=1)
    fit_tagged(made, texts, Arm(Conditional(), training, 256))
    return made


def test_a_coder_reads_the_last_statements_with_their_tags_and_writes_lines(
    model: TaggedModel, files: list[MarkedText]
) -> None:
    coder = Coder(TaggedGenerator(model))
    asked = [text for _, text in Places(files).prompts(12, 1)]
    good, bad = (model.tags[tag] for tag in ("<|good|>", "<|bad|>"))
    for prompt in asked:
        shown = coder.read(prompt)
        assert len(shown.ids) <= 110
        assert shown.ids[0] in (good, bad)
        assert prompt.rstrip("\n").endswith(
            Layout().decode(shown.text).rstrip("\n").splitlines()[-1].lstrip()
        )
        worst = max(score or 0.0 for score in marked("", prompt).marks[0].scores)
        assert worst or bad not in shown.ids
    written = coder.sample(asked, seed=0)
    assert all(text == "" or text.endswith("\n") for text in written)
    assert sum(judge(*pair).lines for pair in zip(asked, written, strict=True)) > 10
    seen = coder.foreseen(asked)
    assert seen.shape == (12,)
    assert (seen > 0.0).all()
    assert (seen < 1.0).all()
    own = list(own_texts(coder.tokenizer, zip(asked, written, strict=True), 200))
    assert 0 < len(own) <= 12
    assert all(None not in text.marks[0].scores for text in own)


def test_no_tag_is_due_within_a_statement() -> None:
    for text in ("", "x = 1\n", "if a:\n    b\n", "x = f(\n    1)\n"):
        assert statement_is_due(Layout().encode(text))
    for text in ("x = f(\n", '"""words\n', "x = 1 + \\\n", "x = [(\n    1),\n"):
        assert not statement_is_due(Layout().encode(text))


def test_own_text_ends_where_something_ends_and_what_is_no_python_is_bad(model: TaggedModel) -> None:
    tokenizer = model.language.tokenizer
    pairs = [
        (PROMPT, "        return os\n    if x:\n"),
        (PROMPT, "        return os\n    y = 1)\n    z = 2\n"),
        (PROMPT, "        y = (1,\n"),
        (PROMPT, "if x:\n"),
        (PROMPT, "        if x:  # why\n            # c\n"),
        (PROMPT, "        return x\n\n\n@wraps\ndef g(a,\n      b):\n"),
    ]
    whole, bad, last = own_texts(tokenizer, pairs, 200)
    assert Layout().decode(last.text) == PROMPT + "        return x\n"
    assert Layout().decode(whole.text) == PROMPT + "        return os\n"
    assert Layout().decode(bad.text) == PROMPT + "        return os\n    y = 1)\n"
    assert set(whole.marks[0].scores) == {0.0}
    assert bad.marks[0].scores == (*whole.marks[0].scores, 1.0)
    assert bad.text[slice(*bad.marks[0].spans[-1])].endswith("y = 1)")


def test_lines_that_the_rule_rejects_are_written_anew(model: TaggedModel, files: list[MarkedText]) -> None:
    rule = LineRule()
    settings = Backtracking(0.5, "line", 4, 4, 24)
    coder = Coder(BacktrackingGenerator(TaggedGenerator(model), rule, settings, due=statement_is_due))
    asked = [text for _, text in Places(files).prompts(16, 2)]
    judged = [judge(*pair) for pair in zip(asked, coder.sample(asked, seed=0), strict=True)]
    free = Coder(TaggedGenerator(model)).sample(asked, seed=0)
    assert sum(judge(*pair).broken for pair in zip(asked, free, strict=True)) > 3
    assert sum(each.broken for each in judged) == 0
    assert sum(each.lines for each in judged) > 4

    shown = coder.read(asked[0]).text
    layout = Layout()
    layout.encode(asked[0])
    blanks = " " * layout.depth

    def score(code: str) -> float:
        line = Layout(layout.depth).encode(blanks + code)
        return float(rule.scores([Snippet(shown, line)])[0])

    assert [score(code) for code in ("x = 1", "x=1", "x = (")] == [0.0, 1.0, 0.0]
    assert [score(code) for code in ("x = 1)", "x = 1  ", "x = 1  # noqa: " + 80 * "a")] == [1.0, 1.0, 1.0]
    assert math.isnan(float(rule.scores([Snippet("not shown", "x = 1")])[0]))
    with pytest.raises(RuntimeError, match="must be told"):
        LineRule().scores([Snippet(shown, "x = 1")])


# -- arms and numbers


def test_text_of_ones_own_comes_in_rounds_that_resume(tmp_path: Path, files: list[MarkedText]) -> None:
    sizes = Sizes(steps=24, batch=2, own=6, prompts=4, attacks=0)
    every, name = arms(RunFolder(tmp_path), files, sizes), "conditional, own text"
    first = every.trained(name, 1)
    assert every.rounds == [3, 3, 3]
    steps = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("conditional-own"))
    assert steps == [f"conditional-own-text-1-{number}" for number in range(3)]
    texts = [(tmp_path / step / "own.jsonl").read_text().splitlines() for step in steps]
    assert set(texts[0]) <= set(texts[1]) <= set(texts[2])  # what was written before is read again
    assert texts[0]
    stamps = [(tmp_path / step / "own.jsonl").stat().st_mtime_ns for step in steps]
    (tmp_path / steps[2] / "DONE").unlink()
    again = arms(RunFolder(tmp_path), files, sizes).trained(name, 1)
    assert [(tmp_path / step / "own.jsonl").stat().st_mtime_ns for step in steps] == stamps  # written once
    other = arms(RunFolder(tmp_path), files, replace(sizes, own=7))
    assert not other.step(name, 1).is_done()
    assert other.step("conditional", 1).path == every.step("conditional", 1).path
    assert isinstance(first, TaggedModel)
    assert isinstance(again, TaggedModel)
    weights = [list(each.language.model.parameters()) for each in (first, again)]
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))
    assert every.seconds(name, 1) > every.first.seconds("conditional", 1) > 0.0
    assert every.first.training.max_steps == 15
    assert set(OWN) == {name, "filtering, own text"}


def test_few_broken_lines_have_a_bound_that_holds_at_none() -> None:
    none = [Judged(9, 0, 300, False, 0, True, ())] * 200
    found = rate_of(["a", "b"] * 100, none, "files")
    assert found.point == 0.0
    assert found.high == failure_rate_exact(0, 200).high
    assert rate_of(["a"], [Judged(0, 0, 0, True, 3, False, ())], "files").high == 1.0
    many = [Judged(9, place % 2, 300, False, 0, True, ()) for place in range(200)]
    assert rate_of(["a"] * 200, many, "files").method != "jackknife"  # one file is no cluster to leave out
    assert rate_of([], [], "files").high == 1.0
    found = rate_of([str(place % 20) for place in range(200)], many, "files")
    assert found.method == "jackknife"
    assert found.low <= 1 / 18 <= found.high


def test_how_many_times_fewer() -> None:
    rng = np.random.default_rng(0)
    plain: Sums = {str(i): [float(rng.poisson(20)), 200.0, 6000.0, 9.0] for i in range(30)}
    own: Sums = {str(i): [float(rng.poisson(5)), 200.0, 4000.0, 9.0] for i in range(30)}
    lines, characters = fold([plain], [own]), fold([plain], [own], "character")
    assert lines is not None
    assert characters is not None
    assert lines.low < 4.0 < lines.high
    ends = fold([plain], [own], "line or end")
    assert ends is not None
    broken = [sum(each[0] for each in side.values()) for side in (plain, own)]
    assert ends.point == pytest.approx((broken[0] + 270) / (broken[1] + 270))
    assert characters.point == pytest.approx(lines.point * 4000 / 6000)
    assert fold([plain], [{"0": [0.0, 10.0, 300.0, 0.0]}]) is None
    assert fold([plain], [{"0": [40.0, 90.0, 300.0, 0.0], "1": [0.0, 90.0, 300.0, 0.0]}]) is None
    rows = [
        Row(name, 1, "none", 5, 100, failure_rate_exact(5, 100), facts={"by file": json.dumps(sums)})
        for name, sums in (("likelihood", plain), ("conditional", own))
    ]
    table = fewer(rows).splitlines()
    assert len({line.count("|") for line in table}) == 1  # every column has its head
    assert f"| {lines.point:.2g}" in table[-1]
    pair = [Judged(3, 1, 90, False, 0, True, ("E501",)), Judged(2, 0, 60, True, 1, False, ())]
    assert sums_of(["a", "a"], pair) == {"a": [1.0, 5.0, 150.0, 1.0]}
