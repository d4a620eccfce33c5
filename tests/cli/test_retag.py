"""fivenines retag: its four files, and that the other commands read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fivenines.cli import retagging, samples
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.retagging import Retagger
from fivenines.conditional.tagging.reading import read_marked
from fivenines.data.snippets import read_snippets
from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.files import write_jsonl_atomic
from small_tagged import stories, tagged_model


def asked(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    retagging.register(app)
    samples.register(app)
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "held-out.jsonl"
    write_jsonl_atomic(file, (each.to_row() for each in stories(40, 5)))
    return file


def test_all_four_files(folder: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    done = asked("retag", folder, corpus, "--out", out, "--most", 10)
    assert done.exit_code == 0, done.output
    assert "AUROC" in done.output
    report = json.loads((out / "retagging.json").read_text())
    assert report["report"]["spans"] == 160
    assert report["report"]["detection"]["auroc"]["point"] > 0.8
    assert report["change"] is None
    assert report["settings"]["documents"] == {"read": 40, "of": 40, "seed": 0}
    assert "drawn at random" not in done.output
    assert "| Cohen's kappa |" in " ".join((out / "retagging.md").read_text().split())
    title = (out / "retagging.md").read_text().splitlines()[0]
    assert title == "| 0.95 intervals by document; in shares and changes every document counts once | |"

    texts = stories(40, 5)
    read = Retagger(TaggedModel.load(folder)).read(texts)
    again = list(read_marked([out / "retagged.jsonl"]))
    assert again == [each.marked("model", report["settings"]["version"]) for each in read]
    assert [each.by("harm") for each in again] == [each.by("harm") for each in texts]

    rows = [json.loads(line) for line in (out / "differ.jsonl").read_text().splitlines()]
    assert [row["side"] for row in rows] == ["model"] * 10 + ["scorer"] * 10
    known = {each.id: each.text for each in texts}
    for row in rows:
        assert known[row["id"]][row["start"] : row["end"]] == row["completion"]
    assert len(list(read_snippets(out / "differ.jsonl"))) == 20


def test_what_differs_goes_to_the_labelling_queue(folder: Path, corpus: Path, tmp_path: Path) -> None:
    out, batch = tmp_path / "found", tmp_path / "batch.jsonl"
    assert asked("retag", folder, corpus, "--out", out, "--most", 15).exit_code == 0
    done = asked("sample", out / "differ.jsonl", batch, "--labels", 12)
    assert done.exit_code == 0, done.output
    chosen = [json.loads(line) for line in batch.read_text().splitlines()]
    assert chosen
    assert all(row["failure"] is None and {"mark", "model", "id", "start"} <= set(row) for row in chosen)
    for row in chosen:
        row["failure"] = row["mark"] > 0.5
    write_jsonl_atomic(batch, chosen)
    assert asked("rate", batch).exit_code == 0


def test_a_prompt_and_its_change(folder: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    options = ["--prompt", "Then Bob bled.", "--given", "predicted", "--name", "itself", "--documents", 20]
    done = asked("retag", folder, corpus, "--out", out, *options)
    assert done.exit_code == 0, done.output
    found = json.loads((out / "retagging.json").read_text())
    assert found["report"]["documents"] == 20
    assert found["change"]["spans"] == 80
    assert found["change"]["change"]["point"] != 0.0
    assert found["settings"]["prompt"] == "Then Bob bled. "
    assert next(read_marked([out / "retagged.jsonl"])).by("itself").version == found["settings"]["version"]


def test_documents_are_drawn_at_random(folder: Path, corpus: Path, tmp_path: Path) -> None:
    names = [each.id for each in stories(40, 5)]
    found: list[list[str]] = []
    for seed in (0, 0, 1):
        out = tmp_path / f"found-{len(found)}"
        done = asked("retag", folder, corpus, "--out", out, "--documents", 10, "--seed", seed)
        assert f"Read 10 of 40 documents, drawn at random (seed {seed})." in done.output, done.output
        found.append([each.id for each in read_marked([out / "retagged.jsonl"])])
    assert found[0] == found[1] != found[2]
    for drawn in found:
        assert len(drawn) == 10
        assert drawn == sorted(drawn, key=names.index)
        assert drawn != names[:10]
    counts, six = dict.fromkeys(names, 0), stories(6, 5)
    for seed in range(2000):
        texts, held = retagging._drawn(iter(six), 2, seed)
        assert held == 6
        for text in texts:
            counts[text.id] += 1
    assert all(abs(counts[name] / 2000 - 1 / 3) < 0.05 for name in names[:6])  # five deviations


def test_a_killed_run_is_begun_anew(
    folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fivenines.files.write_json_atomic", killed)
        assert asked("retag", folder, corpus, "--out", out).exit_code != 0
    left = sorted(path.name for path in out.iterdir())
    assert left == ["differ.jsonl", "retagged.jsonl", "retagging.md"]  # what marks the end is written last
    assert asked("retag", folder, corpus, "--out", out).exit_code == 0
    assert (out / "retagging.json").exists()


def test_what_it_refuses(folder: Path, corpus: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> tuple[type[BaseException], str]:
        done = asked("retag", *arguments)
        assert done.exception is not None, done.output
        return type(done.exception), str(done.exception)

    out = tmp_path / "found"
    kind, message = refused(folder, corpus, "--out", out, "--given", "all")
    assert kind is ConfigError
    assert "given must be none, own or predicted" in message
    plain, broken = tmp_path / "plain.jsonl", tmp_path / "broken.jsonl"
    write_jsonl_atomic(plain, [MarkedText("Then Ann sang.", "a").to_row()])
    kind, message = refused(folder, plain, "--out", out)
    assert kind is DataError
    assert "text a must be marked by harm, got marks by nobody" in message
    marks = '{"scorer": "harm", "version": "1", "spans": [[0, 14]], "scores": [NaN]}'
    broken.write_text(f'{{"text": "Then Ann sang.", "marks": [{marks}]}}\n')
    kind, message = refused(folder, broken, "--out", out)
    assert kind is DataError
    assert "broken.jsonl, line 1 must be JSON (NaN is not in JSON)" in message
    bare = tmp_path / "bare"
    tagged_model().language.save(bare)
    kind, message = refused(bare, corpus, "--out", out)
    assert kind is ModelError
    assert "must hold a model with tags" in message
    kind, message = refused(folder, corpus, "--out", out, "--name", "harm")
    assert kind is ConfigError
    assert "--name must be a name that is none of its scorers' (harm), got 'harm'" in message
    for name in ("harm", "", " "):  # before anything is read
        kind, message = refused(folder, tmp_path / "missing.jsonl", "--out", out, "--name", name)
        assert kind is ConfigError
        assert "--name must be a name" in message
    assert not out.exists()
    assert asked("retag", folder, corpus, "--out", out).exit_code == 0
    kind, message = refused(folder, corpus, "--out", out)
    assert kind is ConfigError
    assert "--out must hold no earlier retagging" in message
