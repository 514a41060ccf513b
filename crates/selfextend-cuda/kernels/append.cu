// Rotates the queries of new tokens for every region and stores their keys and values: what any
// engine does before attention, with two positions for a key instead of one.
//
// Angles are computed in f64 from positions and frequencies and rounded once, as on the CPU
// (rope.rs); a block computes those of its token for all heads.
//
// Values and the first plane of keys may be stored as bytes, with a half-float scale for each 32
// components; `unpack` makes 16-bit floats of them for the prefill kernels.
#include "common.cuh"

template <class T, class In>
static __device__ __forceinline__ float widen(In x) {
  if constexpr (sizeof(In) == 4) return x;
  else return Packed<T>::wide(x);
}

// Rounds a row of floats to bytes: its threads have two components each, and sixteen of them a
// scale, by which the largest becomes 127 (quantized.rs has the same rule).
static __device__ __forceinline__ void quantize(const float* from, int8_t* to, __half* scales) {
  const int t = threadIdx.x, lane = (threadIdx.y * blockDim.x + t) % 32;
  const float x = from[2 * t], y = from[2 * t + 1];
  float most = fmaxf(fabsf(x), fabsf(y));
  for (int step = 8; step > 0; step /= 2)
    most = fmaxf(most, __shfl_xor_sync(0xffffu << (lane & 16), most, step));
  // Bytes belong to the scale that is stored, not to the one before rounding.
  const __half scale = __float2half_rn(most / 127.f);
  const float wide = __half2float(scale), inverse = wide > 0.f ? 1.f / wide : 0.f;
  auto byte = [&](float x) {
    return static_cast<signed char>(max(-127, min(127, __float2int_rn(x * inverse))));
  };
  reinterpret_cast<char2*>(to)[t] = make_char2(byte(x), byte(y));
  if (t % 16 == 0) scales[t / 16] = scale;
}

template <class T, class In, bool BYTES>
static __device__ __forceinline__ void append(const AppendArgs& a) {
  __shared__ float rows[512];  // of bytes to be, one for each threadIdx.y
  extern __shared__ float2 angles[];  // [regions + planes][pairs]: cosine, sine
  const int token = blockIdx.x, slots = a.regions + a.planes;
  const int dim = blockDim.x * 2;  // a thread for each pair and each other two components
  for (int at = threadIdx.y * blockDim.x + threadIdx.x; at < slots * a.pairs;
       at += blockDim.x * blockDim.y) {
    const int slot = at / a.pairs, pair = at % a.pairs;
    const double position = slot < a.regions
                             ? a.q_positions[slot * a.stride + token]
                             : a.k_positions[(slot - a.regions) * a.stride + token];
    double sine, cosine;
    sincos(position * a.frequencies[pair], &sine, &cosine);
    angles[at] = make_float2(float(cosine * a.magnitude), float(sine * a.magnitude));
  }
  __syncthreads();

  const int t = threadIdx.x;
  const bool rotated = t < a.pairs;
  const int x_at = !rotated || a.interleaved ? 2 * t : t;
  const int y_at = !rotated || a.interleaved ? 2 * t + 1 : t + a.pairs;
  auto turn = [&](int slot, float x, float y) {
    if (!rotated) return make_float2(x, y);
    const float2 angle = angles[slot * a.pairs + t];
    return make_float2(x * angle.x - y * angle.y, x * angle.y + y * angle.x);
  };
  const float factor = a.q_factors ? a.q_factors[token] : 1.f;
  auto read = [&](const void* x, size_t at, int component) {
    return component < a.head_dim ? widen<T>(static_cast<const In*>(x)[at + component]) : 0.f;
  };
  auto put = [&](T* to, float2 z) {
    to[x_at] = Packed<T>::one(z.x);
    to[y_at] = Packed<T>::one(z.y);
  };
  for (int head = threadIdx.y; head < a.heads; head += blockDim.y) {
    const size_t from = size_t(token) * a.q_stride + head * a.head_dim;
    const float x = read(a.q, from, x_at) * factor, y = read(a.q, from, y_at) * factor;
    for (int r = 0; r < a.regions; r++)
      put(static_cast<T*>(a.q_out[r]) + (size_t(token) * a.heads + head) * dim, turn(r, x, y));
  }

  const uint32_t key = a.start + token;
  for (int first = 0; first < 2 * a.kv_heads; first += blockDim.y) {
    const int head = first + threadIdx.y;  // keys', then values'
    const bool is_key = head < a.kv_heads, is_there = head < 2 * a.kv_heads;
    const int kv_head = head - (is_key ? 0 : a.kv_heads);
    const size_t place = size_t(kv_head) * a.capacity + key;  // also in the first plane of keys
    float* row = rows + threadIdx.y * dim;
    if (is_there) {
      const size_t from = size_t(token) * a.kv_stride + kv_head * a.head_dim;
      const void* source = is_key ? a.k : a.v;
      const float x = read(source, from, x_at), y = read(source, from, y_at);
      const float2 z = is_key ? turn(a.regions, x, y) : make_float2(x, y);
      if constexpr (BYTES)
        row[x_at] = z.x, row[y_at] = z.y;
      else
        put(static_cast<T*>(is_key ? a.k_out[0] : a.v_out) + place * dim, z);
      for (int p = 1; is_key && p < a.planes; p++) {
        if (a.anchored >> p & 1 && key >= a.ring[p]) continue;
        const size_t slot = size_t(kv_head) * a.ring[p] + key % a.ring[p];
        put(static_cast<T*>(a.k_out[p]) + slot * dim, turn(a.regions + p, x, y));
      }
    }
    if constexpr (BYTES) {
      __syncthreads();  // a row may be of two warps
      if (is_there)
        quantize(row, static_cast<int8_t*>(is_key ? a.k_out[0] : a.v_out) + place * dim,
                 (is_key ? a.k_scales : a.v_scales) + place * (dim / BLOCK));
      __syncthreads();
    }
  }
}

#define APPEND(NAME, T, IN_NAME, IN)                                        \
  extern "C" __global__ void append_##NAME##_from_##IN_NAME(                \
      const __grid_constant__ AppendArgs a) {                               \
    append<T, IN, false>(a);                                                \
  }                                                                         \
  extern "C" __global__ void append_bytes_##NAME##_from_##IN_NAME(          \
      const __grid_constant__ AppendArgs a) {                               \
    append<T, IN, true>(a);                                                 \
  }
APPEND(f16, __half, f32, float)
APPEND(f16, __half, f16, __half)
APPEND(bf16, __nv_bfloat16, f32, float)
APPEND(bf16, __nv_bfloat16, bf16, __nv_bfloat16)

// Rows of keys (blockIdx.z 0) and values (1) of each head, from `first` on, for `slots` of them;
// those from `stored` on are zeros. A thread has sixteen components.
template <class T>
static __device__ __forceinline__ void unpack(const UnpackArgs& a) {
  const int pieces = a.dim / 16, at = blockIdx.x * blockDim.x + threadIdx.x;
  const int slot = a.first + at / pieces, piece = at % pieces;
  if (slot >= a.slots) return;
  uint4 bytes = make_uint4(0, 0, 0, 0);
  __half scale = 0;
  if (slot < a.stored) {
    const size_t row = size_t(blockIdx.y) * a.capacity + slot;
    bytes = *reinterpret_cast<const uint4*>(a.bytes[blockIdx.z] + row * a.dim + piece * 16);
    scale = a.scales[blockIdx.z][row * (a.dim / BLOCK) + piece / 2];
  }
  auto four = [&](uint32_t word) { return Packed<T>::scaled(word, __half2half2(scale)); };
  const uint2 w[4] = {four(bytes.x), four(bytes.y), four(bytes.z), four(bytes.w)};
  const size_t row = (size_t(blockIdx.z) * gridDim.y + blockIdx.y) * a.slots + slot;
  uint4* to = reinterpret_cast<uint4*>(static_cast<T*>(a.out) + row * a.dim + piece * 16);
  to[0] = make_uint4(w[0].x, w[0].y, w[1].x, w[1].y);
  to[1] = make_uint4(w[2].x, w[2].y, w[3].x, w[3].y);
}

extern "C" __global__ void unpack_f16(const __grid_constant__ UnpackArgs a) { unpack<__half>(a); }
extern "C" __global__ void unpack_bf16(const __grid_constant__ UnpackArgs a) {
  unpack<__nv_bfloat16>(a);
}
