// The members that a vector type V must have, checked at compile time before tiles.inl uses them. isa_plain.cpp is the simplest
// example. Included inside the namespace of one instruction set. Vector register types are never template arguments, because GCC
// warns that they lose their attributes there.

template <typename T>
typename T::Sum& a_sum();
template <typename T>
typename T::Pixels& some_pixels();
template <typename T>
typename T::Weights& some_weights();
template <typename T>
typename T::Floats& some_floats();
template <typename T>
typename T::Bytes& some_bytes();
constexpr const std::uint8_t* from_bytes = nullptr;
constexpr std::uint8_t* to_bytes = nullptr;
constexpr const std::int32_t* from_sums = nullptr;
constexpr std::int32_t* to_sums = nullptr;
constexpr const std::uint32_t* from_words = nullptr;
constexpr const float* from_floats = nullptr;
constexpr float* to_floats = nullptr;

// Has_<name><T>::value is true if the expression compiles for T. The assertion's message shows the declaration that V lacks.
#define PARETRIM_V_NEEDS(name, declaration, ...)                   \
  template <typename T, typename = void>                           \
  struct Has_##name {                                              \
    static constexpr bool value = false;                           \
  };                                                               \
  template <typename T>                                            \
  struct Has_##name<T, decltype(static_cast<void>(__VA_ARGS__))> { \
    static constexpr bool value = true;                            \
  };                                                               \
  static_assert(Has_##name<V>::value, "the vector type lacks `" declaration "`")

PARETRIM_V_NEEDS(lanes, "static constexpr int lanes", static_cast<char (*)[T::lanes]>(nullptr));
PARETRIM_V_NEEDS(registers, "static constexpr int registers", static_cast<char (*)[T::registers]>(nullptr));

// Whether `dot` adds pairs of products in 16 bits, and so needs words of pairs.h.
PARETRIM_V_NEEDS(pairs_in_16_bits, "static constexpr bool pairs_in_16_bits",
                 static_cast<char (*)[T::pairs_in_16_bits + 1]>(nullptr));

// Accumulators: int32 lanes, one pixel each.
PARETRIM_V_NEEDS(Sum, "Sum: a type of int32 lanes", a_sum<T>());
PARETRIM_V_NEEDS(Pixels, "Pixels: a type of lanes times four uint8", some_pixels<T>());
PARETRIM_V_NEEDS(Weights, "Weights: a type of four int8 in every lane", some_weights<T>());
PARETRIM_V_NEEDS(set, "static Sum set(int32)", a_sum<T>() = T::set(std::int32_t{}));
PARETRIM_V_NEEDS(load_sums, "static Sum load_sums(const int32*)", a_sum<T>() = T::load_sums(from_sums));
PARETRIM_V_NEEDS(add, "static Sum add(Sum, Sum)", a_sum<T>() = T::add(a_sum<T>(), a_sum<T>()));
PARETRIM_V_NEEDS(store, "static void store(int32*, Sum)", T::store(to_sums, a_sum<T>()));
PARETRIM_V_NEEDS(load, "static Pixels load(const uint8*)", some_pixels<T>() = T::load(from_bytes));
PARETRIM_V_NEEDS(broadcast, "static Weights broadcast(uint32)", some_weights<T>() = T::broadcast(std::uint32_t{}));
PARETRIM_V_NEEDS(broadcast_from, "static Weights broadcast_from(const uint32*)",
                 some_weights<T>() = T::broadcast_from(from_words));
PARETRIM_V_NEEDS(dot, "static Sum dot(Sum, Pixels, Weights)",
                 a_sum<T>() = T::dot(a_sum<T>(), some_pixels<T>(), some_weights<T>()));

// Whole kernels that each instruction set implements itself; see kernels.h.
PARETRIM_V_NEEDS(dot_product, "static int32 dot_product: Kernels::dot", static_cast<decltype(Kernels::dot)>(T::dot_product));
PARETRIM_V_NEEDS(requantize, "static void requantize: Requantize", static_cast<Requantize>(T::requantize));
PARETRIM_V_NEEDS(stride_pixels, "static void stride_pixels: Kernels::stride_pixels",
                 static_cast<decltype(Kernels::stride_pixels)>(T::stride_pixels));
PARETRIM_V_NEEDS(shift_pixels, "static void shift_pixels: Kernels::shift_pixels",
                 static_cast<decltype(Kernels::shift_pixels)>(T::shift_pixels));
PARETRIM_V_NEEDS(pick_pixels, "static void pick_pixels: Kernels::pick_pixels",
                 static_cast<decltype(Kernels::pick_pixels)>(T::pick_pixels));
PARETRIM_V_NEEDS(pick_maximum, "static void pick_maximum: Kernels::pick_maximum",
                 static_cast<decltype(Kernels::pick_maximum)>(T::pick_maximum));

// float32 lanes, also converted from and to bytes.
PARETRIM_V_NEEDS(Floats, "Floats: a type of float32 lanes", some_floats<T>());
PARETRIM_V_NEEDS(all, "static Floats all(float)", some_floats<T>() = T::all(float{}));
PARETRIM_V_NEEDS(load_floats, "static Floats load_floats(const float*)", some_floats<T>() = T::load_floats(from_floats));
PARETRIM_V_NEEDS(floats, "static Floats floats(const uint8*)", some_floats<T>() = T::floats(from_bytes));
PARETRIM_V_NEEDS(plus, "static Floats plus(Floats, Floats)", some_floats<T>() = T::plus(some_floats<T>(), some_floats<T>()));
PARETRIM_V_NEEDS(times, "static Floats times(Floats, Floats)", some_floats<T>() = T::times(some_floats<T>(), some_floats<T>()));
PARETRIM_V_NEEDS(fused, "static Floats fused(Floats, Floats, Floats)",
                 some_floats<T>() = T::fused(some_floats<T>(), some_floats<T>(), some_floats<T>()));
PARETRIM_V_NEEDS(larger, "static Floats larger(Floats, Floats)",
                 some_floats<T>() = T::larger(some_floats<T>(), some_floats<T>()));
PARETRIM_V_NEEDS(smaller, "static Floats smaller(Floats, Floats)",
                 some_floats<T>() = T::smaller(some_floats<T>(), some_floats<T>()));
PARETRIM_V_NEEDS(store_floats, "static void store_floats(float*, Floats)", T::store_floats(to_floats, some_floats<T>()));
PARETRIM_V_NEEDS(store_rounded, "static void store_rounded(Floats, Floats, Floats, Floats, Requantization, uint8*)",
                 T::store_rounded(some_floats<T>(), some_floats<T>(), some_floats<T>(), some_floats<T>(), Requantization{},
                                  to_bytes));

// Raw bytes: four for each lane.
PARETRIM_V_NEEDS(Bytes, "Bytes: a type of lanes times four uint8", some_bytes<T>());
PARETRIM_V_NEEDS(load_bytes, "static Bytes load_bytes(const uint8*)", some_bytes<T>() = T::load_bytes(from_bytes));
PARETRIM_V_NEEDS(store_bytes, "static void store_bytes(uint8*, Bytes)", T::store_bytes(to_bytes, some_bytes<T>()));
PARETRIM_V_NEEDS(same_pixels, "static Bytes same_pixels(uint32)", some_bytes<T>() = T::same_pixels(std::uint32_t{}));
PARETRIM_V_NEEDS(control, "static Bytes control(uint32)", some_bytes<T>() = T::control(std::uint32_t{}));
PARETRIM_V_NEEDS(shuffled, "static Bytes shuffled(Bytes, Bytes)",
                 some_bytes<T>() = T::shuffled(some_bytes<T>(), some_bytes<T>()));
PARETRIM_V_NEEDS(either, "static Bytes either(Bytes, Bytes)", some_bytes<T>() = T::either(some_bytes<T>(), some_bytes<T>()));
PARETRIM_V_NEEDS(Table, "Table: a type made from 256 uint8, with Bytes operator[](Bytes) const",
                 some_bytes<T>() = static_cast<const typename T::Table&>(typename T::Table(from_bytes))[some_bytes<T>()]);

#undef PARETRIM_V_NEEDS

static_assert(V::lanes > 0 && max_lanes % V::lanes == 0, "V::lanes must divide max_lanes");
static_assert(sizeof(typename V::Bytes) == V::lanes * block, "V::Bytes must hold four bytes for each lane");
static_assert(sizeof(typename V::Floats) == V::lanes * sizeof(float), "V::Floats must hold one float32 for each lane");
