#!/usr/bin/env bash
# Creates or completes .venv, builds the native runtime, and prints the path of the Python in .venv as the only line on stdout.
# Called by ./demo and ./check.
#
# PYTHON=python3.12 chooses the interpreter (3.11 or 3.12). A stamp in .venv records what was installed from which files, so a
# second call installs nothing, and an interrupted one is resumed. Concurrent calls wait for each other.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
stamp="$venv/installed-from"

supported() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; }

choose_python() {
    local candidate
    for candidate in "$@"; do
        if supported "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "No Python 3.11 or 3.12 among: $*. Install one, or name it: PYTHON=/path/to/python3.11 $0" >&2
    return 1
}

fingerprint() { # of everything that affects .venv: the requirements, the versions, this script, Python and the folder
    { cat "$root/pyproject.toml" "$root/constraints.txt" "${BASH_SOURCE[0]}" && "$1" -VV && echo "$root"; } |
        sha256sum | cut -d' ' -f1
}

complete() { # complete only if the stamp, which is written last, matches
    [[ -x "$venv/bin/python" && -f "$stamp" && "$(cat "$stamp")" == "$(fingerprint "$venv/bin/python")" ]]
}

wanted_python() { # an existing .venv keeps its interpreter unless PYTHON has another version
    supported "$venv/bin/python" && [[ -z "${PYTHON:-}" || "$("$PYTHON" -VV)" == "$("$venv/bin/python" -VV)" ]]
}

install() {
    local python
    if ! wanted_python; then
        python="$(choose_python ${PYTHON:-python3.11 python3.12 python3})"
        echo "Creating .venv with $("$python" -V)" >&2
        if ! "$python" -m venv --clear "$venv" >&2; then
            echo "$python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2
            return 1
        fi
    fi
    echo "Installing the packages of constraints.txt into .venv (once; takes some minutes)" >&2
    local pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check install --constraint "$root/constraints.txt")
    # torch first, with its exact version, so that no later package chooses another.
    "${pip[@]}" torch==2.13.0 >&2
    # torchvision, which only tests use, was compiled against another build of torch and must not install that.
    "${pip[@]}" --no-deps torchvision >&2
    # Build tools; CMake and Ninja only if the system has none.
    local builders=(scikit-build-core nanobind)
    for tool in cmake ninja; do
        command -v "$tool" >/dev/null || builders+=("$tool")
    done
    "${pip[@]}" "${builders[@]}" >&2
    "${pip[@]}" --no-build-isolation --editable "$root[openvino,images,dev]" >&2
    fingerprint "$venv/bin/python" >"$stamp"
}

# This file itself is the lock, so no lock file is left behind; it is released when the process ends.
exec 9<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then
    flock 9
fi
if ! { wanted_python && complete; }; then
    install
fi
"$root/scripts/native.sh" "$venv/bin/python"
echo "$venv/bin/python"
