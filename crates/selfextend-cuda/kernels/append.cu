// Rotates the queries of new tokens for every region and stores their keys and values, as any engine
// does before attention, but with a position for each plane of keys instead of one.
//
// Angles are computed in f64 from positions and frequencies and rounded once, as on the CPU
// (rope.rs); a block computes those of its token for all heads.
//
// Values and the first plane of keys may be stored as bytes, with a half-float scale for each 32
// components; `unpack` makes 16-bit floats of them for the prefill kernels.
//
// The keys of other planes are rotated from those of the first as they are stored there, so that
// `derive` can make them again, bit for bit: its arithmetic is `append`'s, by the same functions,
// which leave the compiler no choice of what to fuse.
#include "common.cuh"

template <class T, class In>
static __device__ __forceinline__ float widen(In x) {
  if constexpr (sizeof(In) == 4) return x;
  else return Packed<T>::wide(x);
}

// Cosine and sine of a rotation, rounded once.
static __device__ __forceinline__ float2 angle_of(double position, double frequency,
                                                  double magnitude) {
  double sine, cosine;
  sincos(__dmul_rn(position, frequency), &sine, &cosine);
  return make_float2(float(__dmul_rn(cosine, magnitude)), float(__dmul_rn(sine, magnitude)));
}

static __device__ __forceinline__ float2 rotate(float2 angle, float x, float y) {
  return make_float2(__fmaf_rn(x, angle.x, -__fmul_rn(y, angle.y)),
                     __fmaf_rn(x, angle.y, __fmul_rn(y, angle.x)));
}

// The two components that a thread rotates, or only stores where there are fewer pairs.
struct Pair {
  int x, y;
  bool rotated;
};
static __device__ __forceinline__ Pair pair_of(int thread, int pairs, bool interleaved) {
  const bool rotated = thread < pairs;
  const bool halves = rotated && !interleaved;
  return {halves ? thread : 2 * thread, halves ? thread + pairs : 2 * thread + 1, rotated};
}

// Stores a thread's two components, and returns their values after rounding.
template <class T>
static __device__ __forceinline__ float2 store(T* to, Pair at, float2 z) {
  const T x = Packed<T>::one(z.x), y = Packed<T>::one(z.y);
  to[at.x] = x, to[at.y] = y;
  return make_float2(Packed<T>::wide(x), Packed<T>::wide(y));
}

// What the products take of a byte: the number that `unpack` makes of it.
template <class T>
static __device__ __forceinline__ float widen_byte(int byte, float scale) {
  return Packed<T>::wide(Packed<T>::one(__fmul_rn(float(byte), scale)));
}

// Rounds a row of floats to bytes, and leaves in it the values of these. Each thread has two
// components, and each sixteen threads share a scale, by which the largest becomes 127 (the rule of
// quantized.rs in the attention crate).
template <class T>
static __device__ __forceinline__ void quantize(float* from, int8_t* to, __half* scales) {
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
  const char2 bytes = make_char2(byte(x), byte(y));
  reinterpret_cast<char2*>(to)[t] = bytes;
  if (t % 16 == 0) scales[t / 16] = scale;
  from[2 * t] = widen_byte<T>(bytes.x, wide);
  from[2 * t + 1] = widen_byte<T>(bytes.y, wide);
}

template <class T, class In, bool BYTES>
static __device__ __forceinline__ void append(const AppendArgs& a) {
  __shared__ float rows[512];  // to be rounded to bytes, one row for each threadIdx.y
  extern __shared__ float2 angles[];  // [regions + planes][pairs]: cosine, sine
  const int token = blockIdx.x, slots = a.regions + a.planes;
  const int dim = blockDim.x * 2;  // a thread for each pair and each other two components
  for (int at = threadIdx.y * blockDim.x + threadIdx.x; at < slots * a.pairs;
       at += blockDim.x * blockDim.y) {
    const int slot = at / a.pairs;
    const double frequency = a.frequencies[at % a.pairs];
    // Queries and the first plane from nothing, other planes from the first.
    if (slot < a.regions) {
      angles[at] = angle_of(a.q_positions[slot * a.stride + token], frequency, a.magnitude);
    } else if (slot == a.regions) {
      angles[at] = angle_of(a.k_positions[token], frequency, a.magnitude);
    } else {
      const double there = a.k_positions[(slot - a.regions) * a.stride + token];
      angles[at] = angle_of(__dsub_rn(there, a.k_positions[token]), frequency, 1.0);
    }
  }
  __syncthreads();

  const int t = threadIdx.x;
  const Pair at = pair_of(t, a.pairs, a.interleaved);
  auto turn = [&](int slot, float x, float y) {
    return at.rotated ? rotate(angles[slot * a.pairs + t], x, y) : make_float2(x, y);
  };
  const float factor = a.q_factors ? a.q_factors[token] : 1.f;
  auto read = [&](const void* x, size_t at, int component) {
    return component < a.head_dim ? widen<T>(static_cast<const In*>(x)[at + component]) : 0.f;
  };
  auto put = [&](T* to, float2 z) { return store(to, at, z); };
  for (int head = threadIdx.y; head < a.heads; head += blockDim.y) {
    const size_t from = size_t(token) * a.q_stride + head * a.head_dim;
    const float x = read(a.q, from, at.x) * factor, y = read(a.q, from, at.y) * factor;
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
    float2 z = make_float2(0.f, 0.f);
    if (is_there) {
      const size_t from = size_t(token) * a.kv_stride + kv_head * a.head_dim;
      const void* source = is_key ? a.k : a.v;
      const float x = read(source, from, at.x), y = read(source, from, at.y);
      z = is_key ? turn(a.regions, x, y) : make_float2(x, y);
    }
    if constexpr (BYTES) {
      row[at.x] = z.x, row[at.y] = z.y;
      __syncthreads();  // a row may be of two warps
      if (is_there)
        quantize<T>(row, static_cast<int8_t*>(is_key ? a.k_out[0] : a.v_out) + place * dim,
                    (is_key ? a.k_scales : a.v_scales) + place * (dim / BLOCK));
      __syncthreads();
      z = make_float2(row[at.x], row[at.y]);  // no other thread writes there before the barrier
    } else if (is_there) {
      z = put(static_cast<T*>(is_key ? a.k_out[0] : a.v_out) + place * dim, z);
    }
    for (int p = 1; is_there && is_key && p < a.planes; p++) {
      if (a.anchored >> p & 1 && key >= a.ring[p]) continue;
      const size_t slot = size_t(kv_head) * a.ring[p] + key % a.ring[p];
      put(static_cast<T*>(a.k_out[p]) + slot * dim, turn(a.regions + p, z.x, z.y));
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

// Makes the keys of a plane again, from those that the first plane holds: a block does one key of
// all heads.
template <class T, bool BYTES>
static __device__ __forceinline__ void derive(const DeriveArgs& a) {
  extern __shared__ float2 angles[];  // [pairs]
  const int t = threadIdx.x, token = blockIdx.x, dim = blockDim.x * 2;
  const uint32_t key = a.start + token;
  const double delta = __dsub_rn(a.positions[gridDim.x + token], a.positions[token]);
  for (int pair = threadIdx.y * blockDim.x + t; pair < a.pairs; pair += blockDim.x * blockDim.y)
    angles[pair] = angle_of(delta, a.frequencies[pair], 1.0);
  __syncthreads();
  const Pair at = pair_of(t, a.pairs, a.interleaved);
  for (int head = threadIdx.y; head < a.kv_heads; head += blockDim.y) {
    const size_t place = size_t(head) * a.capacity + key;
    auto stored = [&](int component) {
      if constexpr (BYTES) {
        const __half scale = a.scales[place * (dim / BLOCK) + component / BLOCK];
        const int8_t byte = static_cast<const int8_t*>(a.stored)[place * dim + component];
        return widen_byte<T>(byte, __half2float(scale));
      } else {
        return Packed<T>::wide(static_cast<const T*>(a.stored)[place * dim + component]);
      }
    };
    float2 z = make_float2(stored(at.x), stored(at.y));
    if (at.rotated) z = rotate(angles[t], z.x, z.y);
    store(static_cast<T*>(a.out) + (size_t(head) * a.ring + key % a.ring) * dim, at, z);
  }
}

#define DERIVE(NAME, T)                                                                  \
  extern "C" __global__ void derive_##NAME(const __grid_constant__ DeriveArgs a) {       \
    derive<T, false>(a);                                                                 \
  }                                                                                      \
  extern "C" __global__ void derive_bytes_##NAME(const __grid_constant__ DeriveArgs a) { \
    derive<T, true>(a);                                                                  \
  }
DERIVE(f16, __half)
DERIVE(bf16, __nv_bfloat16)

// Consecutive rows of each head (blockIdx.y) between a cache and a block of shared tokens, of
// whatever type: blockIdx.z is keys, values, and the scales of both where they are bytes.
extern "C" __global__ void copy_rows(const __grid_constant__ CopyArgs a) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, what = blockIdx.z, kind = what / 2;
  if (at >= a.count[kind]) return;
  const size_t head = blockIdx.y;
  a.to[what][head * a.to_pitch[kind] + at] = a.from[what][head * a.from_pitch[kind] + at];
}

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
