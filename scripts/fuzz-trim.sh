#!/usr/bin/env bash
# Fuzzes the reader of .trim files under the address and undefined-behaviour sanitizers: scripts/fuzz-trim.sh [SECONDS]
#
# Starts from the corpus in tests/trimfile/corpus and writes new inputs to build/fuzz. If an input breaks something, it is left
# there and the exit status is not 0. Uses libFuzzer if clang++ has it, else our own driver, which damages files at random;
# FUZZ_DRIVER=own forces our own driver.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
seconds="${1:-60}"
place="$root/build/fuzz"
mkdir -p "$place/corpus"

exec 8<"${BASH_SOURCE[0]}"
if command -v flock >/dev/null; then
    flock 8
fi
cd "$place"
if [[ "${FUZZ_DRIVER:-}" != own ]] && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined - -o probe 2>/dev/null; then
    fuzzer="$("$root/scripts/native_program.sh" trim_fuzz libfuzzer -DPARETRIM_SANITIZE=ON -DPARETRIM_LIBFUZZER=ON \
        -DCMAKE_CXX_COMPILER=clang++)"
    exec "$fuzzer" -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        corpus "$root/tests/trimfile/corpus"
fi
exec "$("$root/scripts/native_program.sh" trim_fuzz sanitized -DPARETRIM_SANITIZE=ON)" "$seconds" "$root/tests/trimfile/corpus"
