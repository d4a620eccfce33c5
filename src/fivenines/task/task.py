"""A task: the behavior, and everything that is needed to measure and filter it, in one task.toml."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from fivenines.errors import ConfigError, sentence
from fivenines.task.adversarial import Attack, Rounds
from fivenines.task.problems import problems
from fivenines.task.section import Section
from fivenines.task.sections import (
    Classifier,
    Data,
    Evaluate,
    Filter,
    Generator,
    Labels,
    Store,
    ThresholdRule,
)

__all__ = ["TASK_FILE", "Task"]

TASK_FILE = "task.toml"
_TEMPLATES = ("task.toml", "guidelines.md", "prompts.txt")


class Task(Section):
    """One task.toml, checked. Paths in it are relative to its folder."""

    name: Annotated[str, Field(min_length=1, description="Give a short name for tables and reports.")]
    behavior: Annotated[
        str,
        Field(
            min_length=1,
            description="Say in a sentence what must never happen, as in: the story injures somebody.",
        ),
    ]
    guidelines: Annotated[str, Field(min_length=1)] = "guidelines.md"
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data = Data()
    generator: Generator = Generator()
    classifier: Classifier = Classifier()
    labels: Labels = Labels()
    threshold: ThresholdRule = ThresholdRule()
    filter: Filter = Filter()
    evaluate: Evaluate = Evaluate()
    attack: Attack = Attack()
    rounds: Rounds = Rounds()
    store: Store = Store()
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        generator = self.generator
        if generator.train.enabled and generator.outputs_file is None and not self.data.texts:
            raise ValueError(
                "data.texts must name text to train the generator on (or generator.train be false), got none"
            )
        return self

    @model_validator(mode="after")
    def _can_judge_draws(self) -> Self:
        drawing = sorted({"sampling", "guided"} & {*self.attack.families, *self.attack.held_out})
        if drawing and self.labels.source != "storyworld":
            raise ValueError(
                f"attack.families must not name {', '.join(drawing)} where people label: most of what is drawn is "
                "harmless, and each draw that passes would have to be judged at once"
            )
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read and check ``folder``/task.toml and that the files it names are there.

        :raises ConfigError: one line for each problem: file, key, what it must be, what it is, what to do.
        """
        folder = Path(folder)
        file = folder if folder.name == TASK_FILE else folder / TASK_FILE
        task = cls._checked(file, _read_toml(file))
        task._check_files(file)
        return task

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: str | Path = ".") -> Self:
        """A task from the content of a task.toml, as for a test or a recipe. Files are not looked for.

        :raises ConfigError: as :meth:`load`.
        """
        return cls._checked(Path(folder) / TASK_FILE, values)

    @classmethod
    def init(cls, folder: str | Path) -> Self:
        """Write a commented task.toml, guidelines and a few prompts to start from.

        :raises ConfigError: when one of these files is there already; none is touched then.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ConfigError(sentence(str(folder), "must be a folder", "a file"))
        for name in _TEMPLATES:
            if (folder / name).exists():
                then = "Edit it, or choose another folder."
                raise ConfigError(sentence(str(folder / name), "must not exist yet", "a file", then))
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-") or "task"
        templates = resources.files("fivenines.task") / "templates"
        for file in reversed(_TEMPLATES):  # task.toml last: it makes the folder a task
            text = (templates / file).read_text(encoding="utf-8").replace("@NAME@", name)
            (folder / file).write_text(text, encoding="utf-8")
        return cls.load(folder)

    @property
    def folder(self) -> Path:
        return self._folder

    def path(self, name: str | Path) -> Path:
        """A path of task.toml as a path of this process."""
        return self._folder / Path(name).expanduser()

    def model_source(self, model: str) -> str:
        """The folder that ``model`` names, if there is one, else ``model`` as it stands (a hub name,
        "scratch").
        """
        return str(self.path(model)) if self.path(model).is_dir() else model

    def guidelines_text(self) -> str:
        """What labelers are told. :raises ConfigError: when it cannot be read as UTF-8."""
        return _read_text(self.path(self.guidelines))

    def text_files(self) -> list[Path]:
        """The files of ``data.texts``, sorted, each once; without "storyworld:N".

        :raises ConfigError: for a pattern that matches nothing.
        """
        return self._matches("data.texts", self.data.texts)

    def prompt_files(self) -> list[Path]:
        """The files of ``data.prompts``. :raises ConfigError: for a pattern that matches nothing."""
        return self._matches("data.prompts", self.data.prompts)

    def stories(self) -> int:
        """The number of stories that "storyworld:N" in ``data.texts`` asks for; 0 without."""
        return sum(_stories(text) or 0 for text in self.data.texts)

    def story_prompts(self) -> int:
        """The number of prompts that "storyworld:N" in ``data.prompts`` asks for; 0 without."""
        return sum(_stories(text) or 0 for text in self.data.prompts)

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the store; a relative SQLite path is relative to the task's folder."""
        url = self.store.url or "sqlite:///store.sqlite"
        if url.startswith("sqlite:///") and not url.startswith(("sqlite:////", "sqlite:///:")):
            url = f"sqlite:///{(self._folder / url.removeprefix('sqlite:///')).resolve()}"
        return url

    def digest(self, *parts: str) -> str:
        """A hash of the parts that a step depends on, such as ``digest("data", "generator.sampling",
        "seed")``.

        Of the whole task without arguments. It covers what task.toml says, defaults included, not the content
        of the files that it names.

        :raises KeyError: for a part that is not there.
        """
        content = self.model_dump(mode="json")
        chosen = {part: _part(content, part) for part in sorted(parts)} if parts else content
        packed = json.dumps(chosen, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return f"task:{hashlib.blake2b(packed.encode(), digest_size=16).hexdigest()}"

    @classmethod
    def _checked(cls, file: Path, values: dict[str, Any]) -> Self:
        try:
            task = cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(problems(str(file), cls, error)) from None
        task._folder = file.parent
        return task

    def _check_files(self, file: Path) -> None:
        """Everything that task.toml names is there; all problems at once."""
        found: list[str] = []
        named = {"guidelines": self.guidelines} | {
            f"evaluate.distributions.{name}": path for name, path in self.evaluate.files.items()
        }
        named |= {
            f"attack.{name}": value
            for name in ("words", "keep", "examples")
            if (value := getattr(self.attack, name)) is not None
        }
        if self.generator.outputs_file is not None:
            named["generator.model"] = self.generator.outputs_file
        for key, name in named.items():
            if not self.path(name).is_file():
                found.append(
                    sentence(f"{file}: {key}", "must name a file", f"{name!r}", _hint(self.path(name)))
                )
        for key, model in (
            ("generator.model", self.generator.model),
            ("classifier.model", self.classifier.model),
        ):
            if model.startswith((".", "/", "~")) and not self.path(model).is_dir():
                found.append(sentence(f"{file}: {key}", "must name a folder", f"{model!r}", "There is none."))
        for patterns in (self.text_files, self.prompt_files):
            try:
                patterns()
            except ConfigError as error:
                found.append(str(error))
        if found:
            raise ConfigError("\n".join(found))

    def _matches(self, key: str, patterns: tuple[str, ...]) -> list[Path]:
        found: dict[Path, None] = {}
        for pattern in patterns:
            if _stories(pattern) is not None:
                continue
            matches = sorted(path for path in _glob(self._folder, pattern) if path.is_file())
            if not matches:
                what = f"{self._folder / TASK_FILE}: {key}"
                then = f"Nothing there: {self.path(pattern)}."
                raise ConfigError(sentence(what, "must match a file", repr(pattern), then))
            found |= dict.fromkeys(matches)
        return list(found)


def _stories(text: str) -> int | None:
    match = re.fullmatch(r"storyworld:(\d+)", text)
    return int(match[1]) if match else None


def _glob(folder: Path, pattern: str) -> list[Path]:
    """Like ``Path.glob``, for a pattern that may be absolute or climb out of the folder."""
    parts = Path(pattern).expanduser().parts
    fixed = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
    start = folder.joinpath(*parts[:fixed])
    if fixed == len(parts):
        return [start]
    return list(start.glob(str(Path(*parts[fixed:]))))


def _hint(path: Path) -> str:
    return "It is a folder." if path.is_dir() else f"Nothing there: {path}."


def _part(content: Any, part: str) -> Any:
    for name in part.split("."):
        content = content[name]
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            sentence(str(path), "must be UTF-8 text", f"byte {error.start} that is not")
        ) from None
    except OSError as error:
        raise ConfigError(
            sentence(str(path), "must be readable", (error.strerror or str(error)).lower())
        ) from None


def _read_toml(file: Path) -> dict[str, Any]:
    if not file.parent.is_dir():
        then = f"Run: fivenines init {file.parent}"
        raise ConfigError(sentence(str(file.parent), "must be a task's folder", "nothing there", then))
    if not file.exists():
        then = f"Run: fivenines init {file.parent}"
        raise ConfigError(sentence(str(file), "must exist", "no such file", then))
    try:
        return tomllib.loads(_read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(sentence(str(file), "must be valid TOML", str(error))) from None
