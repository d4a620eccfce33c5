"""task.toml: defaults, files, and one clear line for everything that can be wrong in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fivenines.errors import ConfigError
from fivenines.task import Task

MINIMAL = {"name": "injury", "behavior": "somebody is injured", "data": {"texts": "storyworld:100"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Task.init(tmp_path / "injury")
    return tmp_path / "injury"


def load_with(folder: Path, *changes: tuple[str, str]) -> Task:
    text = (folder / "task.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "task.toml").write_text(text)
    return Task.load(folder)


def problem(folder: Path, *changes: tuple[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_with(folder, *changes)
    return str(caught.value).replace(str(folder), "injury")


# --- the good path


def test_init_writes_a_task_that_loads(folder: Path) -> None:
    task = Task.load(folder)
    assert task.name == "injury"
    assert task.folder == folder
    assert task.filter.budget == 50
    assert task.prompt_files() == [folder / "prompts.txt"]
    assert "failure" in task.guidelines_text()
    assert Task.load(folder / "task.toml") == task


def test_the_template_shows_the_defaults(folder: Path) -> None:
    """What is written out agrees with what holds when it is left out, but for the choices of the example."""
    written = Task.load(folder).model_dump()
    bare = Task.from_dict(MINIMAL).model_dump()
    for section in ("labels", "filter", "classifier", "store"):
        assert written[section] == bare[section]
    assert written["generator"]["sampling"] == bare["generator"]["sampling"]
    assert written["data"]["splits"] == bare["data"]["splits"]
    assert written["evaluate"]["outputs"] == bare["evaluate"]["outputs"]


def test_every_commented_line_of_the_template_is_valid(folder: Path) -> None:
    text = (folder / "task.toml").read_text()
    (folder / "books").mkdir()
    (folder / "books" / "one.txt").write_text("A book.")
    (folder / "hard-prompts.jsonl").write_text('{"prompt": "a"}\n')
    for name in ("words.txt", "keep.txt", "examples.jsonl"):
        (folder / name).write_text("a b\n")
    skipped = ("quality_cost", "max_miss_rate", "texts", "hard =")
    lines = [
        line[2:] if line.startswith("# ") and "=" in line and not line[2:].startswith(skipped) else line
        for line in text.splitlines()
    ]
    lines = [line.replace("# [generator.size]", "[generator.size]") for line in lines]
    lines = [line for line in lines if not line.startswith(("A line", "After"))]
    (folder / "task.toml").write_text("\n".join(lines))
    task = Task.load(folder)
    assert task.generator.size.heads == 4
    assert task.filter.tighten == 0.9
    assert task.store.url == "postgresql+psycopg://user@host/database"
    assert task.store_url == task.store.url


def test_a_minimal_task_has_sensible_defaults() -> None:
    task = Task.from_dict(MINIMAL)
    assert task.generator.model == "scratch"
    assert task.threshold.target == {"acceptance": 0.5}
    assert task.stories() == 100
    assert task.story_prompts() == 0
    assert task.text_files() == []
    assert task.evaluate.distributions == {"all": "all", "failing": "failing"}
    assert task.evaluate.files == {}


def test_a_task_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Task.from_dict(MINIMAL).seed = 3


def test_training_is_a_switch_or_a_section() -> None:
    off = Task.from_dict(MINIMAL | {"generator": {"model": "gpt2", "train": False}})
    assert not off.generator.train.enabled
    on = Task.from_dict(MINIMAL | {"generator": {"train": {"epochs": 1, "max_minutes": 30}}})
    assert (on.generator.train.enabled, on.generator.train.epochs) == (True, 1.0)
    assert on.generator.train.settings()["max_minutes"] == 30.0
    assert "enabled" not in on.generator.train.settings()


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ({"max_miss_rate": 0.01}, {"max_miss_rate": 0.01, "confidence": 0.95}),
        ({"quality_cost": 0.02}, {"quality_cost": 0.02}),
        (
            {"max_miss_rate": 0.01, "confidence": 0.9, "acceptance": 0.4},
            {"max_miss_rate": 0.01, "confidence": 0.9, "acceptance": 0.4},
        ),
        ({"acceptance": 1}, {"acceptance": 1.0}),
    ],
)
def test_the_target_of_the_threshold(section: dict[str, float], target: dict[str, float]) -> None:
    assert Task.from_dict(MINIMAL | {"threshold": section}).threshold.target == target


def test_texts_are_found_by_pattern(folder: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "d.md"):
        path = folder / "books" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Text.")
    task = load_with(folder, ("[data]", '[data]\ntexts = ["books/*.txt", "books/**/c.txt", "books/a.txt"]'))
    assert [str(p.relative_to(folder)) for p in task.text_files()] == [
        "books/a.txt",
        "books/b.txt",
        "books/deep/c.txt",
    ]


def test_texts_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.txt").write_text("Text.")
    task = load_with(folder, ("[data]", f'[data]\ntexts = ["../more/*.txt", "{tmp_path}/more/x.t?t"]'))
    assert {p.resolve() for p in task.text_files()} == {(tmp_path / "more" / "x.txt").resolve()}


def test_a_model_is_a_folder_where_there_is_one(folder: Path) -> None:
    (folder / "mine").mkdir()
    task = Task.load(folder)
    assert task.model_source("mine") == str(folder / "mine")
    assert task.model_source("distilgpt2") == "distilgpt2"


def test_the_store_is_sqlite_in_the_folder(folder: Path) -> None:
    assert Task.load(folder).store_url == f"sqlite:///{folder.resolve()}/store.sqlite"


def test_digest_covers_the_parts_it_is_given() -> None:
    one = Task.from_dict(MINIMAL)
    two = Task.from_dict(MINIMAL | {"filter": {"budget": 7}})
    assert one.digest("data", "generator") == two.digest("generator", "data")
    assert one.digest("filter") != two.digest("filter")
    assert one.digest("filter.policy") == two.digest("filter.policy")
    assert one.digest() != two.digest()
    assert one.digest() == Task.from_dict(MINIMAL, folder="elsewhere").digest()  # a moved task is the same
    with pytest.raises(KeyError, match="nothing"):
        one.digest("nothing")


def test_a_task_loads_without_numpy() -> None:
    code = "import sys, fivenines.task; print(sorted({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what can be wrong


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "budget = 50",
            "bugdet = 50",
            "filter.bugdet must be a known key, got an unknown one. Did you mean budget?",
        ),
        ("budget = 50", 'budget = "50"', "filter.budget must be a whole number, got '50'."),
        ("budget = 50", "budget = 1.5", "filter.budget must be a whole number, got 1.5."),
        ("budget = 50", "budget = true", "filter.budget must be a whole number, got true."),
        ("budget = 50", "budget = 0", "filter.budget must be at least 1, got 0."),
        ('"first"', '"frist"', "filter.policy must be 'first' or 'safest', got 'frist'. Did you mean first?"),
        ('"first"', '"safest"\nn = 60', "filter.n must not exceed the budget of 50, got 60."),
        ("[filter]", "[fliter]", "fliter must be a known key, got an unknown one. Did you mean filter?"),
        (
            "seed = 0",
            "seed = 0\nbudget = 3",
            "budget must be a known key, got an unknown one. Did you mean filter.b",
        ),
        (
            "seed = 0",
            "seed = 0\nzzz = 3",
            "zzz must be a known key, got an unknown one. Known here: name, behavior, g",
        ),
        ('name = "injury"', "", "name must be given, got nothing. Give a short name for tables and reports."),
        ('name = "injury"', 'name = ""', "name must not be empty, got ''."),
        ("train = 0.8", "train = 0.7", "data.splits must sum to 1, got 0.9."),
        ("train = 0.8", "train = 1.0", "data.splits.train must be less than 1, got 1.0."),
        ("train = false", 'train = "no"', "generator.train must be a section, got 'no'."),
        ("train = false", "train = {epochs = 0}", "generator.train.epochs must be greater than 0, got 0."),
        (
            "train = false",
            "train = true",
            "data.texts must name text to train the generator on (or generator.train be",
        ),
        (
            '"distilgpt2"',
            '"scratch"',
            'generator.train must not be false for model "scratch": it has no weights',
        ),
        ("epochs = 4", "enabled = false", 'classifier.training.enabled must not be false for model "minilm"'),
        (
            "[generator]",
            '[generator]\nkind = "openai"',
            'generator.kind "openai" is not there yet: use "transformers"',
        ),
        (
            "acceptance = 0.5",
            "acceptance = 0.5\nquality_cost = 0.1",
            "threshold must have only one of quality_cost and acceptance, got both.",
        ),
        (
            "[generator.sampling]",
            "[generator.size]\nheads = 3\n[generator.sampling]",
            "generator.size.width must be a multiple of h",
        ),
        (
            "temperature = 1.0",
            "temperature = inf",
            "generator.sampling.temperature must be a finite number, got inf.",
        ),
        ("[data]", "[data]\ntexts = [1]", "data.texts.0 must be text in quotes, got 1."),
        ("[data]", "[data]\ntexts = 1", "data.texts must be a list of texts, got 1."),
        ('all = "all"', "all = 1", "evaluate.distributions.all must be text in quotes, got 1."),
        ('all = "all"', "", "evaluate.distributions must not be empty, got {}."),
    ],
)
def test_one_clear_line(folder: Path, old: str, new: str, message: str) -> None:
    line = problem(folder, (old, new))
    assert line.startswith(f"injury/task.toml: {message}")
    assert "\n" not in line


def test_several_problems_are_a_line_each(folder: Path) -> None:
    lines = problem(folder, ("budget = 50", "budget = 0"), ("top_p = 1.0", "top_p = 2.0")).splitlines()
    assert lines == [
        "injury/task.toml: generator.sampling.top_p must be at most 1, got 2.0.",
        "injury/task.toml: filter.budget must be at least 1, got 0.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"guidelines.md"', '"g.md"', "guidelines must name a file, got 'g.md'. Nothing there: injury/g.md."),
        ('"guidelines.md"', '"."', "guidelines must name a file, got '.'. It is a folder."),
        (
            '"prompts.txt"',
            '"p.txt"',
            "data.prompts must match a file, got 'p.txt'. Nothing there: injury/p.txt.",
        ),
        ("[data]", '[data]\ntexts = "a/*.txt"', "data.texts must match a file, got 'a/*.txt'."),
        ('all = "all"', 'all = "x"', "evaluate.distributions.all must name a file, got 'x'."),
        ('"minilm"', '"./m"', "classifier.model must name a folder, got './m'. There is none."),
        ('"distilgpt2"', '"none:x.jsonl"', "generator.model must name a file, got 'x.jsonl'."),
    ],
)
def test_files_that_are_not_there(folder: Path, old: str, new: str, message: str) -> None:
    assert problem(folder, (old, new)).startswith(f"injury/task.toml: {message}")


def test_broken_toml_names_the_line(folder: Path) -> None:
    message = problem(folder, ("seed = 0", "seed = "))
    assert message == "injury/task.toml must be valid TOML, got Invalid value (at line 7, column 8)."


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "task.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"task.toml must be UTF-8 text, got byte 8 that is not."):
        Task.load(folder)


def test_a_folder_without_a_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.toml must exist, got no such file. Run: fivenines init "):
        Task.load(tmp_path)
    with pytest.raises(
        ConfigError, match=r"nowhere must be a task's folder, got nothing there. Run: fivenines in"
    ):
        Task.load(tmp_path / "nowhere")


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "guidelines.md").write_text("Mine.")
    with pytest.raises(ConfigError, match=r"guidelines.md must not exist yet, got a file"):
        Task.init(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["guidelines.md"]
    assert (tmp_path / "guidelines.md").read_text() == "Mine."
    with pytest.raises(ConfigError, match="must be a folder, got a file"):
        Task.init(tmp_path / "guidelines.md")


def test_a_name_that_toml_could_not_hold(tmp_path: Path) -> None:
    assert Task.init(tmp_path / 'odd "name"').name == "odd-name"
