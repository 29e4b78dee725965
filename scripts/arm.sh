#!/usr/bin/env bash
# Cross-compiles the native runtime for 64-bit Arm and runs its self-check under emulation: scripts/arm.sh [GRAPHS]
#
# The dot-product kernels must give the bits of the plain ones, and both the bits that this machine gives. Needs, on Debian,
# g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
graphs="${1:-60}"
here="$root/build/tests" there="$root/build/arm"

built() { # FOLDER, then what cmake is told
    local folder="$1"
    shift
    mkdir -p "$folder"
    if ! {
        cmake -S "$root/native" -B "$folder" -G Ninja -DPARETRIM_PYTHON=OFF -DPARETRIM_STRICT=ON -DPARETRIM_SHARED=OFF \
            -DPARETRIM_TESTS=ON "$@" &&
            cmake --build "$folder"
    } >"$folder/log" 2>&1; then
        tail -n 40 "$folder/log" >&2
        return 1
    fi
}

built "$here"
built "$there" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
expected="$("$here/selfcheck" "$graphs")"
found="$(qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$there/selfcheck" "$graphs")"
if [[ "$found" != "$expected" ]]; then
    echo "the logits of $graphs graphs have the digest $found on Arm and $expected here" >&2
    exit 1
fi
# A CPU without the dot product must never enter its kernels.
plain="$(qemu-aarch64 -cpu cortex-a53 -L /usr/aarch64-linux-gnu "$there/selfcheck" 3)"
[[ "$plain" == "$("$here/selfcheck" 3)" ]]
echo "$graphs graphs have the same bits on Arm as here"
