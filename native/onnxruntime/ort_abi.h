// The part of ONNX Runtime's ABI that a custom operator needs, declared by hand (decision 40). It relies on two guarantees: the
// table of functions only grows at its end, so the functions below have had their places since version 1; and ONNX Runtime reads
// the fields of OrtCustomOp only up to its `version`. Functions that are not called are counted, not declared. Only C types:
// nothing is linked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paretrim::ort {

// The first API version in which an operator can report failure by a status (ONNX Runtime 1.16). Later versions accept it too.
inline constexpr std::uint32_t api_version = 16;
inline constexpr const char* first_release = "1.16";

struct Status;  // null is success
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorTypeAndShapeInfo;
struct CustomOp;

// C enumerations have the size of an int.
enum ErrorCode : int { fail = 1, invalid_argument = 2, not_implemented = 9, invalid_graph = 10 };
enum ElementType : int { undefined = 0, float32 = 1, uint8 = 2 };  // undefined: the operator accepts any type
enum Characteristic : int { required = 0, variadic = 2 };          // of an input or output
enum MemoryType : int { default_memory = 0 };

// NOLINTBEGIN: these are ONNX Runtime's names, so that they can be looked up.
struct Api {
  Status* (*CreateStatus)(ErrorCode code, const char* message);  // 0
  const void* from_1[1];
  const char* (*GetErrorMessage)(const Status* status);  // 2
  const void* from_3[23];
  Status* (*CreateCustomOpDomain)(const char* name, CustomOpDomain** domain);     // 26
  Status* (*CustomOpDomain_Add)(CustomOpDomain* domain, const CustomOp* op);      // 27
  Status* (*AddCustomOpDomain)(SessionOptions* options, CustomOpDomain* domain);  // 28
  const void* from_29[22];
  Status* (*GetTensorMutableData)(Value* value, void** data);  // 51
  const void* from_52[8];
  Status* (*GetTensorElementType)(const TensorTypeAndShapeInfo* info, ElementType* type);                // 60
  Status* (*GetDimensionsCount)(const TensorTypeAndShapeInfo* info, std::size_t* count);                 // 61
  Status* (*GetDimensions)(const TensorTypeAndShapeInfo* info, std::int64_t* sizes, std::size_t count);  // 62
  const void* from_63[2];
  Status* (*GetTensorTypeAndShape)(const Value* value, TensorTypeAndShapeInfo** info);  // 65
  const void* from_66[20];
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo* info, const char* name, std::int64_t* value);            // 86
  Status* (*KernelInfoGetAttribute_string)(const KernelInfo* info, const char* name, char* out, std::size_t* size);  // 87
  const void* from_88[2];
  Status* (*KernelContext_GetInput)(const KernelContext* context, std::size_t index, const Value** value);  // 90
  Status* (*KernelContext_GetOutput)(KernelContext* context, std::size_t index, const std::int64_t* sizes, std::size_t dimensions,
                                     Value** value);  // 91
  const void* from_92[1];
  void (*ReleaseStatus)(Status* status);  // 93
  const void* from_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorTypeAndShapeInfo* info);  // 99
  const void* from_100[1];
  void (*ReleaseCustomOpDomain)(CustomOpDomain* domain);  // 101, the last of version 1
};

struct ApiBase {
  const Api* (*GetApi)(std::uint32_t version);  // null if the version is not supported
  const char* (*GetVersionString)();
};

// The fields of version 16, up to KernelComputeV2. Later fields are not read at that version. The two V2 functions replace
// CreateKernel and KernelCompute, which can only report failure by an exception. ONNX Runtime calls the four variadic functions
// only for variadic inputs and outputs.
struct CustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const CustomOp* op, const Api* api, const KernelInfo* info);
  const char* (*GetName)(const CustomOp* op);
  const char* (*GetExecutionProviderType)(const CustomOp* op);
  ElementType (*GetInputType)(const CustomOp* op, std::size_t index);
  std::size_t (*GetInputTypeCount)(const CustomOp* op);
  ElementType (*GetOutputType)(const CustomOp* op, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const CustomOp* op);
  void (*KernelCompute)(void* kernel, KernelContext* context);
  void (*KernelDestroy)(void* kernel);
  Characteristic (*GetInputCharacteristic)(const CustomOp* op, std::size_t index);
  Characteristic (*GetOutputCharacteristic)(const CustomOp* op, std::size_t index);
  MemoryType (*GetInputMemoryType)(const CustomOp* op, std::size_t index);
  int (*GetVariadicInputMinArity)(const CustomOp* op);
  int (*GetVariadicInputHomogeneity)(const CustomOp* op);
  int (*GetVariadicOutputMinArity)(const CustomOp* op);
  int (*GetVariadicOutputHomogeneity)(const CustomOp* op);
  Status* (*CreateKernelV2)(const CustomOp* op, const Api* api, const KernelInfo* info, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext* context);
};
// NOLINTEND

static_assert(offsetof(Api, AddCustomOpDomain) == 28 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, GetTensorMutableData) == 51 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, GetTensorElementType) == 60 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, GetTensorTypeAndShape) == 65 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, KernelInfoGetAttribute_int64) == 86 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, KernelContext_GetInput) == 90 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, ReleaseStatus) == 93 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, ReleaseTensorTypeAndShapeInfo) == 99 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(Api, ReleaseCustomOpDomain) == 101 * sizeof(void*), "the table of ONNX Runtime is miscounted");
static_assert(offsetof(CustomOp, KernelComputeV2) == 18 * sizeof(void*), "the description of an operator has lost a field");

}  // namespace paretrim::ort
