// The custom operator `paretrim.Network` for ONNX Runtime: a .trim file as one node. An application registers this library and
// runs the ONNX file that `paretrim export --native` writes. Attributes: `file`, the bytes of the .trim file, and `threads`.
// Input: images [N, C, H, W], uint8 pixels or float32, as the network takes. Outputs: those of the network, float32 [N, ...].
#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "onnxruntime/ort_abi.h"
#include "run/network.h"
#include "threads/forks.h"
#include "trim/reader.h"
#include "types/error.h"

namespace paretrim::ort {
namespace {

// Carries a failed status of an ONNX Runtime call as a C++ exception.
struct Refusal {
  Status* status;
};

void require(Status* status) {
  if (status != nullptr) throw Refusal{status};
}

ErrorCode code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::corrupt_file:
      return invalid_graph;
    case ErrorKind::unsupported_operation:
      return not_implemented;
    case ErrorKind::data_unavailable:
      return invalid_argument;
  }
  return fail;
}

// Converts every exception to a status: ONNX Runtime may be built by another compiler, or without exceptions.
template <typename Work>
Status* guarded(const Api& api, const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const Refusal& refusal) {
    return refusal.status;
  } catch (const Error& error) {
    return api.CreateStatus(code_of(error.kind), error.what());
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(fail, "paretrim.Network: out of memory");
  } catch (const std::exception& error) {
    return api.CreateStatus(fail, error.what());
  } catch (...) {
    return api.CreateStatus(fail, "paretrim.Network: unknown error");
  }
}

[[noreturn]] void refuse(ErrorKind kind, const std::string& why) { throw Error(kind, "paretrim.Network: " + why); }

// A missing attribute or one of the wrong type means a corrupt file, whatever code ONNX Runtime reports.
void require_attribute(const Api& api, Status* status, const char* name) {
  if (status == nullptr) return;
  const std::string words = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  refuse(ErrorKind::corrupt_file, "attribute '" + std::string(name) + "' cannot be read (" + words +
                                      "); a node has the string 'file' and the integer 'threads'; write it with paretrim export");
}

std::vector<char> file_of(const Api& api, const KernelInfo* info) {
  std::size_t size = 0;  // includes the terminating zero of a C string, which is not part of the file
  require_attribute(api, api.KernelInfoGetAttribute_string(info, "file", nullptr, &size), "file");
  std::vector<char> bytes(std::max<std::size_t>(size, 1));
  require_attribute(api, api.KernelInfoGetAttribute_string(info, "file", bytes.data(), &size), "file");
  bytes.pop_back();
  return bytes;
}

int threads_of(const Api& api, const KernelInfo* info) {
  std::int64_t threads = 0;
  require_attribute(api, api.KernelInfoGetAttribute_int64(info, "threads", &threads), "threads");
  // Keeps values that do not fit an int out of range, so that Network refuses them too.
  return static_cast<int>(std::clamp<std::int64_t>(threads, -1, std::int64_t{1} << 30));
}

std::unique_ptr<Network> network_of(const Api& api, const KernelInfo* info) {
  const std::vector<char> file = file_of(api, info);
  Settings settings;
  settings.threads = threads_of(api, info);
  // Network checks the number of threads and throws; decoding only needs a usable number.
  const int readers = std::clamp(settings.threads, 1, max_readers);
  try {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(file.data());
    const double limit = usual_limit();
    settings.measured_work = measured_work(file.size(), limit);
    return std::make_unique<Network>(read_trim(bytes, file.size(), {readers, limit, true, {}}), settings);
  } catch (const Error& error) {
    refuse(error.kind, error.what());
  }
}

// The kernel of one node in a session. All threads that call the session share it.
struct Kernel {
  const Api& api;
  std::unique_ptr<Network> network;
};

std::string text_of(const std::vector<std::int64_t>& sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

// Number of images; throws if they do not match the network's input. ONNX Runtime's tensors are always contiguous.
std::int64_t count_of(const Kernel& kernel, const Value* images) {
  const Api& api = kernel.api;
  TensorTypeAndShapeInfo* info = nullptr;
  require(api.GetTensorTypeAndShape(images, &info));
  const std::unique_ptr<TensorTypeAndShapeInfo, void (*)(TensorTypeAndShapeInfo*)> owner(info, api.ReleaseTensorTypeAndShapeInfo);
  ElementType type = undefined;
  std::size_t dimensions = 0;
  require(api.GetTensorElementType(info, &type));
  require(api.GetDimensionsCount(info, &dimensions));
  std::vector<std::int64_t> sizes(dimensions);
  require(api.GetDimensions(info, sizes.data(), dimensions));

  const InputSpec& input = kernel.network->input();
  const bool fits = sizes.size() == 4 && std::equal(input.shape.begin(), input.shape.end(), sizes.begin() + 1, sizes.end());
  if (!fits || type != (input.takes_pixels() ? uint8 : float32)) {
    const std::string given = type == uint8 ? "uint8" : type == float32 ? "float32" : "of ONNX type " + std::to_string(type);
    refuse(ErrorKind::data_unavailable, "images are " + given + " " + text_of(sizes) + "; the network takes " +
                                            (input.takes_pixels() ? "uint8 pixels" : "normalised float32") + " [N, " +
                                            text_of(input.shape).substr(1));
  }
  return sizes[0];
}

void compute(const Kernel& kernel, KernelContext* context) {
  const Api& api = kernel.api;
  const Value* images = nullptr;
  require(api.KernelContext_GetInput(context, 0, &images));
  const std::int64_t count = count_of(kernel, images);
  void* from = nullptr;
  require(api.GetTensorMutableData(const_cast<Value*>(images), &from));  // the API has no const version
  std::vector<float*> outputs;
  for (const Output& output : kernel.network->outputs()) {
    std::vector<std::int64_t> sizes{count};
    sizes.insert(sizes.end(), output.shape.begin(), output.shape.end());
    Value* values = nullptr;
    require(api.KernelContext_GetOutput(context, outputs.size(), sizes.data(), sizes.size(), &values));
    if (values == nullptr)
      refuse(ErrorKind::corrupt_file,
             "the node does not name the output '" + output.name + "'; write the file with paretrim export");
    void* to = nullptr;
    require(api.GetTensorMutableData(values, &to));
    outputs.push_back(static_cast<float*>(to));
  }
  if (count == 0) return;
  try {
    kernel.network->run(from, count, outputs.data());
  } catch (const Error& error) {
    refuse(error.kind, error.what());
  }
}

CustomOp make_operator() {
  CustomOp op{};
  op.version = api_version;
  op.GetName = [](const CustomOp*) { return "Network"; };
  op.GetExecutionProviderType = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU
  op.GetInputTypeCount = op.GetOutputTypeCount = [](const CustomOp*) -> std::size_t { return 1; };
  op.GetInputType = [](const CustomOp*, std::size_t) { return undefined; };  // uint8 or float32, depending on the file
  op.GetOutputType = [](const CustomOp*, std::size_t) { return float32; };
  op.GetInputCharacteristic = [](const CustomOp*, std::size_t) { return required; };
  op.GetOutputCharacteristic = [](const CustomOp*, std::size_t) { return variadic; };
  op.GetVariadicOutputMinArity = op.GetVariadicOutputHomogeneity = [](const CustomOp*) { return 1; };
  op.GetInputMemoryType = [](const CustomOp*, std::size_t) { return default_memory; };
  op.CreateKernelV2 = [](const CustomOp*, const Api* api, const KernelInfo* info, void** kernel) {
    return guarded(*api, [&] { *kernel = std::make_unique<Kernel>(Kernel{*api, network_of(*api, info)}).release(); });
  };
  op.KernelComputeV2 = [](void* kernel, KernelContext* context) {
    const Kernel& own = *static_cast<const Kernel*>(kernel);
    return guarded(own.api, [&] { compute(own, context); });
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  return op;
}

using Domain = std::unique_ptr<CustomOpDomain, void (*)(CustomOpDomain*)>;

// Sessions use the operator and its domains throughout their lifetime, possibly until the process ends, so they are never
// released.
const CustomOp network = make_operator();
std::vector<Domain>& domains = *new std::vector<Domain>;  // guarded by brief_mutex()

void add_to(const Api& api, SessionOptions* options) {
  CustomOpDomain* made = nullptr;
  require(api.CreateCustomOpDomain("paretrim", &made));
  Domain domain(made, api.ReleaseCustomOpDomain);
  require(api.CustomOpDomain_Add(domain.get(), &network));
  {
    const std::lock_guard<std::mutex> lock(brief_mutex());
    domains.push_back(std::move(domain));  // first, so that nothing can fail after the options hold it
  }
  require(api.AddCustomOpDomain(options, made));
}

Status* too_old(const ApiBase& base) noexcept {
  const Api* oldest = base.GetApi(1);  // every release has it
  if (oldest == nullptr) return nullptr;
  return guarded(*oldest, [&] {
    refuse(ErrorKind::unsupported_operation, "this is ONNX Runtime " + std::string(base.GetVersionString()) +
                                                 "; the operator needs " + first_release + " or later");
  });
}

}  // namespace
}  // namespace paretrim::ort

// The entry point that ONNX Runtime looks up in a custom operator library.
extern "C" __attribute__((visibility("default"))) paretrim::ort::Status* RegisterCustomOps(paretrim::ort::SessionOptions* options,
                                                                                           const paretrim::ort::ApiBase* base) {
  const paretrim::ort::Api* api = base->GetApi(paretrim::ort::api_version);
  if (api == nullptr) return paretrim::ort::too_old(*base);
  return paretrim::ort::guarded(*api, [&] { paretrim::ort::add_to(*api, options); });
}
