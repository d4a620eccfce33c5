"""The first step: texts become snippets, split by source, and prompts for each distribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from fivenines.data import Document, deduplicate, read_prompts, read_texts, split_by_source, windows
from fivenines.errors import NotEnoughDataError, sentence
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Snippet
from fivenines.store import Step
from fivenines.storyworld import write_snippets

__all__ = ["prepare_data"]

_VALIDATION_SHARE = 0.02  # of the training texts, to see the generator learn
_MOST_VALIDATION_TEXTS = 500


def prepare_data(work: Workspace, step: Step) -> None:
    """Cut windows, split them by source, write snippets and texts.

    Writes train, calibrate and test.jsonl (snippets; without texts, prompts with empty completions), the texts
    that a generator may learn from (sources of the training split alone), and prompts-NAME.jsonl for every file
    of prompts.
    """
    task, data = work.task, work.task.data
    near = None if data.near == 1.0 else data.near
    stories = write_snippets(task.stories(), seed=task.seed)
    snippets = deduplicate(chain(stories, _snippets(work)), near=near)
    if not snippets:
        then = "Name texts or prompts under [data] in task.toml."
        raise NotEnoughDataError(sentence("the data", "must hold a prompt at least", "none", then))
    split = split_by_source(snippets, data.splits.model_dump(), seed=task.seed, near=data.near)
    for name, part in split.items():
        if not part:
            then = "Give more sources, or this split a larger share."
            raise NotEnoughDataError(sentence(f"split {name}", "must hold a source at least", "none", then))
        step.write_jsonl(f"{name}.jsonl", part)
    texts = list(_texts(work, stories, {s.source for s in split["train"]}))
    order = np.random.default_rng(task.seed).permutation(len(texts))
    n_validation = min(round(_VALIDATION_SHARE * len(texts)), _MOST_VALIDATION_TEXTS)
    held, kept = order[:n_validation], order[n_validation:]
    step.write_jsonl("validation_texts.jsonl", ({"text": texts[i].text} for i in held))
    step.write_jsonl("train_texts.jsonl", ({"text": texts[i].text} for i in kept))
    files = {name: [task.path(file)] for name, file in task.evaluate.files.items()}
    if data.prompts:
        files["all"] = task.prompt_files()
    counts = {name: step_prompts(step, name, paths) for name, paths in files.items()}
    step.write_metrics(
        {**{name: len(part) for name, part in split.items()}, "texts": len(kept), "prompts": counts}
    )


def step_prompts(step: Step, name: str, files: Iterable[Path]) -> int:
    """Write the distinct prompts of files; returns their number."""
    prompts = list(dict.fromkeys(chain.from_iterable(read_prompts(file) for file in files)))
    step.write_jsonl(f"prompts-{name}.jsonl", ({"prompt": prompt, "completion": ""} for prompt in prompts))
    return len(prompts)


def _snippets(work: Workspace) -> Iterator[Snippet]:
    """Windows of the files of texts; without texts, the prompts of files alone, each its own source."""
    task, data = work.task, work.task.data
    for document in read_texts(task.text_files()):
        yield from windows(document, k=data.sentences_per_prompt, within=data.within)
    if not data.texts:
        for file in task.prompt_files():
            yield from (Snippet(prompt, "", source=f"prompt {prompt}") for prompt in read_prompts(file))


def _texts(work: Workspace, stories: Iterable[Snippet], sources: set[str]) -> Iterator[Document]:
    """The documents of these sources."""
    yield from (Document(story.text, story.source) for story in stories if story.source in sources)
    yield from (d for d in read_texts(work.task.text_files()) if d.source in sources)
