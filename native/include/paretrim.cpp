// The C API. Every exception is caught here and becomes a status and a message.
#include "paretrim.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "run/network.h"
#include "trim/reader.h"
#include "types/error.h"

struct paretrim_network {
  paretrim::Network network;
  std::string instruction_set;
};

namespace {

constexpr std::int64_t largest_file = std::int64_t{1} << 32;

thread_local std::string last_error;

paretrim_status status_of(paretrim::ErrorKind kind) {
  switch (kind) {
    case paretrim::ErrorKind::corrupt_file:
      return PARETRIM_CORRUPT_FILE;
    case paretrim::ErrorKind::unsupported_operation:
      return PARETRIM_UNSUPPORTED_OPERATION;
    case paretrim::ErrorKind::data_unavailable:
      return PARETRIM_DATA_UNAVAILABLE;
  }
  return PARETRIM_FAILED;
}

paretrim_status failed(paretrim_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

template <typename Work>
paretrim_status guarded(const Work& work) noexcept {
  try {
    last_error.clear();
    work();
    return PARETRIM_OK;
  } catch (const paretrim::Error& error) {
    return failed(status_of(error.kind), error.what());
  } catch (const std::bad_alloc&) {
    return failed(PARETRIM_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(PARETRIM_FAILED, error.what());
  } catch (...) {
    return failed(PARETRIM_FAILED, "unknown error");
  }
}

[[noreturn]] void refuse(const std::string& why) { throw paretrim::Error(paretrim::ErrorKind::data_unavailable, why); }

void require_images(const paretrim_network* network, std::int64_t count) {
  if (network == nullptr) refuse("network is NULL; load a file first");
  if (count < 0) refuse("count is " + std::to_string(count) + "; it must be 0 or more");
}

paretrim_network* planned(const std::uint8_t* bytes, std::size_t size, std::int32_t threads, double limit) {
  if (!(limit > 0)) refuse("limit is " + std::to_string(limit) + "; it must be above 0");
  paretrim::Settings settings;
  settings.threads = threads;
  settings.measured_work = paretrim::measured_work(size, limit);
  // Network checks the number of threads and throws; decoding only needs a usable number.
  const paretrim::ReadSettings reading = {std::clamp(threads, 1, paretrim::max_readers), limit, true, {}};
  auto network =
      std::unique_ptr<paretrim_network>(new paretrim_network{{paretrim::read_trim(bytes, size, reading), settings}, {}});
  network->instruction_set = network->network.instruction_set();
  return network.release();
}

std::vector<std::uint8_t> content_of(const char* path) {
  const auto cannot = [path](const std::string& why) {
    throw paretrim::Error(paretrim::ErrorKind::corrupt_file, "'" + std::string(path) + "' " + why);
  };
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) cannot("cannot be read; check the path");
  const auto size = static_cast<std::int64_t>(file.tellg());
  if (size < 0 || size > largest_file)
    cannot("is not a file of at most " + std::to_string(largest_file) + " bytes; give a .trim file");
  std::vector<std::uint8_t> content(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(size)))
    cannot("cannot be read; check the disk");
  return content;
}

}  // namespace

const char* paretrim_version(void) { return PARETRIM_VERSION; }

const char* paretrim_last_error(void) { return last_error.c_str(); }

paretrim_network* paretrim_load_bytes(const void* bytes, size_t size, int32_t threads) {
  double limit = 1;
  if (guarded([&] { limit = paretrim::usual_limit(); }) != PARETRIM_OK) return nullptr;
  return paretrim_load_bytes_limit(bytes, size, threads, limit);
}

paretrim_network* paretrim_load_bytes_limit(const void* bytes, size_t size, int32_t threads, double limit) {
  paretrim_network* network = nullptr;
  guarded([&] {
    if (bytes == nullptr) refuse("bytes is NULL; give the content of a .trim file");
    network = planned(static_cast<const std::uint8_t*>(bytes), size, threads, limit);
  });
  return network;
}

paretrim_network* paretrim_load_file(const char* path, int32_t threads) {
  double limit = 1;
  if (guarded([&] { limit = paretrim::usual_limit(); }) != PARETRIM_OK) return nullptr;
  return paretrim_load_file_limit(path, threads, limit);
}

paretrim_network* paretrim_load_file_limit(const char* path, int32_t threads, double limit) {
  paretrim_network* network = nullptr;
  guarded([&] {
    if (path == nullptr) refuse("path is NULL; give the path of a .trim file");
    const std::vector<std::uint8_t> content = content_of(path);
    network = planned(content.data(), content.size(), threads, limit);
  });
  return network;
}

paretrim_status paretrim_describe(const paretrim_network* network, paretrim_info* info) {
  return guarded([&] {
    if (network == nullptr || info == nullptr) refuse("network or info is NULL; give both");
    const paretrim::InputSpec& input = network->network.input();
    info->channels = input.shape[0];
    info->height = input.shape[1];
    info->width = input.shape[2];
    info->classes = network->network.outputs()[0].size;
    info->takes_pixels = input.takes_pixels() ? 1 : 0;
    info->threads = network->network.threads();
    info->instruction_set = network->instruction_set.c_str();
  });
}

const char* paretrim_class_name(const paretrim_network* network, int64_t index) {
  if (network == nullptr) return nullptr;
  const std::vector<std::string>& names = network->network.class_names();
  if (index < 0 || index >= static_cast<std::int64_t>(names.size())) return nullptr;
  return names[static_cast<std::size_t>(index)].c_str();
}

int64_t paretrim_output_count(const paretrim_network* network) {
  return network == nullptr ? 0 : static_cast<int64_t>(network->network.outputs().size());
}

paretrim_status paretrim_describe_output(const paretrim_network* network, int64_t index, paretrim_output* output) {
  return guarded([&] {
    if (network == nullptr || output == nullptr) refuse("network or output is NULL; give both");
    const std::vector<paretrim::Output>& outputs = network->network.outputs();
    if (index < 0 || index >= static_cast<std::int64_t>(outputs.size())) {
      refuse("index is " + std::to_string(index) + "; the network has " + std::to_string(outputs.size()) + " outputs, from 0");
    }
    const paretrim::Output& found = outputs[static_cast<std::size_t>(index)];
    *output = {found.name.c_str(), found.shape.data(), static_cast<std::int64_t>(found.shape.size()), found.size};
  });
}

paretrim_status paretrim_run(const paretrim_network* network, const void* images, int64_t count, float* logits) {
  return guarded([&] {
    require_images(network, count);
    const std::size_t outputs = network->network.outputs().size();
    if (outputs != 1) refuse("the network has " + std::to_string(outputs) + " outputs; call paretrim_run_outputs");
    if (count == 0) return;
    if (images == nullptr || logits == nullptr) refuse("images or logits is NULL; give both");
    network->network.run(images, count, &logits);
  });
}

paretrim_status paretrim_run_outputs(const paretrim_network* network, const void* images, int64_t count, float* const* outputs) {
  return guarded([&] {
    require_images(network, count);
    if (count == 0) return;
    if (images == nullptr || outputs == nullptr) refuse("images or outputs is NULL; give both");
    for (std::size_t i = 0; i < network->network.outputs().size(); ++i) {
      if (outputs[i] == nullptr) refuse("outputs[" + std::to_string(i) + "] is NULL; give room for every output");
    }
    network->network.run(images, count, outputs);
  });
}

void paretrim_free(paretrim_network* network) { delete network; }
