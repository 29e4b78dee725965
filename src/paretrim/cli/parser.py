"""Every argument of every command. Nothing heavy is imported here, so help comes at once."""

from __future__ import annotations

import argparse
import textwrap

from paretrim import __version__
from paretrim.bench.effort import EFFORTS
from paretrim.cli.arguments import DENSE_RATE, FORMAT, FORMATS, count, counts, factor, names, numbers, path, words

NETWORK = "resnet18, resnet20, vgg16_bn, wide_resnet_28_10 and others, or your own as package.module:factory"
WEIGHTS = "weights as .safetensors, or as a torch file of plain tensors"

NO_TIMING = "none"
"""The effort that measures no latency at all."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``paretrim``; the chosen command is in ``command``."""
    parser = argparse.ArgumentParser(
        prog="paretrim",
        description="Prune, quantize and distil a trained vision network into files of measured accuracy, size and CPU latency.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 a target is missed or not shown to be met, 130 stopped "
        "by Ctrl-C, 143 by SIGTERM; PARETRIM_TRACEBACK=1 in the environment adds to an error where in the code it arose",
    )
    parser.add_argument("--version", action="version", version=f"paretrim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_compress(commands)
    _add_quantize(commands)
    _add_plan(commands)
    _add_sensitivity(commands)
    _add_outliers(commands)
    _add_bench(commands)
    _add_eval(commands)
    _add_export(commands)
    _add_inspect(commands)
    _add_report(commands)
    _add_study(commands)
    _add_methods(commands)
    _add_doctor(commands)
    return parser


Commands = argparse._SubParsersAction  # its only name; there is no public one


def _command(commands: Commands[argparse.ArgumentParser], name: str, text: str, *, examples: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{textwrap.indent(examples, '  ')}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # a command that is folded cannot be copied
    )
    parser.add_argument("--json", action="store_true", help="write one JSON value to the standard output and nothing else")
    return parser


def _add_measuring(parser: argparse.ArgumentParser, *, effort: str = "quick") -> None:
    efforts = (*EFFORTS, NO_TIMING)
    parser.add_argument(
        "--effort", choices=efforts, default=effort, help="how hard latency is measured, none: not at all (default: %(default)s)"
    )
    parser.add_argument("--threads", type=counts, default=(1,), metavar="N,...", help="threads of every runtime (default: 1)")
    text = (
        "paretrim, onnxruntime, openvino (default: those that are installed); --max-latency-ms holds in the first that runs "
        "the candidate"
    )
    parser.add_argument("--runtimes", type=words, metavar="NAME,...", help=text)


def _add_limit(parser: argparse.ArgumentParser) -> None:
    text = (
        "for a file that you trust: how many times the memory and work that are usual for its size a .trim file may take "
        "(default: 1, or PARETRIM_LIMIT in the environment)"
    )
    parser.add_argument("--limit", type=factor, metavar="TIMES", help=text)


def _add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--data", required=required, metavar="NAME", help="digits, cifar10, cifar100 or imagefolder:DIR")
    parser.add_argument("--data-folder", metavar="DIR", help="where the CIFAR files are, or are downloaded to")
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side that the images of an imagefolder are resized to (default: their own if all are alike and square, else 224)",
    )
    text = "short side that they are resized to before a square of --image-size is cut out of the centre (default: --image-size)"
    parser.add_argument("--resize", type=int, metavar="PIXELS", help=text)
    parser.add_argument("--mean", type=numbers, metavar="M,...", help="means per channel in units of pixel/255, with --std")
    parser.add_argument("--std", type=numbers, metavar="S,...", help="deviations per channel in units of pixel/255, with --mean")


def _add_task(parser: argparse.ArgumentParser, *, default: str = "classification") -> None:
    text = f"what the network is for: classification, regression, or your own as package.module:name (default: {default})"
    parser.add_argument("--task", metavar="NAME", help=text)


def _add_split(parser: argparse.ArgumentParser) -> None:
    text = "share of the training images of every class that is kept for validation (default: 0.1)"
    parser.add_argument("--validation", type=float, metavar="SHARE", help=text)
    text = "train on so many of the other images alone, every class in equal parts: an epoch is that short (default: all)"
    parser.add_argument("--train-images", type=count, metavar="N", help=text)
    text = "training images that quantizers are set on (default: 512, or as many as there are)"
    parser.add_argument("--calibration-images", type=count, metavar="N", help=text)


def _add_network(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--model", required=required, metavar="NAME", help=NETWORK)
    parser.add_argument("--weights", metavar="FILE", help=WEIGHTS)
    _add_data(parser, required=required)
    _add_task(parser)
    _add_split(parser)
    targets = parser.add_argument_group("targets")
    targets.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="largest loss of validation accuracy in percentage points, or of another task's metric in its own unit; met where "
        "the 95 %% interval shows it",
    )
    targets.add_argument("--max-latency-ms", type=float, metavar="MS", help="largest median latency of one image")
    targets.add_argument("--max-bytes", type=int, metavar="N", help="largest .trim file; the ONNX file beside it is larger")
    candidates = parser.add_argument_group("candidates").add_mutually_exclusive_group()
    text = "kinds to try, of int8, int8-trained, zeros, blocks, channels (default: all that can help with the targets)"
    candidates.add_argument("--candidates", type=words, metavar="NAME,...", help=text)
    text = "try INT8 without training alone, the same as --candidates int8"
    candidates.add_argument("--int8", dest="candidates", action="store_const", const=("int8",), help=text)
    training = parser.add_argument_group("training")
    text = "epochs of each candidate over its stages: prune 20 %%, quantize 40 %%, distil 40 %% (default: %(default)s)"
    training.add_argument("--epochs", type=int, default=10, metavar="TOTAL", help=text)
    training.add_argument("--learning-rate", type=float, metavar="RATE", help="at the start of every stage (default: 0.01)")
    training.add_argument("--batch-size", type=int, metavar="N", help="images in a training step (default: 128)")
    text = "train the dense network first, from its weights if it has some"
    training.add_argument("--dense-epochs", type=int, default=0, metavar="N", help=text)
    text = f"while doing so (default: {DENSE_RATE})"
    training.add_argument("--dense-learning-rate", type=float, metavar="RATE", help=text)


def _add_place(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--folder", type=path, metavar="DIR", help=f"where everything is kept (default: {default})")
    parser.add_argument("--seed", type=int, metavar="N", help="feeds every random stream")
    parser.add_argument(
        "--device", metavar="NAME", help="device for training: cpu, cuda, cuda:1 (default: CUDA where there is any)"
    )


def _add_run(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "run",
        "run a recipe and measure the network after every stage",
        examples="paretrim run recipes/digits.toml --folder runs/digits\nparetrim run recipes/digits.toml --seed 1 --effort none",
    )
    parser.add_argument("recipe", type=path, metavar="RECIPE.toml")
    _add_place(parser, "runs/ and the recipe's file name")
    _add_measuring(parser)


def _add_compress(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "compress",
        "compress a network without a recipe, towards targets",
        examples="paretrim compress --model resnet20 --data digits --dense-epochs 15 --validation 0.3 --max-drop 2\n"
        "paretrim compress --model my_networks:make --weights w.safetensors --data imagefolder:photos --max-bytes 500000",
    )
    _add_network(parser, required=True)
    _add_place(parser, "runs/ and the names of network and data")
    _add_measuring(parser)


def _add_quantize(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "quantize",
        "make an INT8 file of a trained network, without training it any further",
        examples="paretrim quantize resnet20 --weights resnet20.safetensors --data cifar10\n"
        "paretrim quantize my_networks:make --weights w.safetensors --data imagefolder:photos --out photos.onnx",
    )
    parser.add_argument("model", metavar="MODEL", help=NETWORK)
    parser.add_argument("--weights", metavar="FILE", help=f"{WEIGHTS}; needed for the networks of this package")
    _add_data(parser, required=True)
    _add_task(parser)
    _add_split(parser)
    parser.add_argument("--out", type=path, metavar="FILE", help="write the file here too; a name ending in .trim or .onnx")
    text = "width of the weights, 2 to 8 (default: 8); 7 for runtimes that saturate on CPUs without VNNI, see paretrim doctor"
    parser.add_argument("--weight-bits", type=count, metavar="BITS", help=text)
    text = "make the .trim file smaller: what a bit per weight is worth in loss; 0.001 is a start (default: 0)"
    parser.add_argument("--rate", type=float, metavar="NATS", help=text)
    text = "methods without training, by commas: equalize, smooth, batchnorm, bias, adaround, gptq, joint (default: none)"
    parser.add_argument("--adjust", type=names, metavar="NAMES", help=text)
    parser.add_argument("--rounding-steps", type=count, metavar="N", help="steps of adaround for a layer (default: 10000)")
    parser.add_argument("--format", default=FORMATS[0], choices=FORMATS, help=FORMAT)
    _add_place(parser, "runs/ and the names of network and data, then -int8")
    _add_measuring(parser, effort=NO_TIMING)


def _add_plan(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "predict stages, epochs, time and disk of a recipe, a study, or compress with the same options"
    parser = _command(commands, "plan", text)
    parser.add_argument("recipe", type=path, nargs="?", metavar="RECIPE_OR_STUDY.toml")
    _add_network(parser, required=False)
    _add_place(parser, "none; given one, what a run has finished there is left out of the prediction")
    _add_measuring(parser)


def _add_dense(parser: argparse.ArgumentParser) -> None:
    """What names a dense network: a recipe, or options of compress."""
    parser.add_argument("recipe", type=path, nargs="?", metavar="RECIPE.toml")
    _add_network(parser, required=False)
    _add_place(parser, "as that of run or compress")


def _add_sensitivity(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "sensitivity",
        "prune every layer of a dense network alone and show what becomes of loss and accuracy",
        examples="paretrim sensitivity recipes/digits.toml --folder runs/digits\n"
        "paretrim sensitivity --model resnet20 --weights resnet20.safetensors --data cifar10 --patterns 1x4 --figure scan.svg",
    )
    _add_dense(parser)
    text = "of unstructured, 1x4, channel (default: all)"
    parser.add_argument("--patterns", type=words, metavar="NAME,...", help=text)
    text = "which weights or channels go first, as score of the prune stage (default: %(default)s)"
    parser.add_argument("--score", default="magnitude", metavar="NAME", help=text)
    parser.add_argument("--figure", type=path, metavar="OUT.svg", help="the picture as a file of its own")


def _add_outliers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "outliers",
        "show how far weights and activations of a dense network reach, and what a calibrator clips",
        examples="paretrim outliers recipes/digits.toml --folder runs/digits\n"
        "paretrim outliers --model resnet20 --weights resnet20.safetensors --data cifar10 --percentile 99.99 --json",
    )
    _add_dense(parser)
    text = "what chooses the ranges, as in the quantize stage (default: %(default)s)"
    parser.add_argument("--calibrator", default="percentile", metavar="NAME", help=text)
    text = "share of values in %% that the calibrator percentile keeps (default: %(default)s)"
    parser.add_argument("--percentile", type=float, default=99.9, metavar="P", help=text)


def _add_bench(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "bench", "time deployed files against each other in one interleaved session")
    text = ".onnx files; .trim and .graph files run in the native runtime"
    parser.add_argument("files", type=path, nargs="+", metavar="FILE", help=text)
    parser.add_argument("--baseline", type=path, metavar="FILE", help="the file all ratios refer to (default: the first)")
    parser.add_argument(
        "--runtime",
        type=words,
        default=("onnxruntime",),
        metavar="NAME,...",
        help="onnxruntime, openvino; for .trim and .graph files also reference",
    )
    parser.add_argument("--threads", type=counts, default=(1,), metavar="N,...", help="threads (default: 1)")
    parser.add_argument("--effort", choices=tuple(EFFORTS), default="standard", help="how hard to measure (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images in one call (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="orders rounds and draws images (default: %(default)s)")
    parser.add_argument("--raw", type=path, metavar="OUT.npz", help="keep the raw samples; several settings add their names")
    text = "instead show layer by layer what the native runtime does with one .trim or .graph file, and how fast"
    parser.add_argument("--layers", action="store_true", help=text)
    _add_data(parser, required=False)
    _add_limit(parser)


def _add_eval(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "eval", "measure the accuracy of a deployed file on test images, or what its task is judged by")
    parser.add_argument("file", type=path, metavar="FILE")
    _add_data(parser, required=True)
    _add_task(parser, default="the one that the file keeps, else classification")
    parser.add_argument("--runtime", metavar="NAME", help="onnxruntime, openvino, paretrim or reference (default: by the file)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads (default: %(default)s)")
    _add_limit(parser)


def _add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "export",
        "write the deployed file of a candidate, or of a run folder's last one",
        examples="paretrim export runs/digits --to digits.trim\nparetrim export digits.trim --to digits.onnx\n"
        "paretrim export digits.trim --to native.onnx --native 2\nparetrim export int4.trim --to int4.onnx --int4 32\n"
        "paretrim export runs/digits --label dense --to dense.onnx",
    )
    parser.add_argument("source", type=path, metavar="CANDIDATE_OR_FOLDER")
    parser.add_argument("--to", type=path, required=True, metavar="OUT", help="a name ending in .trim, .onnx or .graph")
    parser.add_argument("--label", metavar="LABEL", help="which candidate of a run folder, as the table calls it")
    text = "an .onnx file whose one operator is the native runtime on so many threads; see docs/runtime.md"
    parser.add_argument("--native", type=int, metavar="THREADS", help=text)
    text = "an .onnx file that holds weights of at most 4 bits as INT4, with a scale for so many input channels (0: for all)"
    parser.add_argument("--int4", type=int, metavar="BLOCK", help=text)
    text = "let the file of a lone candidate take pixels and normalise them itself"
    parser.add_argument("--mean", type=numbers, metavar="M,...", help=f"{text}, with --std")
    parser.add_argument("--std", type=numbers, metavar="S,...", help=f"{text}, with --mean")
    _add_limit(parser)


def _add_inspect(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "inspect", "show the weights of a file layer by layer, or compare what two files decide")
    text = "two files: divergence and agreement, calibration, and which classes and images of --data got worse"
    parser.add_argument("--compare", type=path, nargs=2, metavar=("A", "B"), help=text)
    parser.add_argument("--inside", action="store_true", help="with --compare, also Grad-CAM, histograms, and what zeros cost")
    parser.add_argument("--at", default="", metavar="MODULE", help="module that Grad-CAM looks at (default: the last map)")
    parser.add_argument("--out", type=path, metavar="PAGE.html", help="write all of --inside as one page")
    _add_data(parser, required=False)
    parser.add_argument(
        "file", type=path, nargs="?", metavar="FILE", help="a .trim, .onnx or .graph file, or a candidate.safetensors"
    )
    _add_limit(parser)


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "report", "show outcomes as a table and write them as one HTML page, or as a page in Markdown")
    parser.add_argument("sources", type=path, nargs="+", metavar="FOLDER_OR_JSONL")
    parser.add_argument(
        "--out", type=path, metavar="PAGE.html", help="the page (default: report.html in a single folder, else none)"
    )
    parser.add_argument("--markdown", type=path, metavar="OUT.md", help="a page for documentation, made from the outcomes alone")
    parser.add_argument("--figure", type=path, metavar="OUT.svg", help="the accuracies as a picture, which that page shows")
    parser.add_argument("--title", help="title of the pages (default: network and data, and in Markdown the study before them)")


def _add_study(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "study", "run a study: many recipes and seeds, resumable at any moment")
    parser.add_argument("study", type=path, metavar="STUDY.toml")
    parser.add_argument(
        "--folder", type=path, metavar="DIR", help="where everything is kept (default: runs/ and the study's name)"
    )
    parser.add_argument(
        "--results", type=path, metavar="DIR", help="where the outcomes go (default: results/ and the study's name)"
    )
    _add_measuring(parser)


def _add_methods(commands: Commands[argparse.ArgumentParser]) -> None:
    _command(commands, "methods", "list every method with its source and a recipe that uses it")


def _add_doctor(commands: Commands[argparse.ArgumentParser]) -> None:
    _command(commands, "doctor", "say what this machine is, what it runs, and whether latency can be measured on it now")
