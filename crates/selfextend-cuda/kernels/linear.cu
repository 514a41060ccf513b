// Linear layers: out[t] = matrix · x[t], activations and sums in f32, for weights in the blocks of
// their files (src/packed.rs puts their parts into planes) and for plain 16-bit floats.
//
// matvec_* serve few tokens, at most T. The warps of a block share R rows; each lane loads its weights
// of all R rows at once, unpacks them in registers and multiplies them by x, which stays in f32.
// unpack_* write rows of a packed matrix as 16-bit floats, for cuBLAS; take_* write some of its rows
// as floats.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int ROWS = 4;  // SHARED_ROWS in src/linear.rs
// Blocks that a multiprocessor should hold, by tokens: enough to keep the loads in flight.
constexpr int blocks_at_once(int tokens) { return tokens == 1 ? 5 : tokens <= 4 ? 4 : 3; }

// How the 32 or 16 columns of a block are scaled.
enum Scales {
  CENTRED,  // a half float; the codes' middle is zero
  MINIMUM,  // half floats: scale, what a code of zero is
  BYTES,    // d * byte, -dmin * byte; d and dmin for 256 columns
  SIGNED,   // d * signed byte for each 16 columns, d for 256; the codes' middle is zero
};

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
template <int LOW, int HIGH, Scales SCALES, int BLOCKS>
struct Lane {
  static constexpr int BITS = LOW + HIGH;
  static constexpr int COLUMNS = 32 * BLOCKS;
  static constexpr int SCALED = SCALES == SIGNED ? 16 : 32;  // columns with a scale of their own
  static constexpr int WORDS = BLOCKS * LOW / 4;
  static constexpr int VECTOR = WORDS < 4 ? WORDS : 4;
  static constexpr int SCALE_WORDS = SCALES == CENTRED ? (BLOCKS + 1) / 2 : SCALES == MINIMUM ? BLOCKS : 2;
  static constexpr bool HAS_MINIMUM = SCALES == MINIMUM || SCALES == BYTES;
  // A weight is step * (v - BASE) + minimum, v as `raw` finds it.
  static constexpr float BASE = LOW == 8 ? 32896.f : HAS_MINIMUM ? 2.f : 3.f;
  static constexpr float SPAN = LOW == 8 ? 1.f : float(1 << (BITS - 1));

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
    else
      load_words<SCALE_WORDS>(scales, from.scales, unit);
    if constexpr (SCALES == BYTES) super = from.supers[unit / 2];
    if constexpr (SCALES == SIGNED)
      super = reinterpret_cast<const unsigned short*>(from.supers)[unit / 2];
  }

  // Four codes as floats v: 2 + 2 code / 2^BITS, a byte below the exponent of 2, so that masks alone
  // find them; signed bytes as 2^15 + 128 + byte.
  __device__ __forceinline__ void raw(int block, int half, float (&v)[4]) const {
    uint32_t bytes;
    if constexpr (LOW == 8) {
      bytes = low[2 * block + half] ^ 0x80808080u;
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
      v[i] = __uint_as_float(LOW == 8 ? __byte_perm(bytes, 0x47000000u, 0x7404u + 16 * i)
                                      : __byte_perm(bytes, 0x40000000u, 0x7044u + 256 * i));
  }

  __device__ __forceinline__ float step(int block, int half) const {
    if constexpr (SCALES == CENTRED) return SPAN * half_at(scales[block / 2], block % 2);
    if constexpr (SCALES == MINIMUM) return SPAN * half_at(scales[block], 0);
    if constexpr (SCALES == BYTES) return times_byte<0>(scales[0], block, SPAN * half_at(super, 0));
    // The bytes' signs were flipped: 0 to 255 for -128 to 127.
    const int n = 2 * block + half;
    return times_byte<128>(scales[n / 4 % SCALE_WORDS], n % 4, SPAN * half_at(super, 0));
  }

  __device__ __forceinline__ float minimum(int block) const {
    if constexpr (SCALES == MINIMUM) return half_at(scales[block], 1);
    if constexpr (SCALES == BYTES) return times_byte<0>(scales[1], block, -half_at(super, 1));
    return 0.f;
  }

  __device__ __forceinline__ void weights(int block, int half, float (&w)[4]) const {
    raw(block, half, w);
    const float scale = step(block, half), base = fmaf(-BASE, scale, minimum(block));
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

// Adds up the sums of the block's threads and writes them: R rows from `first` on, for each token.
template <int T, int R>
static __device__ __forceinline__ void finish(float (&sums)[R * T], float* out, int first, int rows,
                                              int tokens) {
  constexpr int N = R * T;
  static_assert(N <= 32);
  __shared__ float parts[WARPS][N];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float sum = warp_sums<N / 2>(sums, lane);
  if (lane % (32 / N) == 0) parts[warp][lane / (32 / N)] = sum;
  __syncthreads();
  const int row = first + threadIdx.x / T, token = threadIdx.x % T;
  if (threadIdx.x < N && row < rows && token < tokens) {
    float all = 0.f;
#pragma unroll
    for (int n = 0; n < WARPS; n++) all += parts[n][threadIdx.x];
    out[size_t(token) * rows + row] = all;
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
          if constexpr (L::HAS_MINIMUM) sum = fmaf(lanes[r].minimum(part / 2), all[t], sum);
        } else {
          add_product(sum, w[0], v[0][t]);
        }
      }
    }
  }
}

template <class L, int T, int R>
static __device__ __forceinline__ void packed_product(const Planes& planes, const float* x,
                                                      float* out, int rows, int columns,
                                                      int tokens) {
  const int strip = threadIdx.x % 4, first = blockIdx.x * R, units = columns / L::COLUMNS;
  float sums[R * T] = {};
  for (int unit = threadIdx.x / 4; unit < units; unit += 8 * WARPS) {
    L lanes[R];
#pragma unroll
    for (int r = 0; r < R; r++)
      lanes[r].load(planes, uint32_t(min(first + r, rows - 1)) * units + unit, strip);
    add_lane<L, T, R>(sums, lanes, x + unit * L::COLUMNS + 4 * strip, columns, tokens);
  }
  finish<T, R>(sums, out, first, rows, tokens);
}

// For rows of 16-bit floats.
template <class E, int T, int R>
static __device__ __forceinline__ void plain_product(const E* numbers, const float* x, float* out,
                                                     int rows, int columns, int tokens) {
  const int first = blockIdx.x * R;
  float sums[R * T] = {};
  if (columns % 8 == 0) {
#pragma unroll 2
    for (int column = 8 * threadIdx.x; column < columns; column += 8 * 32 * WARPS) {
      uint32_t words[R][4];
#pragma unroll
      for (int r = 0; r < R; r++)
        load_words<4>(words[r], reinterpret_cast<const uint32_t*>(
                                    numbers + size_t(min(first + r, rows - 1)) * columns),
                      column / 8);
#pragma unroll
      for (int n = 0; n < 2; n++) {
        float4 some[T];
        load_x<T>(some, x + column + 4 * n, columns, 0, tokens);
#pragma unroll
        for (int r = 0; r < R; r++) {
          const float2 a = Packed<E>::both(words[r][2 * n]), b = Packed<E>::both(words[r][2 * n + 1]);
          const float w[4] = {a.x, a.y, b.x, b.y};
#pragma unroll
          for (int t = 0; t < T; t++) add_product(sums[r * T + t], w, some[t]);
        }
      }
    }
  } else {
    for (int column = threadIdx.x; column < columns; column += 32 * WARPS) {
#pragma unroll
      for (int r = 0; r < R; r++) {
        const E w = numbers[size_t(min(first + r, rows - 1)) * columns + column];
#pragma unroll
        for (int t = 0; t < T; t++)
          sums[r * T + t] = fmaf(Packed<E>::wide(w), x[size_t(min(t, tokens - 1)) * columns + column],
                                 sums[r * T + t]);
      }
    }
  }
  finish<T, R>(sums, out, first, rows, tokens);
}

// Rows from `first` on as 16-bit floats. `lanes` is the number of lanes of all rows to be written.
template <class L, class E>
static __device__ __forceinline__ void unpack(const Planes& planes, E* out, int first, int columns,
                                              size_t lanes) {
  const size_t n = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= lanes) return;
  const int strip = n % 4;
  L lane;
  lane.load(planes, uint32_t(first) * (columns / L::COLUMNS) + uint32_t(n / 4), strip);
  E* to = out + n / 4 * L::COLUMNS + 4 * strip;
#pragma unroll
  for (int part = 0; part < L::COLUMNS / 16; part++) {
    float w[4];
    lane.weights(part / 2, part % 2, w);
    const uint2 both = {Packed<E>::pack(w[0], w[1]), Packed<E>::pack(w[2], w[3])};
    *reinterpret_cast<uint2*>(to + 16 * part) = both;
  }
}

// out[i] = row wanted[i]
template <class L>
static __device__ __forceinline__ void take(const Planes& planes, const uint32_t* wanted, float* out,
                                            int columns) {
  const int units = columns / L::COLUMNS, strip = threadIdx.x % 4;
  for (int unit = threadIdx.x / 4; unit < units; unit += blockDim.x / 4) {
    L lane;
    lane.load(planes, wanted[blockIdx.x] * units + unit, strip);
    float* to = out + size_t(blockIdx.x) * columns + unit * L::COLUMNS + 4 * strip;
#pragma unroll
    for (int part = 0; part < L::COLUMNS / 16; part++) {
      float w[4];
      lane.weights(part / 2, part % 2, w);
      *reinterpret_cast<float4*>(to + 16 * part) = make_float4(w[0], w[1], w[2], w[3]);
    }
  }
}

#define PLANES const uint32_t *low, const uint32_t *high, const uint32_t *scales, const uint32_t *supers
#define PRODUCT(T) extern "C" __global__ void __launch_bounds__(32 * WARPS, blocks_at_once(T))
#define PACKED(NAME, T)                                                                          \
  PRODUCT(T)                                                                                     \
  matvec_##NAME##_##T(PLANES, const float* x, float* out, int rows, int columns, int tokens) {   \
    packed_product<NAME, T, ROWS>({low, high, scales, supers}, x, out, rows, columns, tokens);   \
  }
#define UNPACK(NAME, ELEMENT, E)                                                                 \
  extern "C" __global__ void unpack_##NAME##_##ELEMENT(PLANES, E* out, int first, int columns,   \
                                                       size_t lanes) {                           \
    unpack<NAME>({low, high, scales, supers}, out, first, columns, lanes);                       \
  }
#define FORMAT(NAME, LOW, HIGH, SCALES, BLOCKS)                                                  \
  using NAME = Lane<LOW, HIGH, SCALES, BLOCKS>;                                                  \
  PACKED(NAME, 1)                                                                                \
  PACKED(NAME, 2)                                                                                \
  PACKED(NAME, 4)                                                                                \
  PACKED(NAME, 8)                                                                                \
  UNPACK(NAME, f16, __half)                                                                      \
  UNPACK(NAME, bf16, __nv_bfloat16)                                                              \
  extern "C" __global__ void take_##NAME(PLANES, const uint32_t* wanted,                         \
                                         const __grid_constant__ FewRows few, float* out,        \
                                         int columns) {                                          \
    take<NAME>({low, high, scales, supers}, wanted ? wanted : few.rows, out, columns);           \
  }
FORMAT(q4_0, 4, 0, CENTRED, 1)
FORMAT(q4_1, 4, 0, MINIMUM, 1)
FORMAT(q5_0, 4, 1, CENTRED, 1)
FORMAT(q5_1, 4, 1, MINIMUM, 1)
FORMAT(q8_0, 8, 0, CENTRED, 1)
FORMAT(q4_0_wide, 4, 0, CENTRED, 4)
FORMAT(q4_1_wide, 4, 0, MINIMUM, 4)
FORMAT(q5_0_wide, 4, 1, CENTRED, 4)
FORMAT(q5_1_wide, 4, 1, MINIMUM, 4)
FORMAT(q8_0_wide, 8, 0, CENTRED, 4)
FORMAT(q3_k, 4, 0, SIGNED, 4)
FORMAT(q4_k, 4, 0, BYTES, 4)
FORMAT(q5_k, 4, 1, BYTES, 4)
FORMAT(q6_k, 4, 2, SIGNED, 4)

#define PLAIN(NAME, E, T)                                                                        \
  PRODUCT(T)                                                                                     \
  matvec_##NAME##_##T(const E* numbers, const float* x, float* out, int rows, int columns,       \
                      int tokens) {                                                              \
    plain_product<E, T, ROWS>(numbers, x, out, rows, columns, tokens);                           \
  }
PLAIN(f16, __half, 1)
PLAIN(f16, __half, 2)
PLAIN(f16, __half, 4)
PLAIN(f16, __half, 8)
PLAIN(bf16, __nv_bfloat16, 1)
PLAIN(bf16, __nv_bfloat16, 2)
PLAIN(bf16, __nv_bfloat16, 4)
PLAIN(bf16, __nv_bfloat16, 8)
