// Linear layers: out[t] = matrix · x[t], activations and sums in f32, for weights in the blocks of
// their files (src/packed.rs puts their parts into planes) and for plain 16-bit floats.
//
// matvec_* serve few tokens, at most T. The warps of a block share R rows; each lane loads its weights
// of all R rows at once, unpacks them in registers and multiplies them by x, which stays in f32.
// unpack_* write rows of a packed matrix as 16-bit floats, for cuBLAS; take_* write some of its rows
// as floats.
#include "linear.cuh"

constexpr int ROWS = 4;  // SHARED_ROWS in src/linear.rs
// Blocks that a multiprocessor should hold, by tokens: enough to keep the loads in flight.
constexpr int blocks_at_once(int tokens) { return tokens == 1 ? 5 : tokens <= 4 ? 4 : 3; }

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
#define LAYOUT(NAME)                                                                             \
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
using q4_0 = Lane<4, 0, CENTRED, 1>;
using q4_1 = Lane<4, 0, MINIMUM, 1>;
using q5_0 = Lane<4, 1, CENTRED, 1>;
using q5_1 = Lane<4, 1, MINIMUM, 1>;
using q8_0 = Lane<8, 0, CENTRED, 1>;
using iq4_nl = Lane<4, 0, CENTRED, 1, IQ4>;
using mxfp4 = Lane<4, 0, POWERS, 1, FP4>;
LAYOUT(q4_0)
LAYOUT(q4_1)
LAYOUT(q5_0)
LAYOUT(q5_1)
LAYOUT(q8_0)
LAYOUT(iq4_nl)
LAYOUT(mxfp4)
WIDE_LAYOUTS(LAYOUT)

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

// Floats, for routers: what they give chooses experts, so nothing is rounded. A block takes a row.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    matvec_f32(const float* numbers, const float* x, float* out, int rows, int columns, int tokens) {
  constexpr int T = 8;
  const float* row = numbers + size_t(blockIdx.x) * columns;
  float sums[T] = {};
#pragma unroll 2
  for (int column = threadIdx.x; column < columns; column += 32 * WARPS) {
    const float w = row[column];
#pragma unroll
    for (int t = 0; t < T; t++)
      if (t < tokens) sums[t] = fmaf(w, x[size_t(t) * columns + column], sums[t]);
  }
  finish<T, 1>(sums, out, blockIdx.x, rows, tokens);
}
