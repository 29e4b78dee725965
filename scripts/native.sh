#!/usr/bin/env bash
# Builds the native runtime into src/paretrim/runtime/, where a checkout's Python finds it: scripts/native.sh [PYTHON]
#
# PYTHON is the interpreter to build for (default .venv/bin/python); it needs the package nanobind. A stamp beside the build
# records its sources and Python, so a second call does nothing; after a change only what depends on it is compiled again.
# Concurrent calls wait for each other.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${1:-$root/.venv/bin/python}"
place="$root/src/paretrim/runtime"
build="$root/build/native"
stamp="$build/built-from"

fingerprint() { # of everything that affects the build: sources, version, this script, Python and the folder
    {
        cd "$root"
        find native -type f ! -path "native/tests/*" ! -path "native/bench/*" -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        sha256sum src/paretrim/__init__.py scripts/native.sh
        echo "$root"
        "$python" -VV
        "$python" -c 'import sys; print(sys.executable)'
    } | sha256sum | cut -d' ' -f1
}

built() {
    compgen -G "$place/_native.*" >/dev/null && [[ -f "$stamp" && "$(cat "$stamp")" == "$1" ]]
}

tool() { # from the PATH, else from beside Python
    command -v "$1" || command -v "$(dirname "$python")/$1" || {
        echo "$1 is needed to build the native runtime; on Debian: apt-get install $1${2:-}, or: $python -m pip install $1" >&2
        return 1
    }
}

exec 8<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then
    flock 8
fi
wanted="$(fingerprint)"
if built "$wanted"; then
    exit
fi
if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "A C++17 compiler is needed to build the native runtime; on Debian: apt-get install g++, or name it: CXX=..." >&2
    exit 1
fi
cmake="$(tool cmake)"
ninja="$(tool ninja -build)"
mkdir -p "$build"
rm -f "$stamp"
log="$build/log"
echo "Building the native runtime (about a minute the first time)" >&2
if ! {
    "$cmake" -S "$root/native" -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$ninja" -DPARETRIM_SHARED=ON \
        -DPython_EXECUTABLE="$python" \
        -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" &&
        "$cmake" --build "$build"
} >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "The native runtime could not be built; the full log is $log" >&2
    exit 1
fi
# Renamed into place, never overwritten: a running process keeps its own copy.
for made in "$build"/_native.*.so "$build"/libparetrim.so "$build"/libparetrim_onnxruntime.so; do
    cp "$made" "$place/.$(basename "$made").part"
    mv -f "$place/.$(basename "$made").part" "$place/$(basename "$made")"
done
echo "$wanted" >"$stamp"
