#!/usr/bin/env bash
# The native runtime under the address and undefined-behaviour sanitizers: random graphs in every instruction set, damaged graphs,
# and that no file of one instruction set leaks code into the others. About a minute: scripts/native_tests.sh [GRAPHS]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
graphs="${1:-60}"
build="$root/build/sanitized"

mkdir -p "$build"
if ! {
    cmake -S "$root/native" -B "$build" -G Ninja -DPARETRIM_PYTHON=OFF -DPARETRIM_STRICT=ON -DPARETRIM_SHARED=OFF \
        -DPARETRIM_TESTS=ON -DPARETRIM_SANITIZE=ON && cmake --build "$build"
} >"$build/log" 2>&1; then
    tail -n 40 "$build/log" >&2
    exit 1
fi

# A function that the linker may take from several files would, taken from one of these, run on CPUs that lack its instructions.
# Without optimization nothing is inlined, and what could leak does.
plain="$root/build/unoptimized"
cmake -S "$root/native" -B "$plain" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DPARETRIM_PYTHON=OFF -DPARETRIM_SHARED=OFF >"$build/log"
cmake --build "$plain" >>"$build/log"
for object in "$root"/build/{native,unoptimized}/CMakeFiles/paretrim_native.dir/kernels/isa_*.o; do
    case "$object" in *isa_plain*) continue ;; esac
    if leaked="$(nm --defined-only -C "$object" | grep -E '^[0-9a-f]+ [WVuw] ' | grep -v ' DW.ref.__gxx_personality')"; then
        printf '%s defines what other files may be given:\n%s\n' "$(basename "$object")" "$leaked" >&2
        exit 1
    fi
done

export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
"$build/selfcheck" "$graphs"
"$build/fuzz" $((20 * graphs))
