#include "run/saved_choices.h"

#include <cstring>
#include <string_view>

#include "kernels/cpu.h"

namespace paretrim {
namespace {

constexpr std::string_view kernel_version = "3";  // increment when the meaning of a choice changes
constexpr char separator = '|';

// Like FNV-1a, on eight bytes at a time. A collision does no harm: a wrong choice is slow, never incorrect.
class Digest {
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (; size >= 8; bytes += 8, size -= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes, 8);
      mix(word);
    }
    std::uint64_t rest = size;
    for (std::size_t i = 0; i < size; ++i) rest = rest << 8U | bytes[i];
    mix(rest);
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::uint64_t value() const { return hash_; }

 private:
  void mix(std::uint64_t word) {
    hash_ = (hash_ ^ word) * 1099511628211ULL;
    hash_ ^= hash_ >> 29U;
  }
  std::uint64_t hash_ = 14695981039346656037ULL;
};

}  // namespace

std::string identity_of(const Graph& graph, const Kernels& kernels, bool of_weights) {
  Digest digest;
  for (const Node& node : graph.nodes) {
    digest.add(node.name);
    digest.add(name_of(node.op));
    for (const std::int64_t extent : node.type.shape) digest.add(&extent, sizeof extent);
    for (const auto& [name, tensor] : node.tensors) {
      digest.add(name);
      if (of_weights) digest.add(tensor.bytes.data(), tensor.bytes.size());
    }
  }
  return std::string(kernel_version) + ", " + kernels.name + ", " + cpu_name() + ", graph " + std::to_string(digest.value());
}

std::string joined_choices(const std::string& identity, const std::vector<std::string>& choices) {
  std::string joined = identity;
  for (const std::string& choice : choices) joined += separator + choice;
  return joined;
}

std::vector<std::string> choices_for(const std::string& identity, const std::string& saved) {
  if (saved.compare(0, identity.size(), identity) != 0) return {};
  std::vector<std::string> choices;
  std::string_view rest = std::string_view(saved).substr(identity.size());
  while (!rest.empty() && rest.front() == separator) {
    rest.remove_prefix(1);
    const std::string_view one = rest.substr(0, rest.find(separator));
    choices.emplace_back(one);
    rest.remove_prefix(one.size());
  }
  return rest.empty() ? choices : std::vector<std::string>{};
}

}  // namespace paretrim
