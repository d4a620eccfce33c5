"""A locked model has no switch left, writes as its teacher did under the policy, and a killed lock goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from fivenines.conditional import locking as module
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.imitating import ImitatedRow, Imitation, next_token_divergence, row_batches
from fivenines.conditional.locking import LockConfig, lock
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.removing import check_removable, remove_tags
from fivenines.conditional.schemes import Labelled, Scheme
from fivenines.conditional.vocabulary import add_tags
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from fivenines.models.language_model import LanguageModel, SamplingConfig
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
    for wrong in ({"prompts": [None]}, {"prompts": PROMPTS, "texts": [3]}):
        with pytest.raises(DataError, match="prompts and texts must be texts, got"):
            lock(teacher, **wrong)
    for name in ("draws", "length", "seed"):
        for value in (True, "3"):
            with pytest.raises(ConfigError, match=f"{name} must be an integer of at least"):
                LockConfig(**{name: value})  # type: ignore[arg-type]
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


QUICK = TrainingConfig(max_steps=2, batch_size=8, precision="float32")


def by_hand(teacher: TaggedGenerator, job: module._Job, prompt: str, tokens: Sequence[int]) -> float:
    """KL(teacher | untaught student) in nats, summed over the text behind a prompt: a pass for each token."""
    model, kept, total = teacher.model, torch.from_numpy(job.kept), 0.0
    good, bad = model.tags[GOOD], model.tags[BAD]
    ids = model.language.tokenizer(prompt)["input_ids"]
    forced = [model.tags[tag] for tag in teacher.policy.force]

    def logits(network: torch.nn.Module, read: Sequence[int]) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = network(input_ids=torch.tensor([list(read)])).logits[0, -1]
        return found

    for n, token in enumerate(tokens):
        if token in (good, bad):
            continue
        target = logits(model.language.model, [*ids, *forced, *tokens[:n]])
        if teacher.guidance is not None:
            turned = [bad if each == good else each for each in tokens[:n]]
            other = logits(model.language.model, [*ids, bad, *turned])
            target = target + teacher.guidance.weight * (target - other)
        seen = [int(np.searchsorted(job.kept, t)) for t in (*ids, *tokens[:n]) if t not in (good, bad)]
        p, q = target[kept].log_softmax(-1), logits(job.student.model, seen).log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
    return total


@pytest.mark.parametrize(
    ("policy", "guidance"),
    [
        (None, None),
        (None, Guidance(1.5)),
        (TagPolicy(silent=True), Guidance(1.5)),  # the contrast is one tag longer
    ],
)
def test_what_is_imitated_is_the_teacher_under_its_policy(
    policy: TagPolicy | None, guidance: Guidance | None
) -> None:
    teacher = TaggedGenerator(tagged_model(), policy, guidance=guidance)
    job = module._Job(teacher, LockConfig(draws=2, length=9), None, lambda line: None)
    prompts = ["Then Ann fell.", "Then Bob sang. Then Mara danced."]
    written = job.write(prompts)
    rows = [job.drawn(*each) for each in written]
    found = job._imitation().divergence(job.student.model, row_batches(rows, batch_size=4, seed=0))
    slow = sum(by_hand(teacher, job, prompts[i // 2], tokens) for i, (_, tokens) in enumerate(written))
    assert found == pytest.approx(slow / sum(len(row.own) for row in rows), rel=1e-4)


def test_texts_besides_are_learnt() -> None:
    odd = "Mara Mara Ann sang. Bob Bob Bob danced."
    config = LockConfig(draws=1, length=8, training=replace(QUICK, max_steps=15, learning_rate=3e-3))
    teacher = TaggedGenerator(tagged_model())
    without, besides = (lock(teacher, PROMPTS, config, texts=[odd] * n) for n in (0, 12))
    assert besides.model.nats_per_word([odd]) < without.model.nats_per_word([odd]) - 1.0
    assert besides.tokens - without.tokens == 12 * (
        len(teacher.tokenizer(odd)["input_ids"]) - 1 + 1  # not its first token, but its end
    )


def test_nothing_held_out_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt, held = module._split(PROMPTS, LockConfig(held_out=0.3))
    assert not set(learnt) & set(held)
    assert sorted(learnt + held) == sorted(PROMPTS)
    assert len(held) == round(0.3 * len(PROMPTS))
    found: list[set[tuple[int, ...]]] = []

    def learn(self: module._Job, rows: list[ImitatedRow], kept_out: list[ImitatedRow], *_: object) -> None:
        found.extend({row.seen[: row.own[0]] for row in group} for group in (rows, kept_out))

    monkeypatch.setattr(module._Job, "learn", learn)
    blanks = [f"{prompt}{blank}" for blank in ("", " ", "\n") for prompt in PROMPTS]
    lock(TaggedGenerator(tagged_model()), blanks, LockConfig(draws=1, length=4, held_out=0.3))
    assert len(found[0]) + len(found[1]) == len(PROMPTS)
    assert not found[0] & found[1]


def test_what_was_written_under_another_lookahead_is_not_taken(tmp_path: Path) -> None:
    config = LockConfig("samples", draws=1, length=4, training=QUICK)
    module._Job(
        TaggedGenerator(tagged_model(), lookahead=Lookahead(8)), config, tmp_path, lambda line: None
    ).write(PROMPTS)
    for lookahead in (None, Lookahead(2)):
        other = TaggedGenerator(tagged_model(), lookahead=lookahead)
        with pytest.raises(ConfigError, match="must be of the same model, prompts and policy, got another"):
            lock(other, PROMPTS, replace(config, held_out=0.0), folder=tmp_path)
    same = TaggedGenerator(tagged_model(), lookahead=Lookahead(8))
    found = lock(same, PROMPTS, replace(config, held_out=0.0), folder=tmp_path)
    assert found.model.provenance["lock"]["lookahead"] == {"candidates": 8, "drop": 0.5, "relative": False}


def test_other_texts_do_not_go_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = replace(QUICK, max_steps=4, checkpoint_every_seconds=0.0)
    config, real, calls = LockConfig(draws=1, length=4, training=training), Imitation.loss, 0

    def dying(self: Imitation, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(self, model, batch)

    def asked(text: str) -> module.Locked:
        return lock(TaggedGenerator(tagged_model()), PROMPTS, config, texts=[text] * 3, folder=tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(Imitation, "loss", dying)
        with pytest.raises(KeyboardInterrupt):
            asked("Then Ann sang.")
    with pytest.raises(ConfigError):
        asked("Then Bob bled.")
    assert asked("Then Ann sang.").result.steps == 4


@pytest.mark.parametrize("learn", ["distribution", "samples"])
def test_a_policy_that_changes_is_refused(learn: str) -> None:
    changing = TaggedGenerator(tagged_model(), change=lambda n, text: TagPolicy(force=(BAD,), silent=True))
    with pytest.raises(ConfigError, match="the policy of a lock must stay as it is, got one that changes"):
        lock(changing, PROMPTS, LockConfig("samples" if learn == "samples" else "distribution"))


def test_the_student_samples_as_its_teacher(tmp_path: Path) -> None:
    sampling = SamplingConfig(max_new_tokens=5, temperature=0.5, stop="eos")
    config = LockConfig(draws=1, length=4, training=QUICK)
    found = lock(TaggedGenerator(tagged_model(), sampling=sampling), PROMPTS, config, folder=tmp_path)
    assert found.model.sampling == sampling
    assert LanguageModel.load(tmp_path).sampling == sampling


def test_a_kill_before_the_tidying_is_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    config = LockConfig(draws=1, length=4, training=replace(QUICK, checkpoint_every_seconds=0.0))
    with monkeypatch.context() as patch:
        patch.setattr("fivenines.models.language_model.remove_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=tmp_path)
    (tmp_path / "checkpoint.pt").touch()
    assert (tmp_path / "lesson").is_dir()
    with pytest.raises(ConfigError, match="must not hold a model yet"):
        lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "lesson").exists()
    other = tmp_path / "other"
    tagged_model().save(other)
    (other / "lesson").mkdir()
    with pytest.raises(ConfigError, match="must not hold a model yet"):
        lock(TaggedGenerator(tagged_model()), PROMPTS, config, folder=other)
    assert (other / "lesson").is_dir()  # it is somebody else's


@pytest.mark.parametrize("kind", ["template", "roberta"])
def test_what_stands_around_texts_moves_up(kind: str) -> None:
    model = tagged_model("bpe" if kind == "roberta" else "word")
    language = model.language
    language.tokenizer.add_special_tokens({"bos_token": "<s>"})
    start = language.tokenizer.convert_tokens_to_ids("<s>")
    assert isinstance(start, int)
    language.model.resize_token_embeddings(len(language.tokenizer), mean_resizing=False)
    backend: Any = getattr(language.tokenizer, "backend_tokenizer")  # noqa: B009
    around: Any = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    if kind == "roberta":
        around = processors.Sequence([processors.RobertaProcessing(("<s>", start), ("<s>", start))])
    backend.post_processor = around
    ids = language.tokenizer("Then Ann")["input_ids"]
    student, kept = remove_tags(model)
    assert ids[0] == start
    assert kept[student.tokenizer("Then Ann")["input_ids"]].tolist() == ids
    backend.post_processor = processors.TemplateProcessing(
        single=f"{GOOD} $A", special_tokens=[(GOOD, model.tags[GOOD])]
    )
    with pytest.raises(ModelError, match="got one that the tokenizer sets around texts"):
        remove_tags(model)
