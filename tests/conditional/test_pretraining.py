"""fivenines pretrain: from a file of marked texts to a model folder, told beforehand, gone on with after a kill."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fivenines.cli.pretrain import register
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Conditional, Filtering, Likelihood, Unlikelihood
from fivenines.conditional.pretraining import PretrainSettings, hold_out, pretrain, read_scheme
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.conditional.training import Arm, First
from fivenines.errors import ConfigError, DataError, LockedError, NotEnoughDataError, UserError
from fivenines.files import write_jsonl_atomic
from fivenines.models.language_model import LanguageModel
from fivenines.store.lock import TaskLock
from toy_corpus import CONFIG, SCHEME, TEXTS, training

SHAPE = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "48", "--tokenizer", "word"]
SETTINGS = PretrainSettings(Arm(Conditional(), training(max_steps=4)), SCHEME, CONFIG)


def asked(*arguments: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_jsonl_atomic(tmp_path / "corpus.jsonl", (text.to_row() for text in TEXTS))
    (tmp_path / "scheme.toml").write_text('[[rules]]\nkind = "banded"\nscorer = "toy"\nedges = [0.5]\n')
    return tmp_path


def test_from_the_command_line(files: Path) -> None:
    out = files / "model"
    done = asked(
        files / "corpus.jsonl",
        out,
        "--scheme",
        files / "scheme.toml",
        "--epochs",
        2,
        "--batch-size",
        8,
        *SHAPE,
    )
    assert done.exit_code == 0, done.output
    assert "118 texts, " in done.stdout
    assert "steps, 2.00 epochs: about" in done.stdout
    assert "million parameters, about" in done.stdout
    assert "Text held out, with good tags given: " in done.stdout
    assert "Text held out, without tags: " in done.stdout
    model = TaggedModel.load(out)
    assert model.scheme == SCHEME
    assert model.language.provenance["objective"] == Conditional().to_dict()
    assert sorted(path.name for path in out.iterdir() if path.is_dir() or path.suffix == ".pt") == []

    again = asked(files / "corpus.jsonl", out, *SHAPE)
    assert isinstance(again.exception, ConfigError)
    assert "must not hold a model yet" in str(again.exception)


def test_every_objective_by_name(files: Path) -> None:
    asked_for: list[list[Any]] = [
        ["likelihood"],
        ["conditional", "--emphasis", 5, "--above", 0.4, "--scheme", files / "scheme.toml"],
        ["filtering", "--threshold", 0.5, "--by", "max"],
        ["unlikelihood", "--threshold", 0.5, "--tagged", "--scheme", files / "scheme.toml"],
        ["reward_weighted", "--beta", 0.5, "--scorer", "toy"],
        ["advantage_weighted", "--beta", 0.5, "--alpha", 0.5],
        ["token_masked", "--threshold", 0.5, "--hidden", "<|hidden|>"],
    ]
    for number, options in enumerate(asked_for):
        out = files / f"model{number}"
        budget = ["--tokens", 4 * 48 * 3, "--batch-size", 4, "--objective"]
        done = asked(files / "corpus.jsonl", out, *SHAPE, *budget, *options)
        assert done.exit_code == 0, done.output
        assert f"Wrote {out}: 3 steps" in done.stdout
        assert ("with good tags given" in done.stdout) == (
            "--tagged" in options or options[0] == "conditional"
        )
        objective = LanguageModel.load(out).provenance["objective"]
        assert objective["kind"] == options[0]
        training = LanguageModel.load(out).provenance["training"]
        assert (training["decay"], training["optimizer"]) == ("cosine", "muon")
        if "--emphasis" in options:
            assert (objective["emphasis"], objective["above"]) == (5.0, 0.4)
        elif "--scheme" in options:
            assert objective["scorer"] == "toy"


def test_first_part_and_a_model_to_go_on_from(files: Path) -> None:
    common = [
        files / "corpus.jsonl",
        "--steps",
        6,
        "--batch-size",
        4,
        "--scheme",
        files / "scheme.toml",
        *SHAPE,
    ]
    done = asked(*common[:1], files / "two", *common[1:], "--first", files / "first", "--after", 0.34)
    assert done.exit_code == 0, done.output
    assert "First 34% of the steps by plain likelihood" in done.stdout
    assert "Wrote" in done.stdout
    story = TaggedModel.load(files / "two").language.provenance
    assert [story["before"][0]["result"]["steps"], story["result"]["steps"]] == [2, 4]
    done = asked(*common[:1], files / "more", *common[1:], "--model", files / "two")
    assert done.exit_code == 0, done.output
    more = TaggedModel.load(files / "more").language.provenance
    assert len(more["before"]) == 2
    assert more["training"]["optimizer"] == "adamw"
    done = asked(
        *common[:1], files / "none", *common[1:], "--model", files / "two", "--first", files / "other"
    )
    assert "must have no tags yet" in str(done.exception)
    done = asked(*common[:1], files / "plain", *common[1:], "--model", files / "first")
    assert done.exit_code == 0, done.output


def test_what_a_user_can_mend_is_said(files: Path) -> None:
    corpus, out = files / "corpus.jsonl", files / "out"
    (files / "bare.jsonl").write_text('{"text": "Ana fed the cat."}\n{"text": "Bob sang a song."}\n')
    (files / "broken.toml").write_text("[[rules]\n")
    (files / "list.json").write_text("[]")
    for arguments, message in (
        ([corpus, out], "objective conditional must be given a model with tags, got none"),
        ([corpus, out, "--objective", "dpo"], "the kind of an objective must be one of"),
        ([corpus, out, "--objective", "filtering"], "objective filtering must be given threshold, got none"),
        (
            [corpus, out, "--objective", "likelihood", "--emphasis", 2],
            "objective likelihood has no settings, got emphasis",
        ),
        ([corpus, out, "--emphasis", 0.5], "emphasis must be at least 1, got 0.5"),
        (
            [corpus, out, "--objective", "reward_weighted", "--emphasis", 3],
            "objective reward_weighted must have settings among scorer, tagged, normalise, clip, beta, got emphasis",
        ),
        ([corpus, out, "--scheme", files / "none.toml"], "must be a readable TOML file"),
        ([corpus, out, "--scheme", files / "broken.toml"], "must be a readable TOML file"),
        ([corpus, out, "--scheme", files / "list.json"], "must hold a scheme"),
        ([corpus, out, "--steps", 3, "--tokens", 99], "the budget must be given once"),
        ([corpus, corpus], "the folder of the model must not be a file"),
        (
            [files / "bare.jsonl", out, "--scheme", files / "scheme.toml"],
            "must be marked by toy, got marks by nobody",
        ),
        ([corpus, out, "--objective", "likelihood", "--block", 64], r"block must lie in [2, 48], got 64"),
    ):
        done = asked(*arguments, *SHAPE, "--quiet")
        assert isinstance(done.exception, UserError), (arguments, done.output)
        assert message in str(done.exception)
        assert not (out / "start").exists()  # nothing is made that the next run would find


def test_a_stopped_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    loss = Conditional.loss

    def counted(self: Any, *arguments: Any) -> torch.Tensor:
        calls.append(len(calls))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, *arguments)

    settings = replace(SETTINGS, arm=Arm(Conditional(), training(max_steps=8)))
    calm = pretrain(TEXTS, tmp_path / "calm", settings)
    monkeypatch.setattr(Conditional, "loss", counted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(TEXTS, tmp_path / "out", settings)
    done = pretrain(TEXTS, tmp_path / "out", settings)
    assert len(calls) == 8
    assert done.fitted.result.losses == calm.fitted.result.losses
    assert not (tmp_path / "out" / "checkpoint.pt").exists()
    assert not (tmp_path / "out" / "start").exists()
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        pretrain(TEXTS, tmp_path / "other", settings)
    another = replace(settings, arm=Arm(Conditional(), training(max_steps=9)))
    with pytest.raises(ConfigError, match="must be of the same data and settings"):
        pretrain(TEXTS, tmp_path / "other", another)


def test_a_start_of_other_settings_or_texts_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, out = Conditional.loss, tmp_path / "out"
    monkeypatch.setattr(Conditional, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):  # before the first checkpoint
        pretrain(TEXTS[:100], out, SETTINGS)
    assert (out / "start").is_dir()
    other = replace(SETTINGS, model=replace(CONFIG, seed=3))
    with monkeypatch.context() as usual:
        usual.setattr(Conditional, "loss", loss)
        found = pretrain(TEXTS, out, other)
        expected = pretrain(TEXTS, tmp_path / "calm", other)
    assert found.fitted.result.losses == expected.fitted.result.losses
    assert not (out / "start.json").exists()

    out = tmp_path / "second"
    monkeypatch.setattr(Conditional, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(TEXTS, out, SETTINGS)
    assert (out / "checkpoint.pt").exists()
    for texts, settings, what in (
        (TEXTS, other, "model"),
        (TEXTS[1:], SETTINGS, "texts"),
        (TEXTS, replace(SETTINGS, model=tmp_path / "calm"), "model"),
    ):
        with pytest.raises(ConfigError, match=rf"must be this one, got another one \({what}\)\. Delete it"):
            pretrain(texts, out, settings)


def stopped(*arguments: Any) -> torch.Tensor:
    raise KeyboardInterrupt


def interrupted(self: Conditional, logits: torch.Tensor, *arguments: Any) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGINT)
    return logits.sum()


def test_one_run_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    with TaskLock(tmp_path), pytest.raises(LockedError, match="must be used by one run at a time"):
        pretrain(TEXTS, tmp_path, SETTINGS)
    with TaskLock(tmp_path / "first"), pytest.raises(LockedError, match="first must be used by one run"):
        pretrain(TEXTS, tmp_path / "out", replace(SETTINGS, first=First(tmp_path / "first")))


def test_texts_held_out_need_no_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = [MarkedText(text.text, text.id) for text in TEXTS[:5]]
    for name, first in (("one", None), ("two", First(tmp_path / "first"))):
        settings = replace(SETTINGS, first=first)
        found = pretrain(TEXTS, tmp_path / name, settings, held_out=bare).held_out
        expected = pretrain(TEXTS, tmp_path / f"{name} marked", settings, held_out=TEXTS[:5]).held_out
        assert list(found) == ["good", "none"]
        for given, nats in found.items():
            assert nats.nats == pytest.approx(expected[given].nats)
    monkeypatch.setattr(Conditional, "loss", stopped)
    monkeypatch.setattr("fivenines.conditional.pretraining.nats_reader", refused)
    with pytest.raises(DataError, match="not readable"):  # before the first step
        pretrain(TEXTS, tmp_path / "three", SETTINGS, held_out=bare)


def refused(*arguments: Any, **options: Any) -> None:
    raise DataError("not readable")


def test_costs_are_told_before(tmp_path: Path) -> None:
    lines: list[str] = []
    arm = Arm(Filtering(0.3), training(max_steps=None, epochs=1.0, batch_size=8))
    done = pretrain(TEXTS, tmp_path / "one", replace(SETTINGS, arm=arm), say=lines.append)
    corpus = done.fitted.corpus
    assert lines[0].startswith(
        f"{corpus.texts} texts ({120 - corpus.texts} dropped), {corpus.tokens:,} tokens"
    )
    assert lines[1].startswith(f"{done.fitted.result.steps} steps, ")
    assert isinstance(done.model, LanguageModel)  # tags are for objectives that learn them
    assert done.held_out == {}
    other = Scheme((Banded("toy", tags=("<|a|>", "<|b|>")),))
    pretrain(TEXTS, tmp_path / "two", SETTINGS)
    with pytest.raises(ConfigError, match="the scheme must have the tags that the model has"):
        pretrain(TEXTS, tmp_path / "three", replace(SETTINGS, model=tmp_path / "two", scheme=other))
    with pytest.raises(NotEnoughDataError, match="training needs texts, got none"):
        pretrain([], tmp_path / "three", SETTINGS)
    first = First(tmp_path / "first")
    arm = Arm(Unlikelihood(0.5), training(max_steps=4))
    model = pretrain(TEXTS, tmp_path / "four", replace(SETTINGS, arm=arm, first=first))
    assert model.fitted.result.steps == 2


def test_texts_held_out_are_others() -> None:
    learnt, kept = hold_out(TEXTS, 0.1, 0)
    assert len(kept) == 12
    assert {text.id for text in learnt} | {text.id for text in kept} == {text.id for text in TEXTS}
    assert hold_out(TEXTS, 0.1, 0)[1] == kept
    assert hold_out(TEXTS, 0.1, 1)[1] != kept
    assert hold_out(TEXTS[:1], 0.5, 0) == (TEXTS[:1], [])
    assert hold_out(TEXTS, 0.0, 0)[1] == []


def test_schemes_are_read_from_json_too(tmp_path: Path) -> None:
    (tmp_path / "scheme.json").write_text(json.dumps(SCHEME.to_dict()))
    assert read_scheme(tmp_path / "scheme.json") == SCHEME
    with pytest.raises(DataError, match="must be a readable JSON file"):
        read_scheme(tmp_path / "none.json")
    assert Likelihood().with_tags is False
