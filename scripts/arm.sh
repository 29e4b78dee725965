#!/usr/bin/env bash
# Cross-compiles the native runtime for 64-bit Arm and runs its kernel test and self-check under emulation:
#     scripts/arm.sh [GRAPHS]
#
# The dot-product kernels must give the same bits as the plain ones, and both the same bits as on this machine. Needs, on Debian,
# g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
graphs="${1:-60}"
arm() {
    "$root/scripts/native_program.sh" "$1" arm -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_BUILD_TYPE=MinSizeRel
}
emulated() { qemu-aarch64 -cpu "$1" -L /usr/aarch64-linux-gnu "${@:2}"; }

# The build of native_tests.sh: every build gives the same bits.
here="$("$root/scripts/native_program.sh" selfcheck sanitized -DPARETRIM_SANITIZE=ON)"
there="$(arm selfcheck)"
emulated max "$(arm kernel_test)" 200 >/dev/null
expected="$("$here" "$graphs" 0 digest)"
found="$(emulated max "$there" "$graphs")"
if [[ "$found" != "$expected" ]]; then
    echo "the logits of $graphs graphs have the digest $found on Arm and $expected here" >&2
    exit 1
fi
# A CPU without the dot product must never enter its kernels.
plain="$(emulated cortex-a53 "$there" 3)"
[[ "$plain" == "$("$here" 3 0 digest)" ]]
echo "$graphs graphs have the same bits on Arm as here"
