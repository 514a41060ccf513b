// Rotates the queries of new tokens for every region and stores their keys and values: what any
// engine does before attention, with two positions for a key instead of one.
//
// Angles are computed in f64 from positions and frequencies and rounded once, as on the CPU
// (rope.rs); a block computes those of its token for all heads.
#include "common.cuh"

template <class T, class In>
static __device__ __forceinline__ float widen(In x) {
  if constexpr (sizeof(In) == 4) return x;
  else return Packed<T>::wide(x);
}

template <class T, class In>
static __device__ __forceinline__ void append(const AppendArgs& a) {
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
  for (int head = threadIdx.y; head < a.heads + 2 * a.kv_heads; head += blockDim.y) {
    if (head < a.heads) {
      const size_t from = size_t(token) * a.q_stride + head * a.head_dim;
      const float x = read(a.q, from, x_at) * factor, y = read(a.q, from, y_at) * factor;
      for (int r = 0; r < a.regions; r++) {
        const float2 z = turn(r, x, y);
        T* to = static_cast<T*>(a.q_out[r]) + (size_t(token) * a.heads + head) * dim;
        to[x_at] = Packed<T>::one(z.x);
        to[y_at] = Packed<T>::one(z.y);
      }
      continue;
    }
    const bool is_key = head < a.heads + a.kv_heads;
    const int kv_head = head - a.heads - (is_key ? 0 : a.kv_heads);
    const void* rows = is_key ? a.k : a.v;
    const size_t from = size_t(token) * a.kv_stride + kv_head * a.head_dim;
    const float x = read(rows, from, x_at), y = read(rows, from, y_at);
    const uint32_t key = a.start + token;
    if (!is_key) {
      T* to = static_cast<T*>(a.v_out) + (size_t(kv_head) * a.capacity + key) * dim;
      to[x_at] = Packed<T>::one(x);
      to[y_at] = Packed<T>::one(y);
      continue;
    }
    for (int p = 0; p < a.planes; p++) {
      if (a.anchored >> p & 1 && key >= a.ring[p]) continue;
      const float2 z = turn(a.regions + p, x, y);
      T* to = static_cast<T*>(a.k_out[p]) + (size_t(kv_head) * a.ring[p] + key % a.ring[p]) * dim;
      to[x_at] = Packed<T>::one(z.x);
      to[y_at] = Packed<T>::one(z.y);
    }
  }
}

#define APPEND(NAME, T, IN_NAME, IN)                                        \
  extern "C" __global__ void append_##NAME##_from_##IN_NAME(                \
      const __grid_constant__ AppendArgs a) {                               \
    append<T, IN>(a);                                                       \
  }
APPEND(f16, __half, f32, float)
APPEND(f16, __half, f16, __half)
APPEND(bf16, __nv_bfloat16, f32, float)
APPEND(bf16, __nv_bfloat16, bf16, __nv_bfloat16)
