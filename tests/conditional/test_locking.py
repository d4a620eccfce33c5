"""A locked model has no switch left, writes as its teacher did under the policy, and a killed lock goes on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fivenines.conditional import locking as module
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.imitating import Imitation, next_token_divergence
from fivenines.conditional.locking import LockConfig, lock
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.removing import check_removable, remove_tags
from fivenines.conditional.schemes import Labelled, Scheme
from fivenines.conditional.vocabulary import add_tags
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from fivenines.models.language_model import LanguageModel
from fivenines.models.training_config import TrainingConfig
from small_tagged import BAD, CRUEL, GOOD, NAMES, is_cruel, stories, tagged_model

PROMPTS = [f"Then {name} {verb}." for name in NAMES for verb in ("sang", "smiled", "danced", *CRUEL)]
TRAINING = TrainingConfig(epochs=6, learning_rate=3e-3, batch_size=32, precision="float32")
CONFIG = LockConfig(draws=12, length=12, training=TRAINING)


def rate(generator: TaggedGenerator | LanguageModel, prompts: list[str], draws: int = 25) -> float:
    texts = generator.sample(prompts * draws, seed=5)
    return float(np.mean([is_cruel(text) for text in texts]))


@cache
def locked(tokenizer: str = "word", learn: str = "distribution") -> module.Locked:
    config = LockConfig("samples" if learn == "samples" else "distribution", 12, 12, training=TRAINING)
    return lock(TaggedGenerator(tagged_model(tokenizer)), PROMPTS, config)


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_removed_tags_leave_all_else_as_it_was(tokenizer: str) -> None:
    model = tagged_model(tokenizer)
    student, kept = remove_tags(model)
    text = "Then Ann sang. Then Bob fell."
    ids = model.language.tokenizer(text)["input_ids"]
    assert student.tokenizer(text)["input_ids"] == ids
    assert len(student.tokenizer) == len(model.language.tokenizer) - 2
    assert not set(model.tags.values()) & set(kept.tolist())
    with torch.no_grad():
        old = model.language.model(input_ids=torch.tensor([ids])).logits[..., torch.from_numpy(kept)]
        new = student.model(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(new, old)
    assert GOOD in model.language.tokenizer.get_vocab()  # the teacher is as it was


def test_tokens_behind_the_tags_move_up() -> None:
    model = tagged_model("bpe")
    later = Scheme((Labelled("kind", {"x": "<|x|>"}),))
    token = add_tags(model.language.model, model.language.tokenizer, later)["<|x|>"]
    student, kept = remove_tags(model)
    assert student.tokenizer.convert_tokens_to_ids("<|x|>") == token - 2
    assert kept[token - 2] == token
    assert student.tokenizer("Then<|x|> Bob")["input_ids"].count(token - 2) == 1


def test_the_student_writes_as_its_teacher_under_the_policy() -> None:
    teacher = TaggedGenerator(tagged_model())
    free = TaggedGenerator(tagged_model(), TagPolicy())
    found = locked()
    assert rate(free, PROMPTS) > 0.3
    assert abs(rate(found.model, PROMPTS) - rate(teacher, PROMPTS)) < 0.05
    assert found.before is not None
    assert found.after is not None
    assert found.after < found.before / 3
    assert found.tokens > 1000


@pytest.mark.parametrize("learn", ["samples", "distribution"])
def test_a_forged_tag_does_nothing(learn: str) -> None:
    student = locked("bpe", learn).model
    assert not {GOOD, BAD} & set(student.tokenizer.get_vocab())
    assert rate(student, PROMPTS) < 0.15
    forged = [f"{prompt} {BAD}" for prompt in PROMPTS]
    assert rate(student, forged) < 0.25
    assert rate(TaggedGenerator(tagged_model("bpe"), TagPolicy(force=(BAD,))), PROMPTS) > 0.8
    with pytest.raises(ModelError, match="must be one token of the tokenizer"):
        TaggedModel(student, tagged_model().scheme)


def test_the_folder_is_plain_and_says_where_it_came_from(tmp_path: Path) -> None:
    small = LockConfig(draws=2, length=8, training=TrainingConfig(max_steps=3, batch_size=8))
    found = lock(TaggedGenerator(tagged_model()), PROMPTS, small, folder=tmp_path / "out")
    loaded = LanguageModel.load(tmp_path / "out")
    assert loaded.sample(PROMPTS, seed=3) == found.model.sample(PROMPTS, seed=3)
    story = loaded.provenance["lock"]
    assert story["removed"] == [GOOD, BAD]
    assert story["policy"]["ban"] == [BAD]
    card = json.loads((tmp_path / "out" / "fivenines.json").read_text())
    assert card["tags"] is None
    for file in (tmp_path / "out").glob("*.json"):
        assert file.name == "fivenines.json" or BAD not in file.read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert network.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "out"))
    with pytest.raises(ModelError, match="must hold a model with tags"):
        TaggedModel.load(tmp_path / "out")
    with pytest.raises(ConfigError, match="must not hold a model yet"):
        lock(TaggedGenerator(tagged_model()), PROMPTS, small, folder=tmp_path / "out")


def test_texts_and_guidance_teach_too() -> None:
    texts = [text.text for text in stories(60, 7)]
    training = TrainingConfig(epochs=4, learning_rate=3e-3, batch_size=32, precision="float32")
    config = LockConfig(draws=4, length=12, training=training)
    found = lock(TaggedGenerator(tagged_model()), PROMPTS, config, texts=texts)
    assert rate(found.model, PROMPTS) < 0.15
    guided = TaggedGenerator(tagged_model(), guidance=Guidance(1.0, 0.95))
    moved = lock(guided, PROMPTS, config)
    assert moved.before is not None
    assert moved.after is not None
    assert moved.after < moved.before / 3
    with pytest.raises(ConfigError, match="texts to learn besides are read under good tags alone"):
        lock(guided, PROMPTS, config, texts=texts)


def test_a_killed_lock_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = TrainingConfig(
        max_steps=12, batch_size=8, checkpoint_every_seconds=0.0, learning_rate=1e-3, precision="float32"
    )
    config = LockConfig(draws=2, length=8, training=training)
    whole = lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=tmp_path / "whole")
    calls = 0
    real = Imitation.loss

    def dying(self: Imitation, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Imitation, "loss", dying)
        with pytest.raises(KeyboardInterrupt):
            lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=tmp_path / "killed")
    assert (tmp_path / "killed" / "lesson" / "0000000.json").exists()
    with monkeypatch.context() as patch:  # nothing is written twice
        patch.setattr(TaggedGenerator, "write", lambda *_, **__: pytest.fail("written twice"))
        again = lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=tmp_path / "killed")
    assert again.result.losses == whole.result.losses
    for name, tensor in whole.model.model.state_dict().items():
        assert torch.equal(tensor, again.model.model.state_dict()[name])


def test_a_folder_of_another_lock_is_refused(tmp_path: Path) -> None:
    job = module._Job(TaggedGenerator(tagged_model()), CONFIG, tmp_path, lambda line: None)
    job.write(PROMPTS[:2])
    with pytest.raises(ConfigError, match="must be of the same model, prompts and policy, got another"):
        job.write(PROMPTS[:3])
    other = tagged_model()
    with torch.no_grad():
        next(other.language.model.parameters()).add_(1.0)
    job = module._Job(TaggedGenerator(other), CONFIG, tmp_path, lambda line: None)
    with pytest.raises(ConfigError, match="got another"):
        job.write(PROMPTS[:2])


def test_divergence_is_that_of_its_definition() -> None:
    logits, targets = torch.randn(2, 3), torch.randn(2, 3)
    targets[0, 1] = -torch.inf
    p, q = targets.softmax(-1), logits.softmax(-1)
    slow = sum(float(p[i, j] * (p[i, j] / q[i, j]).log()) for i in range(2) for j in range(3) if p[i, j] > 0)
    assert float(next_token_divergence(logits, targets)) == pytest.approx(slow / 2, abs=1e-6)
    assert float(next_token_divergence(targets[1:], targets[1:])) == pytest.approx(0, abs=1e-6)


def test_broken_input_is_said(tmp_path: Path) -> None:
    teacher = TaggedGenerator(tagged_model())
    with pytest.raises(NotEnoughDataError, match="locking needs prompts to write behind, got none"):
        lock(teacher, [])
    with pytest.raises(DataError, match="must be lists of texts"):
        lock(teacher, "Then Ann")
    with pytest.raises(DataError, match="must leave room for 16 tokens: at most 47, got"):
        lock(teacher, ["Then Ann sang. " * 30])
    with pytest.raises(ConfigError, match=r"must leave no bad tag to write, got <\|bad\|>"):
        lock(TaggedGenerator(tagged_model(), TagPolicy(force=(GOOD,))), PROMPTS)
    with pytest.raises(ConfigError, match="must follow from its tags, got lookahead"):
        lock(TaggedGenerator(tagged_model(), lookahead=Lookahead(4)), PROMPTS)
    with pytest.raises(ConfigError, match="draws must be an integer of at least 1, got 0"):
        LockConfig(draws=0)
    with pytest.raises(ConfigError, match="learn must be one of distribution, samples, got x"):
        LockConfig("x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"held_out must lie in \[0, 1\)"):
        LockConfig(held_out=1.0)
    model = tagged_model()
    model.language.tokenizer.pad_token = BAD
    with pytest.raises(ModelError, match="must serve as nothing else to be taken out, got the pad_token"):
        check_removable(model)
