// A second device for PyTorch that is host memory: tensors on it have a device of their own, and every kernel is the CPU's.
//
// Machines without a GPU run the tests. Here code that forgets to move a tensor fails as it does on a GPU: operands of two
// devices in one call are refused (a CPU tensor without dimensions and CPU indices are let through, as CUDA does), and NumPy
// sees no values. What is moved rightly gives the CPU's numbers, so whole runs can be compared.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <cstdlib>
#include <cstring>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(KIND, 0);
const c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

// ---- what PyTorch asks of a device: memory, a guard, hooks

struct Memory final : c10::Allocator {
    c10::DataPtr allocate(size_t bytes) override {
        void* start = bytes ? std::malloc(bytes) : nullptr;
        return {start, start, &std::free, DEVICE};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
} memory;
REGISTER_ALLOCATOR(KIND, &memory);

struct Guard final : c10::impl::NoOpDeviceGuardImpl<KIND> {
    c10::Device getDevice() const override { return DEVICE; }
    c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
    c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, DEVICE); }
    bool queryStream(const c10::Stream&) const override { return true; }
    void synchronizeStream(const c10::Stream&) const override {}
    void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
    void block(void*, const c10::Stream&) const override {}
    bool queryEvent(void*) const override { return true; }
    void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
} hooks;

// ---- the same numbers on the other side

// The tensor's own memory as a CPU tensor: what a kernel writes there is in the tensor.
at::Tensor host(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_privateuseone()) return tensor;
    return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

std::optional<at::Tensor> host(const std::optional<at::Tensor>& tensor) {
    return tensor ? std::optional(host(*tensor)) : std::nullopt;
}

// A copy of a CPU tensor on the device.
at::Tensor moved(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    auto result = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(DEVICE));
    host(result).copy_(tensor);
    return result;
}

// ---- every operation

bool takes_indices_of_any_device(const std::string& name) {
    return name == "aten::index" || name == "aten::index_put" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
}

// Refuses operands of two devices.
void require_one_device(const std::string& name, c10::ArrayRef<c10::IValue> arguments) {
    bool here = false, elsewhere = false;
    const auto look = [&](const at::Tensor& tensor) {
        if (!tensor.defined()) return;
        here |= tensor.is_privateuseone();
        elsewhere |= !tensor.is_privateuseone() && tensor.dim() > 0;
    };
    for (const auto& argument : arguments) {
        if (argument.isTensor()) look(argument.toTensor());
        if (argument.isTensorList() || (argument.isList() && !takes_indices_of_any_device(name)))
            for (const auto& part : argument.toListRef())
                if (part.isTensor()) look(part.toTensor());
    }
    TORCH_CHECK(!(here && elsewhere), name, ": all tensors must be on one device; found ", DEVICE, " and cpu");
}

void to_host(c10::IValue& argument) {
    if (argument.isTensor()) {
        argument = host(argument.toTensor());
    } else if (argument.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const auto& tensor : argument.toTensorVector()) list.push_back(host(tensor));
        argument = list;
    } else if (argument.isList() && argument.toList().elementType()->kind() == c10::TypeKind::OptionalType) {
        c10::List<std::optional<at::Tensor>> list;
        for (const auto& part : argument.toListRef()) list.push_back(part.toOptional<at::Tensor>());
        for (size_t i = 0; i < list.size(); i++) list[i] = host(list.get(i));
        argument = list;
    } else if (argument.isDevice()) {
        argument = c10::Device(at::kCPU);
    }
}

// What the call returns: the argument that it wrote to, or a result of its own.
c10::IValue returned(const c10::IValue& result, const c10::Argument& as, const c10::FunctionSchema& schema,
                     const std::vector<c10::IValue>& arguments) {
    if (result.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const auto& tensor : result.toTensorVector()) list.push_back(moved(tensor));
        return list;
    }
    if (!result.isTensor()) return result;
    if (as.alias_info() == nullptr) return moved(result.toTensor());
    TORCH_CHECK(as.alias_info()->isWrite(), schema.name(), " returns a view; register a kernel for it in second_device.cpp");
    for (size_t i = 0; i < arguments.size(); i++) {
        const auto* alias = schema.arguments()[i].alias_info();
        if (alias != nullptr && *alias == *as.alias_info()) return arguments[i];
    }
    TORCH_CHECK(false, schema.name(), " writes to none of its arguments");
}

void on_the_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
    const auto& schema = operation.schema();
    const auto arguments = torch::jit::last(*stack, schema.arguments().size()).vec();
    require_one_device(schema.name(), arguments);
    for (const auto& argument : schema.arguments())
        if (argument.is_out()) return at::native::cpu_fallback(operation, stack); // may be resized, which borrowed memory can't
    for (size_t i = stack->size() - arguments.size(); i < stack->size(); i++) to_host((*stack)[i]);
    operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    const auto& returns = schema.returns();
    for (size_t i = 0; i < returns.size(); i++) {
        auto& result = (*stack)[stack->size() - returns.size() + i];
        result = returned(result, returns[i], schema, arguments);
    }
}

// ---- what has no CPU form, or must not go through it

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
                 std::optional<bool>, std::optional<at::MemoryFormat> format) {
    return at::detail::empty_generic(size, &memory, KEYS, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
    return at::detail::empty_strided_generic(size, stride, &memory, KEYS, c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
    at::native::resize_impl_cpu_(self.unsafeGetTensorImpl(), C10_AS_INTARRAYREF_SLOW(size), std::nullopt); // asks our allocator
    return self;
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target, bool) {
    host(target).copy_(host(source));
    return target;
}

at::Tensor copy_of_that_size(const at::Tensor& source, const at::Tensor& target) {
    return copy_from(source, target.sizes() == source.sizes() ? target : target.resize_(source.sizes()), false);
}

at::Scalar value(const at::Tensor& tensor) { return at::_local_scalar_dense(host(tensor)); }

at::Tensor& set_storage(at::Tensor& self, at::Storage storage, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
    return at::native::set_storage_cpu_(self, std::move(storage), offset, size, stride);
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage storage) {
    const auto count = static_cast<int64_t>(storage.nbytes() / self.dtype().itemsize());
    return set_storage(self, std::move(storage), 0, {count}, {1});
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
    require_one_device("aten::convolution", {x, weight, bias.value_or(at::Tensor())});
    const auto there = host(bias);
    return moved(at::convolution(host(x), host(weight), there, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight, c10::IntArrayRef stride, c10::IntArrayRef padding,
    c10::IntArrayRef dilation, bool transposed, c10::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
    const int64_t outputs[] = {weight.size(0)};
    const auto [to_x, to_weight, to_bias] =
        at::convolution_backward(host(gradient), host(x), host(weight), c10::IntArrayRef(outputs), stride, padding, dilation,
                                 transposed, output_padding, groups, wanted);
    return {moved(to_x), moved(to_weight), moved(to_bias)};
}

} // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
    library.impl("empty.memory_format", empty);
    library.impl("empty_strided", empty_strided);
    library.impl("resize_", resize);
    library.impl("_copy_from", copy_from);
    library.impl("_copy_from_and_resize", copy_of_that_size);
    library.impl("_local_scalar_dense", value);
    library.impl("as_strided", at::native::as_strided_tensorimpl);
    library.impl("view", at::native::view);
    library.impl("_reshape_alias", at::native::_reshape_alias);
    library.impl("set_.source_Storage", set_whole_storage);
    library.impl("set_.source_Storage_storage_offset", set_storage);
    library.impl("convolution_overrideable", convolution);
    library.impl("convolution_backward_overrideable", convolution_backward);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { at::RegisterPrivateUse1HooksInterface(&hooks); }
