// float32 tiles over the vector type V, included by tiles.inl. The order of additions is fixed, so each sum is one dependent
// chain. To hide the latency, several sums run side by side: the registers of a tile, and several output channels.

inline float float_of(std::uint32_t word) {
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline const float* floats_at(const std::uint8_t* bytes) { return reinterpret_cast<const float*>(bytes); }

template <int vectors>
void add_entry(typename V::Floats (&sum)[vectors], const std::uint8_t* activations, Entry entry) {
  const typename V::Floats weight = V::all(float_of(static_cast<std::uint32_t>(entry)));
  const float* source = floats_at(activations + (entry >> 32));
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) sum[v] = V::fused(sum[v], V::load_floats(source + v * V::lanes), weight);
}

// Interleaves `together` channels up to the shortest one's length, then finishes each on its own.
template <int together, int vectors>
void float_sparse_channels(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts,
                           const std::int32_t* initial, std::int32_t* sums) {
  typename V::Floats sum[together][vectors];
  std::int64_t shortest = starts[1] - starts[0];
#pragma GCC unroll 8
  for (int c = 0; c < together; ++c) {
    if (starts[c + 1] - starts[c] < shortest) shortest = starts[c + 1] - starts[c];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      const std::int32_t* before = sums + (c * vectors + v) * V::lanes;
      sum[c][v] = initial ? V::all(float_of(static_cast<std::uint32_t>(initial[c])))
                          : V::load_floats(reinterpret_cast<const float*>(before));
    }
  }
  for (std::int64_t i = 0; i < shortest; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < together; ++c) add_entry<vectors>(sum[c], activations, entries[starts[c] + i]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < together; ++c) {
    for (std::int64_t e = starts[c] + shortest; e < starts[c + 1]; ++e) add_entry<vectors>(sum[c], activations, entries[e]);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) V::store_floats(reinterpret_cast<float*>(sums) + (c * vectors + v) * V::lanes, sum[c][v]);
  }
}

template <int vectors>
void float_sparse_tile(const std::uint8_t* activations, const Entry* entries, const std::int64_t* starts, int channels,
                       const std::int32_t* initial, std::int32_t* sums) {
  constexpr int together = vectors >= 4 ? 1 : vectors >= 2 ? 2 : 4;
  int c = 0;
  for (; c + together <= channels; c += together, sums += together * vectors * V::lanes) {
    float_sparse_channels<together, vectors>(activations, entries, starts + c, initial ? initial + c : nullptr, sums);
  }
  for (; c < channels; ++c, sums += vectors * V::lanes) {
    float_sparse_channels<1, vectors>(activations, entries, starts + c, initial ? initial + c : nullptr, sums);
  }
}

template <int grouped, int vectors>
void float_dense_tile(const std::uint8_t* activations, const std::uint32_t* records, std::int64_t count,
                      const std::int32_t* initial, std::int32_t* sums) {
  typename V::Floats sum[grouped][vectors];
#pragma GCC unroll 16
  for (int g = 0; g < grouped; ++g) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[g][v] = V::all(float_of(static_cast<std::uint32_t>(initial[g])));
  }
  for (std::int64_t i = 0; i < count; ++i, records += 1 + grouped) {
    const float* source = floats_at(activations + records[0]);
    typename V::Floats pixels[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) pixels[v] = V::load_floats(source + v * V::lanes);
#pragma GCC unroll 16
    for (int g = 0; g < grouped; ++g) {
      const typename V::Floats weight = V::all(float_of(records[1 + g]));
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[g][v] = V::fused(sum[g][v], pixels[v], weight);
    }
  }
#pragma GCC unroll 16
  for (int g = 0; g < grouped; ++g) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) V::store_floats(reinterpret_cast<float*>(sums) + (g * vectors + v) * V::lanes, sum[g][v]);
  }
}

template <int rows>
void float_row_tile(const std::uint8_t* activations, const std::uint32_t* offsets, std::int64_t count, const float* weights,
                    const float* initial, float* sums) {
  constexpr int vectors = rows * max_lanes / V::lanes;
  typename V::Floats sum[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) sum[v] = V::load_floats(initial + v * V::lanes);
  for (std::int64_t k = 0; k < count; ++k, weights += rows * max_lanes) {
    const typename V::Floats number = V::all(*floats_at(activations + offsets[k]));
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[v] = V::fused(sum[v], V::load_floats(weights + v * V::lanes), number);
  }
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) V::store_floats(sums + v * V::lanes, sum[v]);
}

void finish_floats(const float* sums, const float* other, std::int64_t count, float low, float high, float* out) {
  const typename V::Floats zero = V::all(0.0F);
  const typename V::Floats min_value = V::all(low);
  const typename V::Floats max_value = V::all(high);
  for (std::int64_t i = 0; i < count; i += V::lanes) {
    typename V::Floats value = V::plus(V::load_floats(sums + i), zero);
    if (other) value = V::plus(value, V::load_floats(other + i));
    V::store_floats(out + i, V::plus(V::smaller(V::larger(value, min_value), max_value), zero));
  }
}

template <int grouped, int vectors>
void fill_float_dense(Kernels& kernels) {
  if constexpr (vectors <= max_vectors && fits(grouped, vectors)) {
    kernels.float_dense[grouped][vectors] = float_dense_tile<grouped, vectors>;
    fill_float_dense<grouped, vectors + 1>(kernels);
  }
}

template <int vectors>
void fill_float_sparse(Kernels& kernels) {
  if constexpr (fits(1, vectors) || vectors == 1) kernels.float_sparse[vectors] = float_sparse_tile<vectors>;
}

template <int... vectors>
void fill_floats(Kernels& kernels, std::integer_sequence<int, vectors...>) {
  (fill_float_sparse<vectors + 1>(kernels), ...);
  fill_float_dense<2, 1>(kernels);
  fill_float_dense<4, 1>(kernels);
  fill_float_dense<8, 1>(kernels);
  fill_float_dense<16, 1>(kernels);
  kernels.float_rows[1] = float_row_tile<1>;
  kernels.float_rows[2] = float_row_tile<2>;
  kernels.float_rows[3] = float_row_tile<3>;
  kernels.float_rows[4] = float_row_tile<4>;
  kernels.finish_floats = finish_floats;
}
