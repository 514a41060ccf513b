// Weights that stay as their file's blocks have them (src/blocks.rs) as 16-bit floats, for cuBLAS, and
// as floats. A thread takes eight columns. The layouts are those of ggml-common.h.
#include "common.cuh"

using Bytes = const unsigned char*;

static __device__ __forceinline__ uint32_t word_at(Bytes from) { return from[0] | uint32_t(from[1]) << 8; }
static __device__ __forceinline__ uint32_t long_word_at(Bytes from) {
  return word_at(from) | word_at(from + 2) << 16;
}
static __device__ __forceinline__ float half_of(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
static __device__ __forceinline__ uint32_t nibble(Bytes from, int n) { return from[n / 2] >> n % 2 * 4 & 15; }
// A scale from its code: an odd number of `unit`.
static __device__ __forceinline__ float odd(float unit, uint32_t code) { return unit * float(2 * code + 1); }
// Seven signs and an eighth that makes their number even.
static __device__ __forceinline__ uint32_t even(uint32_t signs) {
  signs &= 127;
  return signs | (__popc(signs) & 1) << 7;
}

// Points of lattices; where each table starts in `Points` of src/blocks.rs.
constexpr int IQ2_XXS_AT = 0, IQ2_XS_AT = 2048, IQ2_S_AT = 6144, IQ3_XXS_AT = 14336, IQ3_S_AT = 15360,
              IQ1_AT = 17408;

static __device__ __forceinline__ void signed_points(float (&w)[8], const signed char* first,
                                                     const signed char* second, uint32_t signs, float scale) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float x = scale * float(i < 4 ? first[i] : second[i - 4]);
    w[i] = signs >> i & 1 ? -x : x;
  }
}

// A point of IQ1 in eighths: an eighth is added to each number or taken away.
static __device__ __forceinline__ void eighths(float (&w)[8], const signed char* point, bool less, float scale) {
#pragma unroll
  for (int i = 0; i < 8; i++) w[i] = scale * float(8 * point[i] + (less ? -1 : 1));
}

// Each format: columns and bytes of a block, and the numbers of eight columns, the `g`th.
struct iq2_xxs {
  static constexpr int COLUMNS = 256, BYTES = 66;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t rest = long_word_at(block + 6 + g / 4 * 8);
    const signed char* point = points + IQ2_XXS_AT + 8 * block[2 + g / 4 * 8 + g % 4];
    const float scale = odd(half_of(word_at(block)), rest >> 28) * 0.125f;
    signed_points(w, point, point + 4, even(rest >> 7 * (g % 4)), scale);
  }
};
struct iq2_xs {
  static constexpr int COLUMNS = 256, BYTES = 74;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t word = word_at(block + 2 + 2 * g);
    const signed char* point = points + IQ2_XS_AT + 8 * (word & 511);
    const float scale = odd(half_of(word_at(block)), nibble(block + 66, g / 2)) * 0.125f;
    signed_points(w, point, point + 4, even(word >> 9), scale);
  }
};
struct iq2_s {
  static constexpr int COLUMNS = 256, BYTES = 82;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t upper = block[66 + g / 4] >> g % 4 * 2 & 3;
    const signed char* point = points + IQ2_S_AT + 8 * (block[2 + g] | upper << 8);
    const float scale = odd(half_of(word_at(block)), nibble(block + 74, g / 2)) * 0.125f;
    signed_points(w, point, point + 4, block[34 + g], scale);
  }
};
struct iq3_xxs {
  static constexpr int COLUMNS = 256, BYTES = 98;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t rest = long_word_at(block + 66 + g / 4 * 4);
    points += IQ3_XXS_AT;
    const float scale = odd(half_of(word_at(block)), rest >> 28) * 0.25f;
    signed_points(w, points + 4 * block[2 + 2 * g], points + 4 * block[3 + 2 * g], even(rest >> 7 * (g % 4)),
                  scale);
  }
};
struct iq3_s {
  static constexpr int COLUMNS = 256, BYTES = 110;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t ninth = block[66 + g / 4] >> 2 * (g % 4);
    points += IQ3_S_AT;
    const float scale = odd(half_of(word_at(block)), nibble(block + 106, g / 4));
    signed_points(w, points + 4 * (block[2 + 2 * g] | (ninth & 1) << 8),
                  points + 4 * (block[3 + 2 * g] | (ninth >> 1 & 1) << 8), block[74 + g], scale);
  }
};
struct iq1_s {
  static constexpr int COLUMNS = 256, BYTES = 50;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const uint32_t rest = word_at(block + 34 + g / 4 * 2), upper = rest >> 3 * (g % 4) & 7;
    const float scale = odd(half_of(word_at(block)), rest >> 12 & 7) * 0.125f;
    eighths(w, points + IQ1_AT + 8 * (block[2 + g] | upper << 8), rest >> 15, scale);
  }
};
struct iq1_m {
  static constexpr int COLUMNS = 256, BYTES = 56;
  static __device__ __forceinline__ void read(Bytes block, const signed char* points, int g, float (&w)[8]) {
    const int n = g / 2;
    uint32_t half = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) half |= word_at(block + 48 + 2 * i) >> 12 << 4 * i;
    const uint32_t code = word_at(block + 48 + n / 4 * 2) >> n % 4 * 3 & 7, rest = block[32 + n] >> g % 2 * 4;
    const float scale = odd(half_of(half), code) * 0.125f;
    eighths(w, points + IQ1_AT + 8 * (block[g] | (rest & 7) << 8), rest & 8, scale);
  }
};
struct tq1_0 {
  static constexpr int COLUMNS = 256, BYTES = 54;
  static __device__ __forceinline__ void read(Bytes block, const signed char*, int g, float (&w)[8]) {
    const float scale = half_of(word_at(block + 52));
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int column = 8 * g + i;
      int at, digit;
      if (column < 160)
        at = column % 32, digit = column / 32;
      else if (column < 240)
        at = 32 + column % 16, digit = (column - 160) / 16;
      else
        at = 48 + column % 4, digit = (column - 240) / 4;
      // A byte is a fraction of 256; times 3 for each digit that comes before, without the whole.
      uint32_t fraction = block[at];
      for (int n = 0; n < digit; n++) fraction = fraction * 3 & 255;
      w[i] = scale * float(int(fraction * 3 >> 8) - 1);
    }
  }
};
struct tq2_0 {
  static constexpr int COLUMNS = 256, BYTES = 66;
  static __device__ __forceinline__ void read(Bytes block, const signed char*, int g, float (&w)[8]) {
    const float scale = half_of(word_at(block + 64));
    const int run = g / 4;  // of 32 columns
    Bytes from = block + run / 4 * 32 + g % 4 * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) w[i] = scale * float(int(from[i] >> run % 4 * 2 & 3) - 1);
  }
};
struct nvfp4 {
  static constexpr int COLUMNS = 64, BYTES = 36;
  static __device__ __forceinline__ void read(Bytes block, const signed char*, int g, float (&w)[8]) {
    // A float of a byte: its exponent is smaller by 8 than that of a half float with the same bits, and
    // the values of codes are doubled. What is no number is zero; the sign does not count.
    const uint32_t byte = block[g / 2];
    const float scale = byte == 0x7f ? 0.f : half_of((byte & 0x7f) << 7) * 128.f;
    Bytes from = block + 4 + g / 2 * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t code = from[i] >> g % 2 * 4 & 15, size = code & 7;
      // 0, 1, 2, 3, 4, 6, 8, 12
      const float x = scale * float(size < 4 ? size : (size & 1 ? 6u : 4u) << (size - 4) / 2);
      w[i] = code & 8 ? -x : x;
    }
  }
};

// Eight columns of a row, by their number among all rows.
template <class F>
static __device__ __forceinline__ void eight(Bytes blocks, const signed char* points, size_t n, float (&w)[8]) {
  constexpr int EIGHTS = F::COLUMNS / 8;
  F::read(blocks + n / EIGHTS * F::BYTES, points, n % EIGHTS, w);
}

template <class F, class E>
static __device__ __forceinline__ void unpack(Bytes blocks, const signed char* points, E* out, int first, int columns,
                                              size_t eights) {
  const size_t n = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= eights) return;
  float w[8];
  eight<F>(blocks, points, size_t(first) * (columns / 8) + n, w);
  reinterpret_cast<uint4*>(out)[n] = {Packed<E>::pack(w[0], w[1]), Packed<E>::pack(w[2], w[3]),
                                      Packed<E>::pack(w[4], w[5]), Packed<E>::pack(w[6], w[7])};
}

// out[i] = row wanted[i]
template <class F>
static __device__ __forceinline__ void take(Bytes blocks, const signed char* points, const uint32_t* wanted, float* out,
                                            int columns) {
  for (int n = threadIdx.x; n < columns / 8; n += blockDim.x) {
    float w[8];
    eight<F>(blocks, points, size_t(wanted[blockIdx.x]) * (columns / 8) + n, w);
    float4* to = reinterpret_cast<float4*>(out + size_t(blockIdx.x) * columns + 8 * n);
    to[0] = make_float4(w[0], w[1], w[2], w[3]);
    to[1] = make_float4(w[4], w[5], w[6], w[7]);
  }
}

#define UNPACK(NAME, ELEMENT, E)                                                                  \
  extern "C" __global__ void unpack_##NAME##_##ELEMENT(Bytes blocks, const signed char* points, E* out, \
                                                       int first, int columns, size_t eights) {   \
    unpack<NAME>(blocks, points, out, first, columns, eights);                                    \
  }
#define BLOCKS(NAME)                                                                              \
  UNPACK(NAME, f16, __half)                                                                       \
  UNPACK(NAME, bf16, __nv_bfloat16)                                                               \
  extern "C" __global__ void take_##NAME(Bytes blocks, const signed char* points, const uint32_t* wanted, \
                                         const __grid_constant__ FewRows few, float* out, int columns) { \
    take<NAME>(blocks, points, wanted ? wanted : few.rows, out, columns);                         \
  }
BLOCKS(iq2_xxs)
BLOCKS(iq2_xs)
BLOCKS(iq2_s)
BLOCKS(iq3_xxs)
BLOCKS(iq3_s)
BLOCKS(iq1_s)
BLOCKS(iq1_m)
BLOCKS(tq1_0)
BLOCKS(tq2_0)
BLOCKS(nvfp4)
