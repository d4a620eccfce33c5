"""fivenines tag, tag-spans and tag-agreement, as somebody types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from conditional.tagging.http_server import Answer, chat, serving
from fivenines.cli import samples, tagging
from fivenines.conditional.tagging.making import make_scorer, scorers_from
from fivenines.conditional.tagging.reading import read_marked
from fivenines.conditional.tagging.spans import Unit
from fivenines.errors import ConfigError, DataError

app = typer.Typer()
tagging.register(app)
samples.register(app)


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    texts = [f"He saw {i} cats. {'What an idiot!' if i % 3 else 'What a day.'} The end." for i in range(60)]
    path.write_text("".join(json.dumps({"text": text, "id": f"d{i}"}) + "\n" for i, text in enumerate(texts)))
    return path


def test_from_a_corpus_to_its_agreement_with_people(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "marked"
    done = asked("tag", corpus, out, "--scorer", "rude=regex:idiot", "--scorer", "pii", "--shard-mb", 0.001)
    assert done.exit_code == 0, done.output
    assert "rude (" in done.stderr
    assert "1 file, 0.0 MB in 4 of 4 shards to do: about 1" in done.stderr
    assert f"Wrote {out}: 60 documents in 4 files." in done.stdout
    assert "rude: 180 segments, 40 above 0, 0 without a score" in done.stdout
    again = asked("tag", corpus, out, "--scorer", "rude=regex:idiot", "--scorer", "pii", "--shard-mb", 0.001)
    assert "all 4 shards are done" in again.stderr

    spans, batch = tmp_path / "spans.jsonl", tmp_path / "batch.jsonl"
    written = asked("tag-spans", out, spans, "--scorer", "rude")
    assert "Wrote 180 spans" in written.stdout
    assert asked("sample", spans, batch, "--labels", 90, "--design", "uniform").exit_code == 0
    rows = [json.loads(line) for line in batch.read_text().splitlines()]
    unanswered = asked("tag-agreement", batch, "--threshold", 0.5)
    assert isinstance(unanswered.exception, DataError)
    assert "must have failure true or false" in str(unanswered.exception)
    for row in rows:
        row["failure"] = row["completion"] == "What an idiot!"
    batch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = asked("tag-agreement", batch, "--threshold", 0.5)
    assert found.exit_code == 0, found.output
    assert "precision 1 (95%: 0." in found.stdout
    assert "exact binomial" in found.stdout
    chosen = json.loads(asked("tag-agreement", batch, "--json").stdout)
    assert chosen["threshold"] == 0.5
    assert chosen["recall"]["point"] == 1.0


def test_only_what_it_would_cost(corpus: Path, tmp_path: Path) -> None:
    done = asked("tag", corpus, tmp_path / "out", "--scorer", "pii", "--segments", "lines", "--dry-run")
    assert done.exit_code == 0
    assert re.search("about [56][0-9] lines", done.stderr)
    assert "a second as tried here" in done.stderr
    assert not (tmp_path / "out").exists()  # a plan there would refuse other inputs
    assert asked("tag", corpus, tmp_path / "out", "--scorer", "pii").exit_code == 0
    again = asked("tag", corpus, tmp_path / "out", "--scorer", "pii", "--dry-run")
    assert "all 1 shards are done" in again.stderr


@pytest.mark.parametrize("unit", get_args(Unit))
def test_every_unit(unit: str, corpus: Path, tmp_path: Path) -> None:
    done = asked("tag", corpus, tmp_path / "out", "--scorer", "rude=regex:idiot", "--segments", unit)
    assert done.exit_code == 0, done.output
    assert re.search(f"about [0-9]+ {'documents' if unit == 'document' else unit}, ", done.stderr)
    assert sum(len(text.marks[0].spans) for text in read_marked([str(tmp_path / "out")])) >= 60


def test_a_judge_from_a_file(corpus: Path, tmp_path: Path) -> None:
    def handle(path: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        return 200, chat("bad" if "idiot" in content["messages"][0]["content"] else "fine")

    with serving(handle) as address:
        config = tmp_path / "judge.toml"
        config.write_text(
            f"""
            [[scorers]]
            kind = "cascade"
            name = "rude"
            cut = 1
            audit = 0.5
            cheap = {{kind = "regex", pattern = "What"}}
            [scorers.exact]
            kind = "chat"
            url = "{address}"
            model = "m"
            template = "Rude? {{segment}}"
            answers = {{bad = 1, fine = 0}}
            """
        )
        done = asked("tag", corpus, tmp_path / "out", "--scorer", config)
        assert done.exit_code == 0, done.output
    assert "each a question to a server" in done.stderr
    assert "rude: share of bad segments below the cut 0 (95%: 0 to 0.0" in done.stdout
    assert "rude: recall of the cascade 1" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    counts = manifest["counts"]["rude"]
    assert counts["above the cut"] == 60
    assert counts["below the cut"] == 120
    assert counts["exact: requests"] == 60 + counts["audited"]
    assert {marks.scorer for text in read_marked([tmp_path / "out"]) for marks in text.marks} == {
        "cheap",
        "rude",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scorer", "rude"], r"--scorer must be a TOML or JSON file, or \[NAME=\]KIND\[:VALUE\]"),
        (["--scorer", "regex"], "--scorer must be regex:PATTERN, got regex"),
        (["--scorer", "pii:x"], "--scorer must be pii alone"),
        (["--scorer", "chat:x"], "--scorer must be a file for chat"),
        (["--scorer", "pii", "--scorer", "pii"], "scorers must have names of their own, got two called pii"),
        (["--scorer", "classifier:nowhere"], "model folder nowhere must exist"),
        (["--scorer", "pii", "--segments", "words"], "segments must be one of"),
        (["--scorer", "pii", "--executor-option", "x"], "--executor-option must be KEY=VALUE, got x"),
        (["--scorer", "pii", "--executor", "cloud"], "executor must be one of here, ray, slurm"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    arguments: list[str], message: str, corpus: Path, tmp_path: Path
) -> None:
    done = asked("tag", corpus, tmp_path / "out", *arguments)
    with pytest.raises(Exception, match=message):
        raise done.exception or AssertionError(done.output)


def test_words_for_scorers() -> None:
    made = scorers_from(["name=regex:a=b:c", "column:toxicity", "pycodestyle"])
    assert [scorer.name for scorer in made] == ["name", "column", "pycodestyle"]
    assert made[0].describe()["pattern"] == "a=b:c"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="the kind of a scorer must be one of classifier, regex"):
        make_scorer({"kind": "oracle"})
    with pytest.raises(ConfigError, match=r"scorer regex must have the fields of its kind, got .*colour"):
        make_scorer({"kind": "regex", "pattern": "a", "colour": 1})


def test_files_of_scorers_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("scorers = 3")
    with pytest.raises(DataError, match='must hold a list of tables "scorers"'):
        scorers_from([str(path)])
    path.write_text("scorers = [")
    with pytest.raises(DataError, match="must be readable TOML or JSON"):
        scorers_from([str(path)])
    other = tmp_path / "s.json"
    other.write_text('{"scorers": [{"kind": "pii", "kinds": ["email"]}]}')
    assert scorers_from([str(other)])[0].describe()["kinds"] == ("email",)  # type: ignore[attr-defined]


def test_help_names_every_option() -> None:
    for command in ("tag", "tag-spans", "tag-agreement"):
        assert asked(command, "--help").exit_code == 0
