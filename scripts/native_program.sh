#!/usr/bin/env bash
# Builds one of the runtime's own programs and prints its path: scripts/native_program.sh NAME [FOLDER [CMAKE_ARGUMENT...]]
#
# NAME is selfcheck (whole graphs), fuzz (damaged graphs), trim_fuzz (damaged files), plan_test, kernel_test or kernel_bench;
# FOLDER, in build/, is the build folder (default tests). Concurrent calls wait for each other.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
name="$1" folder="$root/build/${2:-tests}"

exec 8<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then
    flock 8
fi
mkdir -p "$folder"
if ! {
    cmake -S "$root/native" -B "$folder" -G Ninja -DPARETRIM_PYTHON=OFF -DPARETRIM_STRICT=ON -DPARETRIM_SHARED=OFF \
        -DPARETRIM_TESTS=ON "${@:3}" &&
        cmake --build "$folder" --target "$name"
} >"$folder/log" 2>&1; then
    tail -n 40 "$folder/log" >&2
    exit 1
fi
echo "$folder/$name"
