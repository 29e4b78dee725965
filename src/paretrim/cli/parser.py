"""Every argument of every command. Nothing heavy is imported here, so help is shown at once."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from paretrim import __version__
from paretrim.bench.effort import EFFORTS
from paretrim.cli.arguments import FORMAT, FORMATS, count, counts, names, number, numbers, path, seed, whole_number, words
from paretrim.cli.options import (
    NETWORK,
    NO_TIMING,
    WEIGHTS,
    add_data,
    add_inside,
    add_limit,
    add_measuring,
    add_network,
    add_place,
    add_split,
    add_task,
)

WIDTH = 78
"""Columns of a description; a terminal usually has 80."""

RECIPE = "a recipe; see docs/recipes.md"


class _Command(NamedTuple):
    """One command: its line in the list of commands, its arguments, and examples for its help."""

    text: str
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    examples: str = ""


def build_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of ``paretrim`` for the arguments ``given``; the chosen command is in ``command``.

    Only that command gets its arguments, because adding those of all commands would slow every start.
    """
    parser = argparse.ArgumentParser(
        prog="paretrim",
        description="Prune, quantize and distil a trained vision network; measure accuracy, size and CPU latency of the files.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage or invalid recipe, 3 a target was missed or not shown to be met, 130 "
        "stopped by Ctrl-C, 143 by SIGTERM; set PARETRIM_TRACEBACK=1 in the environment to add tracebacks to errors",
    )
    parser.add_argument("--version", action="version", version=f"paretrim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # No option before the command takes a value, so the first word that is not an option is the command.
    chosen = next((word for word in given if not word.startswith("-")), None)
    for name, command in COMMANDS.items():
        described = commands.add_parser(
            name,
            help=command.text,
            description=textwrap.fill(f"{command.text[0].upper()}{command.text[1:]}.", WIDTH),
            epilog=f"examples:\n{textwrap.indent(command.examples, '  ')}" if command.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # a wrapped command cannot be copied
        )
        if name == chosen:
            described.add_argument(
                "--json", action="store_true", help="write one JSON value, and nothing else, to standard output"
            )
            if command.add_arguments is not None:
                command.add_arguments(described)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=path, metavar="RECIPE.toml", help=RECIPE)
    add_place(parser, "runs/ and the recipe's file name")
    add_measuring(parser)
    add_inside(parser)


def _add_compress(parser: argparse.ArgumentParser) -> None:
    add_network(parser, required=True)
    add_place(parser, "runs/ and the names of network and data")
    add_measuring(parser, target=True)
    add_inside(parser)


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=NETWORK)
    parser.add_argument("--weights", metavar="FILE", help=f"{WEIGHTS}; required for Paretrim's own networks")
    add_data(parser, required=True)
    add_task(parser)
    add_split(parser)
    parser.add_argument("--out", type=path, metavar="FILE", help="also write the file here; the name ends in .trim or .onnx")
    text = "bits of a weight, 2 to 8 (default: 8); 7 for OpenVINO on CPUs without VNNI, see paretrim doctor"
    parser.add_argument("--weight-bits", type=count, metavar="BITS", help=text)
    text = "make the .trim file smaller: price of one bit per weight, in nats of loss; try 0.001 first (default: 0)"
    parser.add_argument("--rate", type=number, metavar="NATS", help=text)
    text = (
        "corrections without training, comma-separated: equalize, smooth, batchnorm, bias, adaround, gptq, joint (default: none)"
    )
    parser.add_argument("--adjust", type=names, metavar="NAMES", help=text)
    parser.add_argument("--rounding-steps", type=count, metavar="N", help="adaround steps per layer (default: 10000)")
    parser.add_argument("--format", default=FORMATS[0], choices=FORMATS, help=FORMAT)
    add_place(parser, "runs/ and the names of network and data, then -int8")
    add_measuring(parser, effort=NO_TIMING)
    add_inside(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    text = "a recipe or a study; without one, the options are those of compress"
    parser.add_argument("recipe", type=path, nargs="?", metavar="RECIPE_OR_STUDY.toml", help=text)
    add_network(parser, required=False)
    add_place(parser, "none; if given, the prediction skips what a run has already finished there")
    add_measuring(parser, target=True)


def _add_dense(parser: argparse.ArgumentParser) -> None:
    """Options that name a dense network: a recipe, or the options of compress."""
    text = "a recipe; without one, the options name the network, as for compress"
    parser.add_argument("recipe", type=path, nargs="?", metavar="RECIPE.toml", help=text)
    add_network(parser, required=False, dense=True)
    add_place(parser, "as for run or compress")


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    _add_dense(parser)
    text = "patterns to scan: unstructured, 1x4, channel (default: all)"
    parser.add_argument("--patterns", type=words, metavar="NAME,...", help=text)
    text = "which weights or channels are pruned first: a score of the prune stage (default: %(default)s)"
    parser.add_argument("--score", default="magnitude", metavar="NAME", help=text)
    parser.add_argument("--figure", type=path, metavar="OUT.svg", help="also write the plot to this file")


def _add_outliers(parser: argparse.ArgumentParser) -> None:
    _add_dense(parser)
    text = "how ranges are chosen: a calibrator of the quantize stage (default: %(default)s)"
    parser.add_argument("--calibrator", default="percentile", metavar="NAME", help=text)
    text = "share of values, in %%, that --calibrator percentile keeps (default: %(default)s)"
    parser.add_argument("--percentile", type=number, default=99.9, metavar="P", help=text)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    text = ".onnx files; .trim and .graph files run in the native runtime"
    parser.add_argument("files", type=path, nargs="+", metavar="FILE", help=text)
    parser.add_argument("--baseline", type=path, metavar="FILE", help="file that speed-ups are relative to (default: the first)")
    parser.add_argument(
        "--runtime",
        type=words,
        default=("onnxruntime",),
        metavar="NAME,...",
        help="onnxruntime, openvino; for .trim and .graph files also reference",
    )
    parser.add_argument(
        "--threads", type=counts, default=(1,), metavar="N,...", help="numbers of threads; each is timed (default: 1)"
    )
    parser.add_argument(
        "--effort", choices=tuple(EFFORTS), default="standard", help="how thoroughly to measure (default: %(default)s)"
    )
    parser.add_argument("--batch", type=whole_number, default=1, metavar="N", help="images per call (default: %(default)s)")
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the order of calls and the choice of images (default: %(default)s)"
    )
    text = "save the raw samples; with several runtimes or numbers of threads, one file for each"
    parser.add_argument("--raw", type=path, metavar="OUT.npz", help=text)
    text = "instead time one .trim or .graph file layer by layer in the native runtime"
    parser.add_argument("--layers", action="store_true", help=text)
    add_data(parser, required=False)
    add_limit(parser)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=path, metavar="FILE", help="a .trim, .onnx or .graph file")
    add_data(parser, required=True)
    add_task(parser, default="the task stored in the file, else classification")
    text = "onnxruntime, openvino, paretrim or reference (default: onnxruntime for .onnx files, else paretrim)"
    parser.add_argument("--runtime", metavar="NAME", help=text)
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads (default: %(default)s)")
    add_limit(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    text = "a run folder, a .trim or .graph file, or a candidate.safetensors"
    parser.add_argument("source", type=path, metavar="FOLDER_OR_FILE", help=text)
    parser.add_argument(
        "--to", type=path, required=True, metavar="OUT", help="file to write; the name ends in .trim, .onnx or .graph"
    )
    parser.add_argument("--label", metavar="LABEL", help="candidate of a run folder, by its label in the table")
    text = "write an .onnx file whose only operator is the native runtime, on this many threads; see docs/runtime.md"
    parser.add_argument("--native", type=whole_number, metavar="THREADS", help=text)
    text = (
        "write an .onnx file with weights of at most 4 bits as INT4, with a scale for every BLOCK input channels (0: one for all)"
    )
    parser.add_argument("--int4", type=whole_number, metavar="BLOCK", help=text)
    text = "make the file of a single candidate take pixels and normalise them itself"
    parser.add_argument("--mean", type=numbers, metavar="M,...", help=f"{text}, with --std")
    parser.add_argument("--std", type=numbers, metavar="S,...", help=f"{text}, with --mean")
    add_limit(parser)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    text = "compare two files: agreement, KL divergence, calibration, and which classes and images of --data got worse"
    parser.add_argument("--compare", type=path, nargs=2, metavar=("A", "B"), help=text)
    text = "with --compare: also Grad-CAM, histograms and sensitivity to zeros"
    parser.add_argument("--inside", action="store_true", help=text)
    text = "target module of Grad-CAM (default: the last feature map); twice, for A and then for B, if they name it differently"
    parser.add_argument("--at", action="append", default=[], metavar="MODULE", help=text)
    parser.add_argument("--out", type=path, metavar="PAGE.html", help="write everything of --inside as one page")
    add_data(parser, required=False)
    parser.add_argument(
        "file", type=path, nargs="?", metavar="FILE", help="a .trim, .onnx or .graph file, or a candidate.safetensors"
    )
    add_limit(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    text = "run folders, or .jsonl files of outcomes"
    parser.add_argument("sources", type=path, nargs="+", metavar="FOLDER_OR_JSONL", help=text)
    parser.add_argument(
        "--out", type=path, metavar="PAGE.html", help="the page (default: report.html in a single folder, else none)"
    )
    parser.add_argument("--markdown", type=path, metavar="OUT.md", help="Markdown page made from the outcomes only")
    parser.add_argument("--figure", type=path, metavar="OUT.svg", help="figure of the accuracies, shown on the Markdown page")
    parser.add_argument("--title", help="title of the pages (default: network and data; in Markdown preceded by the study)")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=path, metavar="STUDY.toml", help="a study: arms, seeds and a recipe; see studies/")
    parser.add_argument(
        "--folder", type=path, metavar="DIR", help="folder for all intermediate files (default: runs/ and the study's name)"
    )
    parser.add_argument(
        "--results", type=path, metavar="DIR", help="folder for the outcomes (default: results/ and the study's name)"
    )
    add_measuring(parser)


COMMANDS: Mapping[str, _Command] = MappingProxyType(
    {
        "run": _Command(
            "run a recipe and measure the network after every stage",
            _add_run,
            examples="paretrim run recipes/digits.toml --folder runs/digits\n"
            "paretrim run recipes/digits.toml --seed 1 --effort none",
        ),
        "compress": _Command(
            "compress a network to targets of accuracy, latency and size, without a recipe",
            _add_compress,
            examples="paretrim compress --model resnet20 --data digits --dense-epochs 15 \\\n"
            "    --validation 0.3 --max-drop 2\n"
            "paretrim compress --model my_networks:make --weights w.safetensors \\\n"
            "    --data imagefolder:photos --max-bytes 500000",
        ),
        "quantize": _Command(
            "quantize a trained network to INT8 without further training",
            _add_quantize,
            examples="paretrim quantize resnet20 --weights resnet20.safetensors --data cifar10\n"
            "paretrim quantize my_networks:make --weights w.safetensors \\\n"
            "    --data imagefolder:photos --out photos.onnx",
        ),
        "plan": _Command(
            "predict stages, epochs, time and disk space of a recipe, a study, or compress with the same options",
            _add_plan,
            examples="paretrim plan recipes/digits.toml\n"
            "paretrim plan --model resnet20 --data digits --dense-epochs 15 --max-drop 2",
        ),
        "sensitivity": _Command(
            "prune one layer of a dense network at a time and show the effect on loss and accuracy",
            _add_sensitivity,
            examples="paretrim sensitivity recipes/digits.toml --folder runs/digits\n"
            "paretrim sensitivity --model resnet20 --weights resnet20.safetensors \\\n"
            "    --data cifar10 --patterns 1x4 --figure scan.svg",
        ),
        "outliers": _Command(
            "show the ranges of weights and activations of a dense network, and how much a calibrator clips",
            _add_outliers,
            examples="paretrim outliers recipes/digits.toml --folder runs/digits\n"
            "paretrim outliers --model resnet20 --weights resnet20.safetensors \\\n"
            "    --data cifar10 --percentile 99.99 --json",
        ),
        "bench": _Command(
            "time deployed files against each other in one interleaved session",
            _add_bench,
            examples="paretrim bench digits.trim\n"
            "paretrim bench dense.onnx digits.onnx --runtime onnxruntime,openvino\n"
            "paretrim bench --layers digits.trim",
        ),
        "eval": _Command(
            "measure the accuracy of a deployed file on test images, or the metric of its task",
            _add_eval,
            examples="paretrim eval digits.trim --data digits\nparetrim eval photos.onnx --data imagefolder:photos",
        ),
        "export": _Command(
            "write the deployed file of a candidate, or of the last candidate of a run folder",
            _add_export,
            examples="paretrim export runs/digits --to digits.trim\nparetrim export digits.trim --to digits.onnx\n"
            "paretrim export digits.trim --to native.onnx --native 2\nparetrim export int4.trim --to int4.onnx --int4 32\n"
            "paretrim export runs/digits --label dense --to dense.onnx",
        ),
        "inspect": _Command(
            "show the weights of a file layer by layer, or compare the predictions of two files",
            _add_inspect,
            examples="paretrim inspect digits.trim\nparetrim inspect --compare dense.onnx digits.trim --data digits",
        ),
        "report": _Command(
            "show outcomes as a table and write them as an HTML or Markdown page",
            _add_report,
            examples="paretrim report runs/digits --out digits.html",
        ),
        "study": _Command(
            "run a study: many recipes and seeds, resumable at any time",
            _add_study,
            examples="paretrim study studies/orders-digits.toml",
        ),
        "methods": _Command("list every method with its source and a recipe for it"),
        "doctor": _Command("describe this machine: what it can run, and whether it is quiet enough to measure latency"),
    }
)
