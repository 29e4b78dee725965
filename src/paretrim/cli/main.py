"""From arguments to an exit code: 0 done, 1 failed, 2 usage, 3 a target was not met, 130 stopped by Ctrl-C."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from paretrim.cli.parser import build_parser
from paretrim.errors import InvalidRecipe, ParetrimError

DONE, FAILED, USAGE, MISSED, STOPPED = 0, 1, 2, 3, 130

RESUMABLE = ("run", "compress", "study")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``arguments`` are those of the process if None.

    Raises:
        SystemExit: the arguments are not understood (2), or help or the version was asked for (0).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(given)
    command_line = shlex.join(["paretrim", *given])
    try:
        status = _perform(parsed, command_line)
        sys.stdout.flush()
        return status
    except ParetrimError as error:
        sys.stderr.write(f"paretrim: error: {error}\n")
        return USAGE if isinstance(error, InvalidRecipe) else FAILED
    except KeyboardInterrupt:
        kept = f"; finished epochs and stages are kept. To go on: {command_line}" if parsed.command in RESUMABLE else ""
        sys.stderr.write(f"\nparetrim: stopped{kept}\n")
        return STOPPED
    except BrokenPipeError:
        # The reader of our output went away; with nowhere to write, Python must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _perform(parsed: argparse.Namespace, command_line: str) -> int:
    """The command's work. Its module is imported only now: help must not wait for torch."""
    match parsed.command:
        case "run" | "compress" | "plan" | "study":
            from paretrim.cli import running

            commands = {"run": running.run, "compress": running.compress, "plan": running.plan, "study": running.study}
            return commands[parsed.command](parsed, command_line)
        case "bench" | "eval" | "export" | "inspect":
            from paretrim.cli import deployed

            on_files = {
                "bench": deployed.bench,
                "eval": deployed.evaluate,
                "export": deployed.export,
                "inspect": deployed.inspect,
            }
            return on_files[parsed.command](parsed)
        case "report":
            from paretrim.cli import showing

            return showing.report(parsed)
        case _:
            from paretrim.cli import showing

            return showing.doctor(parsed)
