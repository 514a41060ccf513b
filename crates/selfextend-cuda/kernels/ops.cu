// What a decoder does between its matrix products and attention, on f32 activations
// [rows][width]. All of it is bound by memory; a block takes a row, or threads take elements.
#include "common.cuh"

// The sum over a block of at most 1024 threads, for every thread.
static __device__ float block_sum(float x) {
  __shared__ float sums[32];
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();  // the sums of an earlier call have been read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  x = threadIdx.x % 32 < blockDim.x / 32 ? sums[threadIdx.x % 32] : 0.f;
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

extern "C" __global__ void rms_norm(const float* x, const float* weight, float* out, int width,
                                    float eps) {
  const float* from = x + size_t(blockIdx.x) * width;
  float* to = out + size_t(blockIdx.x) * width;
  float squares = 0.f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) squares += from[i] * from[i];
  const float scale = rsqrtf(block_sum(squares) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i] * scale * weight[i];
}

// gate = silu(gate) * up
extern "C" __global__ void silu_gate(float* gate, const float* up, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) gate[i] = gate[i] / (1.f + expf(-gate[i])) * up[i];
}

extern "C" __global__ void add(float* x, const float* y, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] += y[i];
}

extern "C" __global__ void add_bias(float* x, const float* bias, int width, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] += bias[i % width];
}

// out[i] = x[rows[i]]
extern "C" __global__ void take_rows(const float* x, const uint32_t* rows, float* out, int width) {
  const float* from = x + size_t(rows[blockIdx.x]) * width;
  float* to = out + size_t(blockIdx.x) * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

template <class T>
static __device__ __forceinline__ void widen_rows(const T* x, const uint32_t* rows, float* out,
                                                  int width) {
  const T* from = x + size_t(rows[blockIdx.x]) * width;
  float* to = out + size_t(blockIdx.x) * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = Packed<T>::wide(from[i]);
}

template <class T>
static __device__ __forceinline__ void narrow(const float* x, T* out, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) out[i] = Packed<T>::one(x[i]);
}

template <class T>
static __device__ __forceinline__ void widen(const T* x, float* out, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) out[i] = Packed<T>::wide(x[i]);
}

#define CONVERSIONS(NAME, T)                                                                     \
  extern "C" __global__ void take_##NAME(const T* x, const uint32_t* rows, float* out, int width) { \
    widen_rows(x, rows, out, width);                                                             \
  }                                                                                              \
  extern "C" __global__ void to_##NAME(const float* x, T* out, size_t len) { narrow(x, out, len); } \
  extern "C" __global__ void from_##NAME(const T* x, float* out, size_t len) { widen(x, out, len); }
CONVERSIONS(f16, __half)
CONVERSIONS(bf16, __nv_bfloat16)
