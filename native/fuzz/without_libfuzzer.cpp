// A substitute for libFuzzer if the compiler has none. trim_fuzz SECONDS CORPUS.. runs the target on randomly damaged files of
// the corpus, without coverage feedback. An input that crashes is left in `crash-input`.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::size_t below(std::mt19937_64& random, std::size_t count) { return count ? random() % count : 0; }

void damage(Bytes& bytes, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  const std::size_t at = below(random, bytes.size());
  const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (random() % 7) {
    case 0:
      bytes.insert(place, static_cast<std::uint8_t>(random()));
      return;
    case 1:
      if (!bytes.empty()) bytes.erase(place);
      return;
    case 2:
      bytes.resize(at);
      return;
    case 3: {
      const Bytes& other = corpus[below(random, corpus.size())];
      const std::size_t from = below(random, other.size());
      bytes.resize(at);
      bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      return;
    }
    case 4:  // numbers are varints, and bytes of all ones make them large
      if (!bytes.empty()) bytes[at] = random() % 2 ? 0xff : 0x7f;
      return;
    case 5:
      if (!bytes.empty()) bytes[at] ^= static_cast<std::uint8_t>(1 << random() % 8);
      return;
    default:
      if (!bytes.empty()) bytes[at] = static_cast<std::uint8_t>(random());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  std::vector<Bytes> corpus;
  for (int i = 2; i < count; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(arguments[i])) corpus.push_back(read(entry.path()));
  }
  if (corpus.empty()) return 2;
  std::mt19937_64 random(std::strtoull(std::getenv("FUZZ_SEED") ? std::getenv("FUZZ_SEED") : "1", nullptr, 10));
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  // The time limit is for damaged files only: with sanitizers, the corpus itself takes seconds.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::strtol(arguments[1], nullptr, 10));
  unsigned long long runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    Bytes bytes = corpus[below(random, corpus.size())];
    for (std::size_t times = 1 + below(random, 4); times > 0; --times) damage(bytes, corpus, random);
    // Written before the run, because a crash leaves no chance afterwards.
    std::ofstream("crash-input", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::filesystem::remove("crash-input");
  std::printf("Done %llu runs\n", runs);
  return 0;
}
