// What the kernels of experts share: where the weights of an expert are, and a lane's part of a row of
// plain 16-bit floats, in the order of those that are packed (linear.cuh).
#pragma once
#include "curves.cuh"
#include "linear.cuh"

// The experts of a layer. All matrices of a part have one layout.
struct ExpertWeights {
  const uint64_t* table;     // the matrices of all experts
  size_t high, scales, supers;  // where the planes of each start; the first starts with the matrix

  __device__ __forceinline__ Planes planes(uint32_t expert) const {
    const char* base = reinterpret_cast<const char*>(table[expert]);
    auto plane = [&](size_t start) { return reinterpret_cast<const uint32_t*>(base + start); };
    return {plane(0), plane(high), plane(scales), plane(supers)};
  }
};

// Columns from `at` on, four of them; zeros past the end of a row.
static __device__ __forceinline__ float4 some_columns(const float* row, int at, int columns) {
  if (columns % 4 == 0)
    return at < columns ? __ldg(reinterpret_cast<const float4*>(row + at)) : make_float4(0, 0, 0, 0);
  auto one = [&](int n) { return at + n < columns ? __ldg(row + at + n) : 0.f; };
  return make_float4(one(0), one(1), one(2), one(3));
}

// A lane of the 128 columns of a unit.
template <class E>
struct PlainLane {
  static constexpr int COLUMNS = 128;
  static constexpr bool IS_PACKED = false;
  uint2 words[8];

  __device__ __forceinline__ void load(const Planes& from, uint32_t row, int unit, int strip,
                                       int columns) {
    const E* numbers = reinterpret_cast<const E*>(from.low) + size_t(row) * columns;
#pragma unroll
    for (int part = 0; part < 8; part++) {
      const int at = unit * COLUMNS + 16 * part + 4 * strip;
      if (columns % 4 == 0) {
        words[part] = at < columns ? __ldcs(reinterpret_cast<const uint2*>(numbers + at)) : make_uint2(0, 0);
      } else {
        float w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = at + i < columns ? Packed<E>::wide(numbers[at + i]) : 0.f;
        words[part] = {Packed<E>::pack(w[0], w[1]), Packed<E>::pack(w[2], w[3])};
      }
    }
  }
  __device__ __forceinline__ void weights(int block, int half, float (&w)[4]) const {
    const uint2 word = words[2 * block + half];
    const float2 a = Packed<E>::both(word.x), b = Packed<E>::both(word.y);
    w[0] = a.x, w[1] = a.y, w[2] = b.x, w[3] = b.y;
  }
};

// A lane of a packed row.
template <class L>
struct PackedLane : L {
  static_assert(L::COLUMNS == 128);
  static constexpr bool IS_PACKED = true;
  __device__ __forceinline__ void load(const Planes& from, uint32_t row, int unit, int strip,
                                       int columns) {
    L::load(from, row * (columns / L::COLUMNS) + unit, strip);
  }
};

// Adds the products of a unit of R rows with its columns of x.
template <class L, int R>
static __device__ __forceinline__ void add_unit(float (&sums)[R], const L (&lanes)[R], const float* x,
                                                int unit, int strip, int columns) {
  if constexpr (L::IS_PACKED) {
    add_lane<L, 1, R>(sums, lanes, x + unit * L::COLUMNS + 4 * strip, columns, 1);
  } else {
#pragma unroll
    for (int part = 0; part < 8; part++) {
      const float4 v = some_columns(x, unit * L::COLUMNS + 16 * part + 4 * strip, columns);
#pragma unroll
      for (int r = 0; r < R; r++) {
        float w[4];
        lanes[r].weights(part / 2, part % 2, w);
        add_product(sums[r], w, v);
      }
    }
  }
}

// The kernels of every layout, and of plain numbers.
#define EVERY_LAYOUT(CALL, PLAIN)                                                             \
  WIDE_LAYOUTS(CALL)                                                                          \
  PLAIN(f16, __half)                                                                          \
  PLAIN(bf16, __nv_bfloat16)
