#!/usr/bin/env bash
# Fuzzes the reader of .trim files under the address and undefined-behaviour sanitizers: scripts/fuzz-trim.sh [SECONDS]
#
# Starts from the kept corpus in tests/trimfile/corpus and finds go to build/fuzz; an input that breaks something is left there and
# the exit status is not 0. With libFuzzer where clang++ has it, else with a driver of our own that damages files at random;
# FUZZ_DRIVER=own asks for that one.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
seconds="${1:-60}"
build="$root/build/fuzz"
mkdir -p "$build/corpus"

exec 8<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then
    flock 8
fi
cd "$build"
compile() { # COMPILER SANITIZERS SOURCES..
    local compiler="$1" sanitizers="$2"
    shift 2
    "$compiler" -std=c++17 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Werror \
        -fsanitize="$sanitizers" -fno-sanitize-recover=all -I "$root/native" "$@" "$root/native/fuzz/trim_fuzz.cpp" \
        "$root"/native/trim/*.cpp "$root"/native/graph/*.cpp -pthread -o trim_fuzz
}

if [[ "${FUZZ_DRIVER:-}" != own ]] && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined - -o probe 2>/dev/null; then
    compile clang++ fuzzer,address,undefined
    exec ./trim_fuzz -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        corpus "$root/tests/trimfile/corpus"
fi
compile "${CXX:-c++}" address,undefined "$root/native/fuzz/without_libfuzzer.cpp"
exec ./trim_fuzz "$seconds" "$root/tests/trimfile/corpus"
