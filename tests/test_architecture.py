"""The rules of the structure that a reader relies on, checked by machine."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fivenines

SRC = Path(fivenines.__file__).parent

# Lower number = lower layer; a line imports only from its own part or from a part of a lower layer.
LAYERS = {
    "errors": 0,
    "records": 0,
    "files": 0,
    "task": 0,
    "stats": 0,
    "data": 1,
    "store": 1,
    "labels": 1,
    "consensus": 1,
    "storyworld": 1,
    "models": 2,
    "threshold": 2,
    "filtering": 3,
    "acquisition": 3,
    "attacks": 3,
    "evaluate": 3,
    "report": 3,
    "pipeline": 4,
    "rounds": 4,
    "conditional": 4,
    "demo": 4,
    "cli": 5,
}
# Within layer 0 and 1 the order matters too: these parts may not import one another.
STRANGERS = {("models", "store"), ("store", "models")}
# The fakes and contract tests stand beside the layers: they may see the seams, and nothing may see them.
BESIDE = "testing"


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module))
            if node.module == "fivenines":
                found += [(node.lineno, f"fivenines.{name.name}") for name in node.names]
    return [(line, module) for line, module in found if module.startswith("fivenines.")]


def sources() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(("fivenines", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


def test_every_part_has_a_layer() -> None:
    parts = {part_of(name_of(path)) for path in sources()} - {""}
    assert parts - {BESIDE, "__main__"} == set(LAYERS)


def test_imports_point_downwards() -> None:
    wrong = []
    for path in sources():
        here = part_of(name_of(path))
        if here in ("", BESIDE, "__main__"):
            continue
        for line, module in imports(path):
            there = part_of(module)
            upwards = there != here and LAYERS.get(there, 99) > LAYERS[here]
            if upwards or there == BESIDE or (here, there) in STRANGERS:
                wrong.append(f"{path.relative_to(SRC)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_parts_have_no_cycle() -> None:
    edges: dict[str, set[str]] = {}
    for path in sources():
        module = name_of(path)
        edges[module] = {
            target for _, target in imports(path) if target != module and not module.startswith(target + ".")
        }
    known = set(edges)
    state: dict[str, int] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert state.get(module) != 1, " -> ".join((*trail, module))
        if module in state:
            return
        state[module] = 1
        for target in sorted(edges[module] & known):
            visit(target, (*trail, module))
        state[module] = 2

    for module in sorted(known):
        visit(module, ())


def modules() -> list[str]:
    return sorted(
        info.name
        for info in pkgutil.walk_packages([str(SRC)], "fivenines.")
        if not info.name.endswith("__main__") and ".migrations." not in info.name
    )


def _rank(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("module", modules())
def test_all_is_sorted_and_true(module: str) -> None:
    names = getattr(importlib.import_module(module), "__all__", None)
    if names is None:
        pytest.skip("no public names")
    assert list(names) == sorted(names, key=_rank)
    assert all(hasattr(importlib.import_module(module), name) for name in names)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    [
        "fivenines",
        "fivenines.cli",
        "fivenines.store",
        "fivenines.models.protocols",
        "fivenines.filtering",
        "fivenines.evaluate",
        "fivenines.evaluate.understanding",
        "fivenines.acquisition",
        "fivenines.stats",
    ],
)
def test_import_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert python(code) == "False False"


def test_help_answers_quickly() -> None:
    command = [str(Path(sys.executable).with_name("fivenines")), "--help"]
    environment = {**os.environ, "TERMINAL_WIDTH": "100"}
    subprocess.run(command, capture_output=True, check=True, env=environment)  # compiles the bytecode
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds.append(time.perf_counter() - start)
    assert "demo" in done.stdout
    assert min(seconds) < 0.7, f"--help took {min(seconds):.2f} s"


def test_public_names_are_lazy_but_real() -> None:
    assert list(fivenines.__all__) == sorted(fivenines.__all__)
    for name in fivenines.__all__:
        assert getattr(fivenines, name) is not None
    assert set(fivenines.__all__) <= set(dir(fivenines))
    with pytest.raises(AttributeError, match="no attribute 'Klassifier'"):
        _ = fivenines.Klassifier


def test_functions_and_files_stay_short() -> None:
    too_long, lengths = [], []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            too_long.append(f"{path.relative_to(SRC)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                doc = (first.end_lineno or 0) - first.lineno + 1 if is_doc else 0
                length = (node.end_lineno or 0) - node.lineno + 1 - doc
                lengths.append(length)
                if length > 80:
                    too_long.append(f"{path.relative_to(SRC)}:{node.lineno} {node.name}: {length} lines")
    assert not too_long, "\n".join(too_long)
    assert sorted(lengths)[int(0.9 * len(lengths))] < 40
