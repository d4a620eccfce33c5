"""The command line. Commands are thin: they read arguments, call the layers below and print.

torch is loaded only by the commands that need a model, so that ``fivenines --help`` answers at once.
"""

from fivenines.cli.app import main

__all__ = ["main"]
