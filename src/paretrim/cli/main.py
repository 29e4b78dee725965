"""From arguments to an exit code: 0 done, 1 failed, 2 usage, 3 a target was not met, 130 or 143 stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from paretrim.cli.exits import FAILED, STOPPED, TERMINATED, TRACEBACK, USAGE, explained
from paretrim.cli.parser import build_parser
from paretrim.cli.streams import guarded_streams
from paretrim.errors import InvalidRecipe, UnsupportedOperation, reason_of
from paretrim.visible import visible, visible_lines

RESUMABLE = ("run", "compress", "study", "quantize", "sensitivity", "outliers")
"""Commands that resume where they were stopped."""


OWN_CODE = ("run", "compress", "plan", "study", "quantize", "eval", "sensitivity", "outliers")
"""Commands that may load user code, possibly from a module in the working folder."""

LIMITED = ("bench", "eval", "export", "inspect")
"""Commands that open untrusted files and take ``--limit``."""

LIMIT = "PARETRIM_LIMIT"
"""Environment variable that limits loading, like ``limit`` of :func:`paretrim.runtime.load`."""


class _Termination(KeyboardInterrupt):
    """SIGTERM arrived: the command stops as with Ctrl-C, and no ``except Exception`` on the way takes it for a failure."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``arguments`` are those of the process if None.

    No other exception escapes. Expected and unexpected errors alike are printed as one message; that of an unexpected one says
    how to get its traceback (:data:`TRACEBACK`).

    Raises:
        SystemExit: the arguments are invalid (2), or help or the version was requested (0).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command_line = shlex.join(["paretrim", *given])
    with guarded_streams(), _plain_warnings():
        try:
            parsed = _parsed(given)
            with _terminable(), _limited(parsed):
                status = _perform(parsed, command_line)
                sys.stdout.flush()
                return status
        except KeyboardInterrupt as stop:
            kept = f"; finished epochs and stages are kept. To resume: {command_line}" if given and given[0] in RESUMABLE else ""
            sys.stderr.write(f"\nparetrim: stopped{kept}\n")
            return TERMINATED if isinstance(stop, _Termination) else STOPPED
        except Exception as error:
            said = explained(error, limited=bool(given) and given[0] in LIMITED)
            if said:
                sys.stderr.write(f"paretrim: error: {said}\n")
            if os.environ.get(TRACEBACK):
                sys.stderr.write(visible_lines(traceback.format_exc()))
            return USAGE if isinstance(error, InvalidRecipe) else FAILED


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    """The arguments; requested help is printed before the process ends."""
    try:
        return build_parser(given).parse_args(given)
    except SystemExit:
        sys.stdout.flush()
        raise


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings in one line, without the place in the code, which says nothing to users of a command."""
    before = warnings.formatwarning
    warnings.formatwarning = _in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def _in_one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    del category, filename, lineno, line
    return f"warning: {visible(' '.join(str(message).split()))}\n"


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM, which schedulers and service managers send, stop a command like Ctrl-C. Works only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Termination


@contextmanager
def _limited(parsed: argparse.Namespace) -> Iterator[None]:
    """Apply ``--limit`` to files, also in child processes and in other runtimes."""
    before = os.environ.get(LIMIT)
    wanted = getattr(parsed, "limit", None)
    if wanted is None:
        yield
        return
    os.environ[LIMIT] = repr(wanted)
    try:
        yield
    finally:
        del os.environ[LIMIT]
        if before is not None:
            os.environ[LIMIT] = before


def _perform(parsed: argparse.Namespace, command_line: str) -> int:
    """The command's work. If a network's own code ends the program, that does not count as success."""
    try:
        return _chosen(parsed, command_line)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:
        raise UnsupportedOperation(
            f"code outside of Paretrim ended the program ({reason_of(end)}); remove sys.exit from the network or its data"
        ) from end


def _chosen(parsed: argparse.Namespace, command_line: str) -> int:
    """The command. Its module is imported only now: help must not wait for torch."""
    if parsed.command in OWN_CODE:
        # At the end of the path, so that a file here cannot shadow a module of Python or of a package.
        sys.path.append(str(Path.cwd()))
    match parsed.command:
        case "run" | "compress" | "plan" | "study":
            from paretrim.cli import running

            commands = {"run": running.run, "compress": running.compress, "plan": running.plan, "study": running.study}
            return commands[parsed.command](parsed, command_line)
        case "quantize":
            from paretrim.cli import quantizing

            return quantizing.quantize(parsed, command_line)
        case "outliers":
            from paretrim.cli import outliers

            return outliers.outliers(parsed, command_line)
        case "sensitivity":
            from paretrim.cli import sensitivity

            return sensitivity.sensitivity(parsed, command_line)
        case "eval":
            from paretrim.cli import evaluating

            return evaluating.evaluate(parsed)
        case "bench" | "export" | "inspect":
            from paretrim.cli import deployed

            on_files = {"bench": deployed.bench, "export": deployed.export, "inspect": deployed.inspect}
            return on_files[parsed.command](parsed)
        case "report":
            from paretrim.cli import showing

            return showing.report(parsed)
        case "methods":
            from paretrim.cli import methods

            return methods.methods(parsed)
        case _:
            from paretrim.cli import showing

            return showing.doctor(parsed)
