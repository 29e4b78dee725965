// Tiles and elementwise kernels over a vector type V. Each instruction set's source file includes this once, inside its own
// namespace, so that each copy is compiled with only that file's flags.
//
// vector_type.inl lists the members of V. What the compiler cannot check there: `store_rounded` and `requantize` round to
// nearest, ties to even; `control` and `shuffled` implement the controls of Mix; `dot` (of words that `pairs_in_16_bits` allows)
// and `add` never saturate.
#include "kernels/training.inl"
#include "kernels/vector_type.inl"

// As many accumulator sets as leave registers for the operands.
constexpr int sets_in_registers(int vectors) {
  int sets = sets_of(vectors);
  while (sets > 1 && sets * (vectors + 1) >= V::registers) sets /= 2;
  return sets;
}

template <int vectors>
void sparse_tile(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels,
                 const std::int32_t* initial, std::int32_t* sums) {
  constexpr int sets = sets_in_registers(vectors);
  for (int c = 0; c < channels; ++c, sums += vectors * V::lanes) {
    const Entry* entry = entries + starts[c];
    const Entry* const end = entries + starts[c + 1];
    typename V::Sum sum[sets][vectors];
    for (int v = 0; v < vectors; ++v) sum[0][v] = initial ? V::set(initial[c]) : V::load_sums(sums + v * V::lanes);
    for (int s = 1; s < sets; ++s) {
      for (int v = 0; v < vectors; ++v) sum[s][v] = V::set(0);
    }
    for (; entry + sets <= end; entry += sets) {
#pragma GCC unroll 8
      for (int s = 0; s < sets; ++s) {
        // One 8-byte load fetches both halves. Broadcasting the weights from a general-purpose register leaves the load ports
        // to the activations (measured: 10 % faster than broadcasting from memory on Zen 5).
        const typename V::Weights weights = V::broadcast(static_cast<std::uint32_t>(entry[s]));
        const std::uint8_t* source = activations + (entry[s] >> 32);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum[s][v] = V::dot(sum[s][v], V::load(source + v * V::lanes * block), weights);
      }
    }
    for (; entry < end; ++entry) {
      const typename V::Weights weights = V::broadcast(static_cast<std::uint32_t>(*entry));
      const std::uint8_t* source = activations + (*entry >> 32);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[0][v] = V::dot(sum[0][v], V::load(source + v * V::lanes * block), weights);
    }
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      typename V::Sum total = sum[0][v];
      for (int s = 1; s < sets; ++s) total = V::add(total, sum[s][v]);
      V::store(sums + v * V::lanes, total);
    }
  }
}

template <int grouped, int vectors>
void dense_tile(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count, const std::int32_t* initial,
                std::int32_t* sums) {
  typename V::Sum sum[grouped][vectors];
#pragma GCC unroll 16
  for (int g = 0; g < grouped; ++g) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[g][v] = V::set(initial[g]);
  }
  for (std::int64_t i = 0; i < count; ++i, records += 1 + grouped) {
    const std::uint8_t* source = activations + records[0];
    typename V::Pixels pixels[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) pixels[v] = V::load(source + v * V::lanes * block);
#pragma GCC unroll 16
    for (int g = 0; g < grouped; ++g) {
      const typename V::Weights weights = V::broadcast_from(records + 1 + g);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[g][v] = V::dot(sum[g][v], pixels[v], weights);
    }
  }
#pragma GCC unroll 16
  for (int g = 0; g < grouped; ++g) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) V::store(sums + (g * vectors + v) * V::lanes, sum[g][v]);
  }
}

constexpr bool fits(int grouped, int vectors) { return grouped * vectors + vectors + 1 <= V::registers; }

template <int vectors>
void fill_sparse(Kernels& kernels) {
  if constexpr (fits(1, vectors) || vectors == 1) kernels.sparse[vectors] = sparse_tile<vectors>;
}

template <int grouped, int vectors>
void fill_dense(Kernels& kernels) {
  if constexpr (fits(grouped, vectors)) {
    kernels.dense[grouped][vectors] = dense_tile<grouped, vectors>;
    if constexpr (vectors < max_vectors) fill_dense<grouped, vectors + 1>(kernels);
  }
}

template <int... vectors>
void fill_all_sparse(Kernels& kernels, std::integer_sequence<int, vectors...>) {
  (fill_sparse<vectors + 1>(kernels), ...);
}

// Applies an elementwise kernel: calls use(a, b, out) for each register of bytes. The remainder goes through local buffers,
// because nothing may be written past `count`.
template <typename Use>
void by_registers(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, std::uint8_t* out, const Use& use) {
  constexpr std::int64_t bytes = V::lanes * block;
  std::int64_t i = 0;
  for (; i + bytes <= count; i += bytes) use(a + i, b + i, out + i);
  if (i == count) return;
  alignas(alignment) std::uint8_t last[3][bytes] = {};
  const auto left = static_cast<std::size_t>(count - i);
  std::memcpy(last[0], a + i, left);
  std::memcpy(last[1], b + i, left);
  use(last[0], last[1], last[2]);
  std::memcpy(out + i, last[2], left);
}

// Computes four vectors of V::lanes values and stores them as consecutive bytes.
template <typename Value>
void store_rounded(const Value& value, const Requantization& to, std::uint8_t* out) {
  V::store_rounded(value(0), value(V::lanes), value(2 * V::lanes), value(3 * V::lanes), to, out);
}

void add(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, const Addition& by, std::uint8_t* out) {
  const typename V::Floats first = V::all(by.first);
  const typename V::Floats second = V::all(by.second);
  const typename V::Floats constant = V::all(by.constant);
  const Requantization to{0, by.low, by.high};
  by_registers(a, b, count, out, [&](const std::uint8_t* from_a, const std::uint8_t* from_b, std::uint8_t* here) {
    const auto sum = [&](int i) {
      const typename V::Floats added = V::plus(V::times(V::floats(from_b + i), second), constant);
      return V::plus(V::times(V::floats(from_a + i), first), added);
    };
    store_rounded(sum, to, here);
  });
}

// Differences from zero points and their products are integers of magnitude below 2^16, so float32 holds them exactly.
void multiply(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
              float multiplier, const Requantization& given, std::uint8_t* out) {
  const Requantization to = given;  // a copy, so that the stores below cannot alias it
  const typename V::Floats less_a = V::all(static_cast<float>(-zero_a));
  const typename V::Floats less_b = V::all(static_cast<float>(-zero_b));
  const typename V::Floats factor = V::all(multiplier);
  by_registers(a, b, count, out, [&](const std::uint8_t* from_a, const std::uint8_t* from_b, std::uint8_t* here) {
    const auto value = [&](int i) {
      return V::times(V::times(V::plus(V::floats(from_a + i), less_a), V::plus(V::floats(from_b + i), less_b)), factor);
    };
    store_rounded(value, to, here);
  });
}

// The four values of(0) .. of(3), repeated across the register.
template <typename Of>
typename V::Floats repeated(const Of& of) {
  float values[V::lanes];
  for (int i = 0; i < V::lanes; ++i) values[i] = of(i % block);
  return V::load_floats(values);
}

void multiply_pixel(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
                    float multiplier, const Requantization& given, std::uint8_t* out) {
  const Requantization to = given;
  const typename V::Floats less_a = V::all(static_cast<float>(-zero_a));
  const typename V::Floats pixel = repeated([&](int c) { return static_cast<float>(b[c] - zero_b); });
  const typename V::Floats factor = V::all(multiplier);
  by_registers(a, a, count, out, [&](const std::uint8_t* from, const std::uint8_t*, std::uint8_t* here) {
    const auto value = [&](int i) { return V::times(V::times(V::plus(V::floats(from + i), less_a), pixel), factor); };
    store_rounded(value, to, here);
  });
}

void affine(const std::uint8_t* in, std::int32_t zero, std::int64_t count, const float* multiplier, const float* offset,
            const Requantization& given, std::uint8_t* out) {
  const Requantization to = given;
  const typename V::Floats less = V::all(static_cast<float>(-zero));
  const typename V::Floats factor = repeated([&](int c) { return multiplier[c]; });
  const typename V::Floats shift = repeated([&](int c) { return offset[c]; });
  by_registers(in, in, count, out, [&](const std::uint8_t* from, const std::uint8_t*, std::uint8_t* here) {
    const auto value = [&](int i) { return V::plus(V::times(V::plus(V::floats(from + i), less), factor), shift); };
    store_rounded(value, to, here);
  });
}

void look_up(const std::uint8_t* in, std::int64_t count, const std::uint8_t* entries, std::uint8_t* out) {
  const V::Table table(entries);
  by_registers(in, in, count, out, [&](const std::uint8_t* from, const std::uint8_t*, std::uint8_t* here) {
    V::store_bytes(here, table[V::load_bytes(from)]);
  });
}

template <int count>
void mix_planes(const Mix& mix, std::int64_t pixels, std::uint8_t* out) {
  typename V::Bytes controls[count + 1];
  for (int s = 0; s < count; ++s) controls[s] = V::control(mix.controls[s]);
  const typename V::Bytes constant = V::same_pixels(mix.constant);
  for (std::int64_t i = 0; i < pixels * block; i += V::lanes * block) {
    typename V::Bytes bytes = constant;
    for (int s = 0; s < count; ++s) bytes = V::either(bytes, V::shuffled(V::load_bytes(mix.from[s] + i), controls[s]));
    V::store_bytes(out + i, bytes);
  }
}

void mix_pixels(const Mix& mix, std::int64_t pixels, std::uint8_t* out) {
  constexpr void (*by_count[])(const Mix&, std::int64_t, std::uint8_t*) = {mix_planes<0>, mix_planes<1>, mix_planes<2>,
                                                                           mix_planes<3>, mix_planes<4>};
  by_count[mix.count](mix, pixels, out);
}

void interleave(const std::uint8_t* channels, std::int64_t pitch, std::int64_t pixels, std::uint8_t* out) {
  const std::uint8_t* second = channels + pitch;
  const std::uint8_t* third = second + pitch;
  const std::uint8_t* fourth = third + pitch;
  for (std::int64_t p = 0; p < pixels; ++p) {
    const std::uint32_t lower = channels[p] | static_cast<std::uint32_t>(second[p]) << 8U;
    const std::uint32_t pixel =
        lower | static_cast<std::uint32_t>(third[p]) << 16U | static_cast<std::uint32_t>(fourth[p]) << 24U;
    std::memcpy(out + p * block, &pixel, block);
  }
}

void maximum(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = max_of(a[i], b[i]);
}

#include "kernels/float_tiles.inl"

Kernels all_kernels(const char* name) {
  Kernels kernels{};
  kernels.name = name;
  kernels.lanes = V::lanes;
  kernels.pairs_in_16_bits = V::pairs_in_16_bits;
  fill_all_sparse(kernels, std::make_integer_sequence<int, max_vectors>{});
  fill_dense<2, 1>(kernels);
  fill_dense<4, 1>(kernels);
  fill_dense<8, 1>(kernels);
  fill_dense<16, 1>(kernels);
  kernels.requantize = V::requantize;
  fill_floats(kernels, std::make_integer_sequence<int, max_vectors>{});
  kernels.dot = V::dot_product;
  kernels.add = add;
  kernels.multiply = multiply;
  kernels.multiply_pixel = multiply_pixel;
  kernels.affine = affine;
  kernels.maximum = maximum;
  kernels.look_up = look_up;
  kernels.mix_pixels = mix_pixels;
  kernels.interleave = interleave;
  kernels.stride_pixels = V::stride_pixels;
  kernels.shift_pixels = V::shift_pixels;
  kernels.pick_pixels = V::pick_pixels;
  kernels.pick_maximum = V::pick_maximum;
  kernels.training = training_kernels();
  return kernels;
}
