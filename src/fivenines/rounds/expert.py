"""The task's generator, led towards its failures: what the family "guided" draws from."""

from __future__ import annotations

import zlib

from fivenines.errors import NotEnoughDataError, sentence
from fivenines.models.guided import GuidedGenerator, fit_expert
from fivenines.models.language_model import LanguageModel
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.learning import load_generator, sampling_config
from fivenines.pipeline.material import training_material
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Answer
from fivenines.store import RunFolder, Step, TaskLock

__all__ = ["guided_generator"]

# Enough to learn what failures are like, too little to learn them by heart: the guiding strength does the rest.
_READ, _MOST_EPOCHS, _LEARNING_RATE = 4000, 10, 1e-4


def guided_generator(work: Workspace) -> GuidedGenerator:
    """The generator, moved towards a copy of it that has learnt the judged failing snippets of training.

    The copy is trained once, in the step ``rounds/expert``. Raises NotEnoughDataError without a failing snippet, and
    LockedError while another process trains it.
    """
    generator, seed = load_generator(work), work.task.seed
    material = training_material(work, seed)
    failing = [
        snippet
        for snippet, answer in zip(material.snippets, material.answers, strict=True)
        if answer.answer is Answer.FAILURE and snippet.completion.strip()
    ]
    if not failing:
        must = "needs judged failing texts to learn from"
        raise NotEnoughDataError(sentence("attack family guided", must, "none", "Label more."), 1)
    ids = zlib.crc32("".join(snippet.id for snippet in failing).encode())
    inputs = {"generator": work.step("generator"), "failing": [len(failing), ids], "seed": seed}
    step = RunFolder(work.runs.path / "rounds").step("expert", inputs)
    if step.is_done():
        return _guided(work, generator, step)
    with TaskLock(step.path.with_name(".expert")):  # `fivenines attack` runs beside others
        epochs = min(_MOST_EPOCHS, max(1.0, _READ / len(failing)))
        training = TrainingConfig(epochs=epochs, learning_rate=_LEARNING_RATE, seed=seed)
        with step:
            folder = step.path / "model"
            expert = fit_expert(generator, failing, training=training, folder=folder, progress=work.progress)
            expert.save(folder)
            step.write_metrics({"failing": len(failing), "epochs": epochs})
    return _guided(work, generator, step)


def _guided(work: Workspace, generator: LanguageModel, step: Step) -> GuidedGenerator:
    return GuidedGenerator(generator, LanguageModel.load(step.path / "model", sampling=sampling_config(work)))
