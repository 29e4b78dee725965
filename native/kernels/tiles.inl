// Tiles, requantization and elementwise kernels over a vector type V, included once by each instruction set's source inside a
// namespace of its own, so that every copy is compiled with that source's flags alone.
//
// V has: lanes, registers; Sum (int32 lanes), Weights; set(int32), add(Sum, Sum), store(int32*, Sum), broadcast(uint32) -> Weights,
// load(const uint8_t*) -> Pixels, dot(Sum, Pixels, Weights) -> Sum, requantize(...).

// As many sets as leave registers for the operands.
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
        // One 8-byte load gives both halves; weights then go through a general register, which leaves the vector load ports to
        // the activations (measured: 10 % faster than broadcasting from memory on Zen 5).
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
    if constexpr (vectors < most_vectors) fill_dense<grouped, vectors + 1>(kernels);
  }
}

template <int... vectors>
void fill_all_sparse(Kernels& kernels, std::integer_sequence<int, vectors...>) {
  (fill_sparse<vectors + 1>(kernels), ...);
}

inline std::uint8_t clamped(float steps, const Requantization& to) {
  const float shifted = steps + static_cast<float>(to.zero_point);
  return static_cast<std::uint8_t>(least(most(shifted, static_cast<float>(to.low)), static_cast<float>(to.high)));
}

void multiply(const std::uint8_t* a, std::int32_t zero_a, const std::uint8_t* b, std::int32_t zero_b, std::int64_t count,
              float multiplier, const Requantization& to, std::uint8_t* out) {
  const Requantization k = to;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t product = (a[i] - zero_a) * (b[i] - zero_b);
    out[i] = clamped(rounded(static_cast<float>(product) * multiplier), k);
  }
}

void affine(const std::uint8_t* in, std::int32_t zero, std::int64_t count, const float* multiplier, const float* offset,
            const Requantization& to, std::uint8_t* out) {
  constexpr int unit = 16;  // a whole number of pixels, so that the compiler sees plain vectors
  float factors[unit];
  float shifts[unit];
  for (int i = 0; i < unit; ++i) {
    factors[i] = multiplier[i % block];
    shifts[i] = offset[i % block];
  }
  const Requantization k = to;
  std::int64_t i = 0;
  for (; i + unit <= count; i += unit) {
    for (int j = 0; j < unit; ++j) {
      out[i + j] = clamped(rounded(static_cast<float>(in[i + j] - zero) * factors[j] + shifts[j]), k);
    }
  }
  for (; i < count; ++i) {
    out[i] = clamped(rounded(static_cast<float>(in[i] - zero) * factors[i % unit] + shifts[i % unit]), k);
  }
}

void maximum(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = most(a[i], b[i]);
}

Kernels all_kernels(const char* name) {
  Kernels kernels{};
  kernels.name = name;
  kernels.lanes = V::lanes;
  fill_all_sparse(kernels, std::make_integer_sequence<int, most_vectors>{});
  fill_dense<2, 1>(kernels);
  fill_dense<4, 1>(kernels);
  fill_dense<8, 1>(kernels);
  fill_dense<16, 1>(kernels);
  kernels.requantize = V::requantize;
  kernels.dot = V::dot_product;
  kernels.add = V::add_values;
  kernels.multiply = multiply;
  kernels.affine = affine;
  kernels.maximum = maximum;
  kernels.stride_pixels = V::stride_pixels;
  kernels.shift_pixels = V::shift_pixels;
  kernels.pick_pixels = V::pick_pixels;
  kernels.pick_maximum = V::pick_maximum;
  return kernels;
}
