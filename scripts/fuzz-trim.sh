#!/usr/bin/env bash
# Fuzzes the reader of .trim files with libFuzzer, address and undefined-behaviour sanitizers: scripts/fuzz-trim.sh [SECONDS]
#
# Starts from the kept corpus in tests/trimfile/corpus and finds go to build/fuzz; an input that breaks something is left there and
# the exit status is not 0. Needs clang++ with its runtime.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
seconds="${1:-60}"
build="$root/build/fuzz"
if ! command -v clang++ >/dev/null; then
    echo "clang++ is needed to fuzz; on Debian: apt-get install clang libclang-rt-dev" >&2
    exit 1
fi
mkdir -p "$build/corpus"
clang++ -std=c++17 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Werror \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -I "$root/native" "$root/native/fuzz/trim_fuzz.cpp" "$root"/native/trim/*.cpp "$root/native/graph/graph.cpp" \
    -pthread -o "$build/trim_fuzz"
cd "$build"
exec ./trim_fuzz -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    corpus "$root/tests/trimfile/corpus"
