"""The native library installed for C and C++ programs: each way to find it builds and runs the example."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from random_graphs import random_graph

import paretrim
from paretrim import trimfile
from paretrim.graph import interpreter

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples/classify.c"
GRAPH, IMAGES = random_graph(11, quantized=True)

PROJECT = f"""
cmake_minimum_required(VERSION 3.20)
project(classify LANGUAGES C)
find_package(paretrim {paretrim.__version__} REQUIRED)
add_executable(classify "{EXAMPLE}")
target_link_libraries(classify PRIVATE paretrim::paretrim)
"""


def tool(name):
    """From the system, else from beside Python, as scripts/native.sh looks for it."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"the native runtime was built, so there is {name}"
    return found


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """A copy of the library as `cmake --install` lays it out, at a path with a space."""
    place = tmp_path_factory.mktemp("installed") / "a prefix"
    run(ROOT / "scripts/native.sh", sys.executable)
    run(tool("cmake"), "--install", ROOT / "build/native", "--prefix", place, "--component", "library")
    return place


def classified(program, folder):
    """What the example says of an image, and what it must say."""
    trimfile.write(GRAPH, folder / "model.trim")
    image = IMAGES[0]
    (folder / "picture.ppm").write_bytes(b"P6\n8 8\n255\n" + image.transpose(1, 2, 0).tobytes())
    (logits,) = interpreter.run(GRAPH, image[None])
    best = int(logits.argmax())
    said = run(program, folder / "model.trim", folder / "picture.ppm")
    return said, f"class {best}: class {best}, logit {logits[best]:g}\n"


def test_what_is_installed(prefix):
    installed = {path.name: path for path in prefix.rglob("*") if path.is_file()}
    assert set(installed) - {"paretrimConfig-release.cmake"} == {
        "libparetrim.so",
        "libparetrim_onnxruntime.so",
        "paretrim.h",
        "paretrim.pc",
        "paretrimConfig.cmake",
        "paretrimConfigVersion.cmake",
    }
    for name in ("paretrim.pc", "paretrimConfig.cmake", "paretrimConfig-release.cmake"):
        assert str(ROOT) not in installed[name].read_text(encoding="utf-8"), f"{name} works on this machine only"


@pytest.mark.slow
def test_cmake_finds_it(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(PROJECT, encoding="utf-8")
    given = [f"-DCMAKE_PREFIX_PATH={prefix}", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    run(tool("cmake"), "-S", tmp_path, "-B", tmp_path / "build", *given)
    run(tool("cmake"), "--build", tmp_path / "build")
    said, expected = classified(tmp_path / "build/classify", tmp_path)
    assert said == expected


@pytest.mark.slow
def test_another_minor_version_is_not_taken(prefix, tmp_path):
    major, minor, *_ = paretrim.__version__.split(".")
    wanted = f"find_package(paretrim {major}.{int(minor) + 1} REQUIRED)"
    (tmp_path / "CMakeLists.txt").write_text(
        PROJECT.replace(f"find_package(paretrim {paretrim.__version__} REQUIRED)", wanted), encoding="utf-8"
    )
    given = [f"-DCMAKE_PREFIX_PATH={prefix}", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    command = [tool("cmake"), "-S", tmp_path, "-B", tmp_path / "build", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"version: {paretrim.__version__}" in done.stderr


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="no pkg-config")
def test_pkg_config_finds_it(prefix, tmp_path):
    (folder,) = {path.parent for path in prefix.rglob("paretrim.pc")}
    asked = {"env": {"PKG_CONFIG_PATH": str(folder), "PATH": "/usr/bin:/bin"}}
    assert run("pkg-config", "--modversion", "paretrim", **asked).strip() == paretrim.__version__
    flags = run("pkg-config", "--cflags", "--libs", "paretrim", **asked).strip()
    # Through a shell, as a makefile would hand them on.
    command = f'cc -std=c99 "{EXAMPLE}" -o "{tmp_path}/classify" {flags} -Wl,-rpath,"{folder.parent}"'
    run("sh", "-c", command)
    said, expected = classified(tmp_path / "classify", tmp_path)
    assert said == expected
