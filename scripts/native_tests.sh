#!/usr/bin/env bash
# Tests the native runtime under the address and undefined-behaviour sanitizers: single kernels, packed weights and steps, random
# graphs in every instruction set, damaged graphs, and that no file of one instruction set leaks code into the others. Takes about
# a minute: scripts/native_tests.sh [GRAPHS]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
graphs="${1:-60}"
sanitized() { "$root/scripts/native_program.sh" "$1" sanitized -DPARETRIM_SANITIZE=ON; }
kernel_test="$(sanitized kernel_test)" plan_test="$(sanitized plan_test)"
selfcheck="$(sanitized selfcheck)" fuzz="$(sanitized fuzz)"

# If the linker could take a function from several files, it might take it from one of these, and it would then run on CPUs that
# lack its instructions. Without optimization nothing is inlined, so every function that could leak does.
"$root/scripts/native_program.sh" paretrim_kernels unoptimized -DCMAKE_BUILD_TYPE=Debug >/dev/null
"$root/scripts/native_program.sh" paretrim_kernels tests >/dev/null
for object in "$root"/build/{tests,unoptimized}/CMakeFiles/paretrim_kernels.dir/kernels/isa_*.o; do
    case "$object" in *isa_plain*) continue ;; esac
    if leaked="$(nm --defined-only -C "$object" | grep -E '^[0-9a-f]+ [WVuw] ' | grep -v ' DW.ref.__gxx_personality')"; then
        printf '%s defines functions that the linker may use for other files:\n%s\n' "$(basename "$object")" "$leaked" >&2
        exit 1
    fi
done

export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
"$kernel_test" 300 >/dev/null
"$plan_test"
"$selfcheck" "$graphs"
"$fuzz" $((20 * graphs))
