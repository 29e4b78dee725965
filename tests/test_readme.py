"""The README, the recipes and the examples do what they say."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from paretrim.cli.parser import COMMANDS, build_parser
from paretrim.run.recipe import parse_stage, read_recipe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TOPICS = ("pruning", "quantization", "distillation")
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))

YOUR_PACKAGE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(64, 1, 8, 8), torch.arange(64) % 4)
train_loader = validation_loader = DataLoader(data, batch_size=16)
first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 8, 3, stride=2)
model = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
"""


REFERENCE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _lines(*programs: str) -> list[str]:
    """Shell lines of the README and the page on commands that begin with one of the programs, without their comments."""
    blocks = (block for text in (README, REFERENCE) for block in _blocks("sh", text))
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in dict.fromkeys(lines) if line.split()[:1] and line.split()[0] in programs]


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{folder}", "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(folder)}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


def test_the_speeds_of_the_readme_are_measured():
    measured = [_cells(line) for line in (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    # Of the long table, on one thread: network, zeros and ratio.
    known = {(row[0], row[1], row[7]) for row in measured if len(row) == 10 and row[3] == "1"}
    networks = {"ResNet-18, CIFAR-10": "resnet18", "ResNet-50, 224 pixels": "resnet50_imagenet, 224 pixels"}
    for shown, name in networks.items():
        (line,) = re.findall(rf"^- {shown}: (.*(?:\n  .*)*)$", README, re.MULTILINE)
        ratios = re.findall(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", line)
        zeros = re.findall(r"(without|with \d\d %)", line)
        assert [word.removeprefix("with ").replace("without", "0 %") for word in zeros] == ["0 %", "80 %", "90 %"]
        assert {(name, share, ratio) for share, ratio in zip(("0 %", "80 %", "90 %"), ratios, strict=True)} <= known


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_stages_of_the_python_page_are_those_that_are_used(tmp_path: Path):
    (block,) = _blocks("python", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    (tmp_path / "your_package.py").write_text(YOUR_PACKAGE, encoding="utf-8")
    stages = block.partition("result =")[0]
    compared = "from paretrim.run.compressed import EPOCHS\nfrom paretrim.stages.usual import usual_stages\n"
    program = f"{stages}{compared}assert tuple(stages) == usual_stages(EPOCHS, budget=paretrim.Budget())\n"
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    done = _run([sys.executable, "page.py"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_five_lines_of_python_run(tmp_path: Path):
    (block,) = _blocks("python")
    use = _blocks("python", (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8"))[0]
    (tmp_path / "your_package.py").write_text(YOUR_PACKAGE, encoding="utf-8")
    (tmp_path / "five_lines.py").write_text(block, encoding="utf-8")
    done = _run([sys.executable, "five_lines.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([line for line in block.splitlines() if line]) <= 5
    then = 'import sys\nassert logits.shape == (1, 4)\nassert "torch" not in sys.modules\n'
    (tmp_path / "use.py").write_text(use + then, encoding="utf-8")
    used = _run([sys.executable, "use.py"], tmp_path)
    assert used.returncode == 0, used.stderr


@pytest.mark.parametrize("line", _lines("paretrim"))
def test_a_command_of_the_readme_is_understood(line: str):
    words = shlex.split(line)[1:]
    parsed = build_parser(words).parse_args(words)
    assert parsed.command == words[0]
    missing = [word for word in words if word.startswith(("recipes/", "studies/")) and not (ROOT / word).is_file()]
    assert not missing


def test_every_command_has_a_line():
    said = {line.split()[1] for line in _lines("paretrim")}
    assert set(COMMANDS) <= said


def test_the_recipe_of_the_page_is_the_one_of_the_demo(tmp_path: Path):
    texts = {page: (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("recipes", *TOPICS)}
    block, pretrained, task = _blocks("toml", texts["recipes"])
    (prune,) = _blocks("toml", texts["pruning"])
    quantize, formats, grouped, mixed = _blocks("toml", texts["quantization"])
    criteria, teachers, stored = _blocks("toml", texts["distillation"])
    (tmp_path / "recipe.toml").write_text(block, encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml").digest == read_recipe(ROOT / "recipes" / "digits.toml").digest
    assert "recipes/digits.toml" in (ROOT / "demo").read_text(encoding="utf-8")
    (tmp_path / "pretrained.toml").write_text(pretrained, encoding="utf-8")
    assert read_recipe(tmp_path / "pretrained.toml").data.train_images == 10000
    start = '[model]\nnetwork = "resnet20"\n[data]\nname = "digits"\n'
    texts = {
        "prune": start + prune,
        "quantize": start + quantize,
        "formats": start + formats,
        "criteria": start + criteria,
        "task": task + start,
        "teachers": start + criteria + teachers,
        "stored": start + criteria + stored,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "prune.toml").stages[0].pattern == "1x4"
    assert read_recipe(tmp_path / "quantize.toml").stages[0].budget.epochs == 4
    assert read_recipe(tmp_path / "task.toml").task == "regression"
    assert [teacher.name for teacher in read_recipe(tmp_path / "teachers.toml").teachers] == ["dense", "large"]
    assert read_recipe(tmp_path / "formats.toml").stages[0].formats["layer3.*"].bits == 4
    assert parse_stage({"stage": "quantize", **tomllib.loads(grouped)}, "stage").formats["*"].group == 32
    ways = [parse_stage({"stage": "quantize", **tomllib.loads(line)}, "stage").mixed.by for line in mixed.splitlines()]
    assert ways == ["hessian", "divergence", "variance", "latency"]
    assert read_recipe(tmp_path / "criteria.toml").stages[0].criteria[0].beta == 2.0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read(path: Path):
    assert read_recipe(path).stages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_headings(page: Path):
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        text = (page.parent / target if target else page).read_text(encoding="utf-8")
        assert heading in map(_anchor, re.findall(r"^#+ (.*)$", text, re.MULTILINE)), f"{target}#{heading}"


def _anchor(heading: str) -> str:
    """The name by which a heading is linked: lower case, dashes for spaces, no other signs."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path):
    examples = ROOT / "examples"
    own = _run([sys.executable, str(examples / "own_network.py"), "--epochs", "1", "--folder", "own"], tmp_path)
    assert own.returncode == 0, own.stderr
    assert [line.split(":")[0] for line in own.stdout.splitlines()] == ["prune", "quantize", "distill", "deployed file"]
    stage = _run([sys.executable, str(examples / "own_stage.py"), "--epochs", "0", "--folder", "stage"], tmp_path)
    assert stage.returncode == 0, stage.stderr
    assert stage.stdout.startswith("prune_at_random: 80.0% zeros")
    loss = _run([sys.executable, str(examples / "own_loss.py"), "--epochs", "1", "--folder", "loss"], tmp_path)
    assert loss.returncode == 0, loss.stderr
    assert [line.split(":")[0] for line in loss.stdout.splitlines()] == ["hint", "distill"]
    score = _run([sys.executable, str(examples / "own_score.py"), "--epochs", "0", "--folder", "score"], tmp_path)
    assert score.returncode == 0, score.stderr
    assert [line.split(":")[0] for line in score.stdout.splitlines()] == ["magnitude", "own_score", "random"]
    grid = _run([sys.executable, str(examples / "own_grid.py"), "--epochs", "1", "--folder", "grid"], tmp_path)
    assert grid.returncode == 0, grid.stderr
    assert [line.split(":")[0] for line in grid.stdout.splitlines()] == ["8 bits", "binary"]
    task = _run([sys.executable, str(examples / "own_task.py"), "--epochs", "1", "--folder", "task"], tmp_path)
    assert task.returncode == 0, task.stderr
    assert task.stdout.startswith("finetune: validation mean squared error ")
    assert "%" not in task.stdout
    pixels = _run([sys.executable, str(examples / "own_pixel_task.py"), "--epochs", "1", "--folder", "pixels"], tmp_path)
    assert pixels.returncode == 0, pixels.stderr
    assert pixels.stdout.startswith("finetune: validation mIoU ")


def test_examples_use_public_names_only():
    for path in sorted({*(ROOT / "examples").glob("own_*.py")} - {ROOT / "examples" / "own_network.py"}):  # that one reads digits
        assert not re.findall(r"^(?:from|import) paretrim\.", path.read_text(encoding="utf-8"), re.M), path


@pytest.mark.slow
def test_a_deployed_file_classifies_pixels_without_the_package(tmp_path: Path):
    """From a recipe to a class name: the file of a run, and the example that needs ONNX Runtime and NumPy alone."""
    (tmp_path / "tiny.toml").write_text(
        '[model]\nnetwork = "resnet20"\n[data]\nname = "digits"\n[[stages]]\nstage = "quantize"\nbudget = { epochs = 0 }\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "paretrim"]
    made = _run([*command, "run", "tiny.toml", "--folder", "run", "--effort", "none"], tmp_path)
    assert made.returncode == 0, made.stderr
    written = _run([*command, "export", "run", "--to", "model.onnx"], tmp_path)
    assert written.returncode == 0, written.stderr
    image = "import numpy as np; np.save('image.npy', np.arange(64, dtype=np.uint8).reshape(1, 8, 8))"
    assert _run([sys.executable, "-c", image], tmp_path).returncode == 0
    shown = _run([sys.executable, "-P", str(ROOT / "examples" / "classify_image.py"), "model.onnx", "image.npy"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert re.fullmatch(r"( *\d+\.\d\d%  \d\n){3}", shown.stdout)
