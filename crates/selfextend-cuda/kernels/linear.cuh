// Weights in the blocks of their files (src/packed.rs puts their parts into planes), as a lane of a warp
// holds and unpacks them, and their products with activations in f32.
#pragma once
#include "common.cuh"

constexpr int WARPS = 4;

// How the 32 or 16 columns of a block are scaled.
enum Scales {
  CENTRED,  // a half float; the codes' middle is zero
  MINIMUM,  // half floats: scale, what a code of zero is
  BYTES,    // d * byte, -dmin * byte; d and dmin for 256 columns
  SIGNED,   // d * signed byte for each 16 columns, d for 256; the codes' middle is zero
  LONG,     // the same for each 32 columns
  PAIRS,    // d * lower, -dmin * upper half of a byte for each 16 columns; d and dmin for 256
  POWERS,   // 2^(byte - 128)
};

// What codes stand for.
enum Values {
  LINEAR,  // numbers at equal distances
  IQ4,     // 16 signed bytes
  FP4,     // 16 floats of 4 bits, doubled: signed bytes too
};

// The signed bytes of IQ4 and FP4 plus 128, in the order of their codes.
template <Values VALUES>
static __device__ __forceinline__ uint32_t table_word(int n) {
  constexpr bool IS_IQ4 = VALUES == IQ4;
  switch (n) {
    case 0: return IS_IQ4 ? 0x3f2d1801u : 0x83828180u;
    case 1: return IS_IQ4 ? 0x766a5d4fu : 0x8c888684u;
    case 2: return IS_IQ4 ? 0xa6998d81u : 0x7d7e7f80u;
    default: return IS_IQ4 ? 0xf1d9c5b5u : 0x74787a7cu;
  }
}

// What the codes in the lower halves of four bytes stand for, plus 128.
template <Values VALUES>
static __device__ __forceinline__ uint32_t look_up(uint32_t codes) {
  codes = (codes | codes >> 4) & 0x00ff00ffu;
  codes |= codes >> 8;  // four halves of bytes
  const uint32_t place = codes & 0x7777u;
  const uint32_t low = __byte_perm(table_word<VALUES>(0), table_word<VALUES>(1), place);
  const uint32_t high = __byte_perm(table_word<VALUES>(2), table_word<VALUES>(3), place);
  return __byte_perm(low, high, 0x3210u | (codes & 0x8888u) >> 1);
}

// 2^(byte - 128), whose lowest two are no normal numbers.
static __device__ __forceinline__ float power(uint32_t byte) {
  return __uint_as_float(byte < 2 ? 0x00200000u << byte : (byte - 1) << 23);
}

// The `index`th N words.
template <int N>
static __device__ __forceinline__ void load_words(uint32_t* to, const uint32_t* from, uint32_t index) {
  if constexpr (N == 1) {
    to[0] = __ldcs(from + index);
  } else if constexpr (N == 2) {
    const uint2 words = __ldcs(reinterpret_cast<const uint2*>(from) + index);
    to[0] = words.x, to[1] = words.y;
  } else {
    static_assert(N == 4);
    const uint4 words = __ldcs(reinterpret_cast<const uint4*>(from) + index);
    to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
  }
}

static __device__ __forceinline__ float half_at(uint32_t word, int upper) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(upper ? word >> 16 : word)));
}

// (Byte `n` of a word minus CENTRE) times a half float, exactly: the byte's place in a float adds
// 2^15, whose product is subtracted before the only rounding.
template <int CENTRE>
static __device__ __forceinline__ float times_byte(uint32_t word, int n, float factor) {
  const float byte = __uint_as_float(__byte_perm(word, 0x47000000u, 0x7404u + 16 * n));
  return fmaf(byte, factor, -(32768.f + CENTRE) * factor);
}

struct Planes {
  const uint32_t* low;
  const uint32_t* high;
  const uint32_t* scales;
  const uint32_t* supers;
};

// What a lane holds of a row: a unit is BLOCKS blocks of 32 columns, which four lanes share. Lane
// `strip` has columns 4 strip + i (half 0) and 16 + 4 strip + i (half 1) of each block, i below 4.
template <int LOW, int HIGH, Scales SCALES, int BLOCKS, Values VALUES = LINEAR>
struct Lane {
  static constexpr int BITS = LOW + HIGH;
  static constexpr int COLUMNS = 32 * BLOCKS;
  // Columns with a scale of their own.
  static constexpr int SCALED = SCALES == SIGNED || SCALES == PAIRS ? 16 : 32;
  static constexpr int WORDS = BLOCKS * LOW / 4;
  static constexpr int VECTOR = WORDS < 4 ? WORDS : 4;
  static constexpr int SCALE_WORDS = SCALES == CENTRED                     ? (BLOCKS + 1) / 2
                                     : SCALES == MINIMUM                   ? BLOCKS
                                     : SCALES == LONG || SCALES == POWERS ? 1
                                                                           : 2;
  static constexpr bool HAS_MINIMUM = SCALES == MINIMUM || SCALES == BYTES || SCALES == PAIRS;
  // A weight is step * (v - BASE) + minimum, v as `raw` finds it.
  static constexpr float BASE = VALUES != LINEAR ? 0.f : LOW == 8 ? 32896.f : HAS_MINIMUM ? 2.f : 3.f;
  static constexpr float SPAN = VALUES != LINEAR || LOW == 8 ? 1.f : float(1 << (BITS - 1));

  uint32_t low[WORDS];
  uint32_t high[HIGH > 0 ? HIGH : 1];
  uint32_t scales[SCALE_WORDS];
  uint32_t super;

  // `unit` counts through all rows. Indices fit 32 bits, which src/matrix.rs checks.
  __device__ __forceinline__ void load(const Planes& from, uint32_t unit, int strip) {
#pragma unroll
    for (int n = 0; n < WORDS / VECTOR; n++)
      load_words<VECTOR>(low + n * VECTOR, from.low, (unit * (WORDS / VECTOR) + n) * 4 + strip);
    // The fifth bits of a lone block are one word for its four lanes.
    if constexpr (HIGH > 0 && BLOCKS == 1)
      high[0] = from.high[unit] >> 2 * strip;
    else if constexpr (HIGH > 0)
      load_words<HIGH>(high, from.high, unit * 4 + strip);
    if constexpr (SCALES == CENTRED && BLOCKS == 1)
      scales[0] = reinterpret_cast<const unsigned short*>(from.scales)[unit];
    else if constexpr (SCALES == POWERS && BLOCKS == 1)
      scales[0] = reinterpret_cast<const unsigned char*>(from.scales)[unit];
    else
      load_words<SCALE_WORDS>(scales, from.scales, unit);
    if constexpr (SCALES == BYTES || SCALES == PAIRS) super = from.supers[unit / 2];
    if constexpr (SCALES == SIGNED || SCALES == LONG)
      super = reinterpret_cast<const unsigned short*>(from.supers)[unit / 2];
  }

  // Four codes as floats v: 2 + 2 code / 2^BITS, a byte below the exponent of 2, so that masks alone
  // find them; signed bytes as 2^15 + 128 + byte; what a table has as it is.
  __device__ __forceinline__ void raw(int block, int half, float (&v)[4]) const {
    uint32_t bytes;
    if constexpr (VALUES != LINEAR) {
      bytes = look_up<VALUES>((half ? low[block] >> 4 : low[block]) & 0x0f0f0f0fu);
    } else if constexpr (LOW == 8) {
      bytes = low[2 * block + half] ^ 0x80808080u;
    } else if constexpr (LOW == 2) {
      const uint32_t word = low[block / 2];
      const int place = 2 * (2 * (block % 2) + half);
      bytes = (place < 5 ? word << (5 - place) : word >> (place - 5)) & 0x60606060u;
    } else {
      constexpr int UP = 7 - BITS;  // the topmost bit of a byte would be the exponent's
      const uint32_t word = low[block];
      bytes = (half ? (UP < 4 ? word >> (4 - UP) : word) : word << UP) & (0x0f0f0f0fu << UP);
      if constexpr (HIGH > 0) {
        const int place = HIGH * (2 * block + half), at = place % 8;
        const uint32_t more = high[place / 8];
        constexpr int TO = 7 - HIGH;
        constexpr uint32_t MASK = HIGH == 1 ? 0x40404040u : 0x60606060u;
        bytes |= (at < TO ? more << (TO - at) : more >> (at - TO)) & MASK;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
      if constexpr (VALUES != LINEAR)
        v[i] = __uint_as_float(__byte_perm(bytes, 0x47000000u, 0x7404u + 16 * i)) - 32896.f;
      else
        v[i] = __uint_as_float(LOW == 8 ? __byte_perm(bytes, 0x47000000u, 0x7404u + 16 * i)
                                        : __byte_perm(bytes, 0x40000000u, 0x7044u + 256 * i));
  }

  __device__ __forceinline__ float step(int block, int half) const {
    if constexpr (SCALES == CENTRED) return SPAN * half_at(scales[block / 2], block % 2);
    if constexpr (SCALES == MINIMUM) return SPAN * half_at(scales[block], 0);
    if constexpr (SCALES == BYTES) return times_byte<0>(scales[0], block, SPAN * half_at(super, 0));
    if constexpr (SCALES == LONG) return times_byte<128>(scales[0], block, half_at(super, 0));
    if constexpr (SCALES == POWERS) return power(scales[0] >> 8 * block & 255);
    if constexpr (SCALES == PAIRS) {
      const int n = 2 * block + half;
      const uint32_t lower = scales[n / 4 % SCALE_WORDS] & 0x0f0f0f0fu;
      return times_byte<0>(lower, n % 4, SPAN * half_at(super, 0));
    }
    // The bytes' signs were flipped: 0 to 255 for -128 to 127.
    const int n = 2 * block + half;
    return times_byte<128>(scales[n / 4 % SCALE_WORDS], n % 4, SPAN * half_at(super, 0));
  }

  __device__ __forceinline__ float minimum(int block, int half) const {
    if constexpr (SCALES == MINIMUM) return half_at(scales[block], 1);
    if constexpr (SCALES == BYTES) return times_byte<0>(scales[1], block, -half_at(super, 1));
    if constexpr (SCALES == PAIRS) {
      const int n = 2 * block + half;
      const uint32_t upper = scales[n / 4 % SCALE_WORDS] >> 4 & 0x0f0f0f0fu;
      return times_byte<0>(upper, n % 4, -half_at(super, 1));
    }
    return 0.f;
  }

  __device__ __forceinline__ void weights(int block, int half, float (&w)[4]) const {
    raw(block, half, w);
    const float scale = step(block, half), base = fmaf(-BASE, scale, minimum(block, half));
#pragma unroll
    for (int i = 0; i < 4; i++) w[i] = fmaf(w[i], scale, base);
  }
};

// Sums of N values over a warp, LEFT being N / 2: lane l has that of value l / (32 / N).
template <int LEFT, int STEP = 16, int N>
static __device__ __forceinline__ float warp_sums(float (&values)[N], int lane) {
  if constexpr (STEP == 0) {
    return values[0];
  } else if constexpr (LEFT == 0) {
    values[0] += __shfl_xor_sync(0xffffffffu, values[0], STEP);
    return warp_sums<0, STEP / 2>(values, lane);
  } else {
    const bool upper = lane & STEP;
#pragma unroll
    for (int i = 0; i < LEFT; i++) {
      const float kept = upper ? values[i + LEFT] : values[i];
      const float given = upper ? values[i] : values[i + LEFT];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, given, STEP);
    }
    return warp_sums<LEFT / 2, STEP / 2>(values, lane);
  }
}

static __device__ __forceinline__ void add_product(float& sum, const float (&w)[4], float4 v) {
  sum = fmaf(w[0], v.x, sum), sum = fmaf(w[1], v.y, sum);
  sum = fmaf(w[2], v.z, sum), sum = fmaf(w[3], v.w, sum);
}

// Four of the numbers that are multiplied by part `part` of a lane's weights, for each token.
template <int T>
static __device__ __forceinline__ void load_x(float4 (&v)[T], const float* at, int columns, int part,
                                              int tokens) {
#pragma unroll
  for (int t = 0; t < T; t++)
    v[t] = __ldg(reinterpret_cast<const float4*>(at + size_t(min(t, tokens - 1)) * columns) + 4 * part);
}

// Adds the products of R rows with a lane's columns. For one or two tokens, sums of products with
// the codes are scaled; for more, weights. (Bytes leave no spare bits for the former.)
template <class L, int T, int R>
static __device__ __forceinline__ void add_lane(float (&sums)[R * T], const L (&lanes)[R],
                                                const float* at, int columns, int tokens) {
  constexpr bool SCALES_SUMS = T <= 2 && L::BITS < 8;
  constexpr int PARTS = SCALES_SUMS && L::SCALED == 32 ? 2 : 1;
#pragma unroll
  for (int part = 0; part < L::COLUMNS / 16; part += PARTS) {
    float4 v[PARTS][T];
#pragma unroll
    for (int p = 0; p < PARTS; p++) load_x<T>(v[p], at, columns, part + p, tokens);
    float all[T] = {};
    if constexpr (SCALES_SUMS) {
#pragma unroll
      for (int t = 0; t < T; t++)
#pragma unroll
        for (int p = 0; p < PARTS; p++)
          all[t] += (v[p][t].x + v[p][t].y) + (v[p][t].z + v[p][t].w);
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      float w[PARTS][4];
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        if constexpr (SCALES_SUMS)
          lanes[r].raw((part + p) / 2, (part + p) % 2, w[p]);
        else
          lanes[r].weights((part + p) / 2, (part + p) % 2, w[p]);
      }
#pragma unroll
      for (int t = 0; t < T; t++) {
        float& sum = sums[r * T + t];
        if constexpr (SCALES_SUMS) {
          float product = -L::BASE * all[t];
#pragma unroll
          for (int p = 0; p < PARTS; p++) add_product(product, w[p], v[p][t]);
          sum = fmaf(lanes[r].step(part / 2, part % 2), product, sum);
          if constexpr (L::HAS_MINIMUM) sum = fmaf(lanes[r].minimum(part / 2, part % 2), all[t], sum);
        } else {
          add_product(sum, w[0], v[0][t]);
        }
      }
    }
  }
}

// The layouts of src/packed.rs that have units of four blocks; CALL(NAME) for each.
using q4_0_wide = Lane<4, 0, CENTRED, 4>;
using q4_1_wide = Lane<4, 0, MINIMUM, 4>;
using q5_0_wide = Lane<4, 1, CENTRED, 4>;
using q5_1_wide = Lane<4, 1, MINIMUM, 4>;
using q8_0_wide = Lane<8, 0, CENTRED, 4>;
using iq4_nl_wide = Lane<4, 0, CENTRED, 4, IQ4>;
using mxfp4_wide = Lane<4, 0, POWERS, 4, FP4>;
using q2_k = Lane<2, 0, PAIRS, 4>;
using q3_k = Lane<4, 0, SIGNED, 4>;
using q4_k = Lane<4, 0, BYTES, 4>;
using q5_k = Lane<4, 1, BYTES, 4>;
using q6_k = Lane<4, 2, SIGNED, 4>;
using iq4_xs = Lane<4, 0, LONG, 4, IQ4>;
#define WIDE_LAYOUTS(CALL)                                                                    \
  CALL(q4_0_wide) CALL(q4_1_wide) CALL(q5_0_wide) CALL(q5_1_wide) CALL(q8_0_wide)             \
  CALL(iq4_nl_wide) CALL(mxfp4_wide) CALL(q2_k) CALL(q3_k) CALL(q4_k) CALL(q5_k) CALL(q6_k)   \
  CALL(iq4_xs)
