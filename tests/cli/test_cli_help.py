import argparse
import re
import resource
import shlex
import subprocess
import sys
from itertools import pairwise

import pytest

import paretrim
from paretrim.cli import main
from paretrim.cli.main import OWN_CODE
from paretrim.cli.parser import COMMANDS, build_parser


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: paretrim {command}" in said
    assert "--json" in said


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert re.findall(r"^    ([a-z]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("given", [["--version"], ["methods"], ["--", "doctor"]])
def test_commands_that_are_not_chosen_get_no_arguments(given, monkeypatch):
    """Building their options takes longer than printing the list of commands."""
    made = []
    add_argument = argparse.ArgumentParser.add_argument

    def counted(parser, *names, **settings):
        made.append(names)
        return add_argument(parser, *names, **settings)

    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", counted)
    build_parser(given)
    shared = [("-h", "--help")] * (1 + len(COMMANDS)) + [("--version",)]
    assert sorted(made) == sorted(shared if given == ["--version"] else [*shared, ("--json",)])


def test_help_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from paretrim.cli import main\n"
        f"for arguments in (['--help'], *([name, '--help'] for name in {tuple(COMMANDS)!r})):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'pydantic', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_half_a_second():
    """CPU time, which other programs on the machine do not lengthen much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "paretrim", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"paretrim {paretrim.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run", "r.toml", "--threads", "0"], "'0' has a number below 1"),
        (["run", "r.toml", "--seed", "one"], "'one' is not a whole number; write it in digits, without a unit"),
        (["compress", "--max-bytes", "10kB"], "--max-bytes: '10kB' is not a whole number; write it in digits"),
        (["compress", "--max-drop", "0.5%"], "--max-drop: '0.5%' is not a number; write it without a unit, for example 0.5"),
        (["bench", "a.trim", "--seed", "-1"], "'-1' is no seed; write a whole number from 0, of at most 30 digits"),
        (["bench", "a.trim", "--seed", "1" * 31], "is no seed; write a whole number from 0"),
        (["eval", "a.trim", "--threads", "1,2"], "'1,2' is not a whole number; write, for example, 2"),
        (["inspect", "a.trim", "--limit", "0"], "'0' is not above 0; write, for example, 3"),
        (["eval", "a.trim", "--limit", "nan"], "'nan' is not above 0; write, for example, 3"),
        (["bench", "a.trim", "--limit", "much"], "'much' is not a number; write, for example, 3"),
        (["run", "r.toml", "--threads", "two"], "'two' is not a list of whole numbers; write, for example, 1,2"),
        (["eval", "f.onnx", "--data", "digits", "--mean", "a,b"], "'a,b' is not a list of numbers"),
        (["run", "r.toml", "--effort", "heroic"], "invalid choice: 'heroic'"),
    ],
)
def test_arguments_that_are_not_understood(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_lists_keep_each_value_once():
    given = ["run", "r.toml", "--threads", "2,1,2", "--runtimes", "openvino, onnxruntime"]
    parsed = build_parser(given).parse_args(given)
    assert parsed.threads == (2, 1)
    assert parsed.runtimes == ("openvino", "onnxruntime")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_and_explains_every_argument(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*([command] if command else []), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    # An argument without help stands alone on its line, and no indented help follows it.
    alone = [line for line, after in pairwise([*lines, ""]) if re.match(r"  \S+$", line) and not after.startswith("      ")]
    assert [line for line in alone if line.strip() != "COMMAND"] == []


@pytest.mark.parametrize("command", [name for name, command in COMMANDS.items() if command.examples])
def test_the_examples_of_help_are_understood(command):
    for example in COMMANDS[command].examples.replace("\\\n", " ").splitlines():
        words = shlex.split(example)[1:]
        assert build_parser(words).parse_args(words).command == command


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_take_a_network_or_a_task_find_it_in_the_working_folder(command):
    parser = build_parser([command])._subparsers._group_actions[0].choices[command]
    named = {"model", "recipe", "study", "task"} & {action.dest for action in parser._actions}
    assert (command in OWN_CODE) == bool(named)
