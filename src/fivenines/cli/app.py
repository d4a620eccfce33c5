"""All commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import sys

import typer

import fivenines
from fivenines.cli import (
    labels,
    locking,
    masked,
    plan,
    pretrain,
    retagging,
    rounds,
    samples,
    tagged,
    tagging,
    tasks,
)
from fivenines.errors import FiveninesError, UserError, sentence

__all__ = ["app", "main"]

app = typer.Typer(
    name="fivenines",
    help="How many nines does your text generator have? Measure it, and add more.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fivenines {fivenines.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """How many nines does your text generator have? Measure it, and add more."""


tasks.register(app)
rounds.register(app)
samples.register(app)
masked.register(app)
tagging.register(app)
pretrain.register(app)
tagged.register(app)
retagging.register(app)
locking.register(app)
plan.register(app)
app.add_typer(labels.app, name="label")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a fault of ours, 2 something the user can mend, 130 stopped."""
    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except FiveninesError as error:
        _fail(str(error), 1)
    except FileNotFoundError as error:
        # so a full disk shows first where a library asks for a temporary folder when it is imported
        if "temporary directory" not in str(error):
            raise
        then = "Free some space, or set TMPDIR to a folder where files can be made."
        _fail(sentence("the folder for temporary files", "must be writable", "none that is", then), 2)
    except BrokenPipeError:  # the reader of a pipe has gone, as with `| head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on from here", 130)


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
