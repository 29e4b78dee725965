"""The two scripts, as far as they can be tried without installing anything: a stand-in for Python records what it is asked."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("check", "demo", ".ci/run", "scripts/environment.sh", "scripts/native.sh")
READ = ("pyproject.toml", "constraints.txt", "native/CMakeLists.txt", "src/paretrim/__init__.py", "examples/classify.c")

STAND_IN = """#!/bin/sh
# Answers like an interpreter; `-m venv` copies this file, everything else is written to a log.
case "$1 $2" in
    "-VV "*) echo "Python 3.11.2 stand-in" ;;
    "-V "*) echo "Python 3.11.2" ;;
    "-c import sys; print"*) echo "$0" ;;
    "-c import sys; sys.exit"*) exit "${UNSUPPORTED:-0}" ;;
    "-m venv") for last; do :; done
        mkdir -p "$last/bin" && cp "$0" "$last/bin/python"
        cp "$0" "$last/bin/clang-format"
        printf '#!/bin/sh\\necho "paretrim $*" >>"$LOG"\\n' >"$last/bin/paretrim" && chmod +x "$last/bin/paretrim" ;;
    *) echo "$*" >>"$LOG"
        case "$*" in *"$FAILING"*) [ -z "$FAILING" ] || exit 1 ;; esac ;;
esac
"""

TOOLS = """#!/bin/sh
# Stands for cmake, ninja and the compiler; a build leaves files of the right names.
echo "$(basename "$0") $*" >>"$LOG"
case "$*" in *"$FAILING"*) [ -z "$FAILING" ] || { echo "it broke"; exit 1; } ;; esac
case "$1" in --build) for name in _native.stand-in libparetrim libparetrim_onnxruntime; do echo made >"$2/$name.so"; done ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts read, at a path with a space."""
    place = tmp_path / "a checkout"
    for name in (*SCRIPTS, *READ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    (place / "src/paretrim/runtime").mkdir()
    for name in ("cmake", "ninja", "c++"):
        tool = tmp_path / "tools" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(TOOLS, encoding="utf-8")
        tool.chmod(0o755)
    return place


def _environment(checkout: Path, failing: str = "") -> dict[str, str]:
    above = checkout.parent
    path = f"{above / 'tools'}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHON": str(above / "python"), "LOG": str(above / "log"), "FAILING": failing}


def _call(checkout: Path, script: str, *arguments: str, failing: str = "", **more: str) -> tuple[int, list[str], str]:
    """Run a script from another folder with the stand-in; its status, what Python was asked since the last call, and stderr."""
    python, log = checkout.parent / "python", checkout.parent / "log"
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    log.write_text("", encoding="utf-8")
    environment = _environment(checkout, failing) | more
    done = subprocess.run(
        [checkout / script, *arguments], cwd=checkout.parent, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, log.read_text(encoding="utf-8").splitlines(), done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_executable_and_has_no_syntax_error(script: str):
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0


def test_the_first_check_installs_torch_first_and_the_second_installs_nothing(checkout: Path):
    status, asked, _ = _call(checkout, "check")
    assert status == 0
    installs = [line for line in asked if " pip " in f" {line} "]
    assert installs[0].endswith("torch==2.13.0")
    assert installs[1].endswith("--no-deps torchvision")
    assert installs[2].endswith("scikit-build-core nanobind")
    assert all(f"--constraint {checkout}/constraints.txt" in line for line in installs)
    assert asked[-7:-3] == ["-m ruff format --check .", "-m ruff check .", "-m mypy", "-m mypy benchmarks/*.py"]
    assert asked[-3] == "--dry-run --Werror examples/classify.c"
    assert asked[-2:] == ["-m pytest --quiet --doctest-modules src", "-m pytest --quiet -n 2 --dist worksteal tests"]

    status, asked, stderr = _call(checkout, "check", "tests/graph")
    assert (status, stderr) == (0, "")
    assert not [line for line in asked if " pip " in f" {line} "]
    assert asked[-1] == "-m pytest --quiet -n 2 --dist worksteal tests/graph"


def test_changed_native_sources_are_built_again_and_nothing_else(checkout: Path):
    _, asked, _ = _call(checkout, "scripts/environment.sh")
    assert [line for line in asked if line.startswith("cmake --build")]
    made = checkout / "src/paretrim/runtime/_native.stand-in.so"
    assert made.read_text(encoding="utf-8") == "made\n"

    _, asked, _ = _call(checkout, "scripts/environment.sh")
    assert asked == []

    (checkout / "native/kernels.cpp").write_text("int x;\n", encoding="utf-8")
    _, asked, _ = _call(checkout, "scripts/environment.sh")
    assert [line.split()[0] for line in asked] == ["-m", "cmake", "cmake"]

    made.unlink()
    _, asked, _ = _call(checkout, "scripts/environment.sh")
    assert [line for line in asked if line.startswith("cmake --build")]
    assert made.exists()


def test_a_build_that_fails_says_why_and_is_tried_again(checkout: Path):
    status, _, stderr = _call(checkout, "scripts/environment.sh", failing="--build")
    assert status != 0
    assert re.search(r"it broke\nThe native runtime could not be built; the full log is \S", stderr)
    status, asked, _ = _call(checkout, "scripts/environment.sh")
    assert status == 0
    assert [line for line in asked if line.startswith("cmake --build")]


def test_a_missing_compiler_is_named(checkout: Path):
    status, _, stderr = _call(checkout, "scripts/environment.sh", CXX="no-such-compiler")
    assert status != 0
    assert "A C++17 compiler is needed to build the native runtime; on Debian: apt-get install g++" in stderr


def test_the_demo_runs_the_recipe_in_the_same_environment(checkout: Path):
    _call(checkout, "check")
    status, asked, _ = _call(checkout, "demo", "--threads", "1")
    assert status == 0
    assert asked == ["paretrim run recipes/digits.toml --folder runs/demo --effort quick --threads 1"]


def test_changed_versions_are_installed_into_the_same_environment(checkout: Path):
    _call(checkout, "scripts/environment.sh")
    with (checkout / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("# another version\n")
    status, asked, stderr = _call(checkout, "scripts/environment.sh")
    assert status == 0
    assert asked
    assert "Making" not in stderr


def test_an_interrupted_installation_goes_on(checkout: Path):
    status, _, _ = _call(checkout, "check", failing="--no-deps torchvision")
    assert status != 0
    status, asked, _ = _call(checkout, "check")
    assert status == 0
    assert [line for line in asked if "--no-deps torchvision" in line]


@pytest.mark.parametrize("step", ["-m ruff format", "-m ruff check", "-m mypy", "-m mypy benchmarks", "--dry-run", "-m pytest"])
def test_check_fails_with_any_of_its_steps(checkout: Path, step: str):
    status, asked, _ = _call(checkout, "check", failing=step)
    assert status != 0
    assert asked[-1].startswith(step)


def test_an_unsupported_python_is_refused_by_name(checkout: Path):
    status, _, stderr = _call(checkout, "check", UNSUPPORTED="1")
    assert status != 0
    assert re.search(r"No Python 3\.11 or 3\.12 among: \S*python\. Install one, or name it: PYTHON=", stderr)


def test_two_at_once_wait_for_each_other(checkout: Path):
    _call(checkout, "scripts/environment.sh")
    environment = _environment(checkout)
    with (checkout / "scripts/environment.sh").open(encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [checkout / "scripts/environment.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(0.3)
        assert waiting.poll() is None
    said, _ = waiting.communicate(timeout=300)
    assert said.strip() == f"{checkout}/.venv/bin/python"


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), "every line pins one exact version"
    return {_normal(match[1]): match[2] for match in found if match}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_and_torch_twice_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    names = {_normal(match[0]) for text in wanted if (match := re.match(r"[\w.-]+", text))}
    pinned = _pinned()
    assert names <= set(pinned)
    assert f"torch=={pinned['torch']}" in (ROOT / "scripts/environment.sh").read_text(encoding="utf-8")


def test_what_is_installed_here_is_what_is_pinned():
    """Only where ./check made the environment; a user's own may hold other versions."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("this environment was not made by ./check")
    # Its own folder alone: setuptools, once imported, puts what it bundles on the path as well.
    here = metadata.distributions(path=[sysconfig.get_paths()["purelib"]])
    installed = {_normal(found.name): found.version.partition("+")[0] for found in here}
    others = {"pip", "paretrim"}
    # Where a registry gives torch for CUDA, it brings its libraries along; they are pinned by torch.
    others |= {name for name in installed if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert {name: version for name, version in installed.items() if name not in others} == {
        name: version for name, version in _pinned().items() if name in installed
    }


def test_no_script_names_a_package_index():
    """Where packages come from is the user's own configuration of pip."""
    for script in (*SCRIPTS, "constraints.txt"):
        text = (ROOT / script).read_text(encoding="utf-8")
        assert not re.search(r"https?://|index-url|find-links", text), script


def test_the_license_is_the_apache_license_word_for_word():
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_native_table_of_operations_is_fresh():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "native_operations.py", "--check"], check=False)
    assert done.returncode == 0, "run scripts/native_operations.py and build the native library again"


def test_the_pages_of_methods_are_fresh():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "method_pages.py", "--check"], check=False)
    assert done.returncode == 0, "run scripts/method_pages.py"
