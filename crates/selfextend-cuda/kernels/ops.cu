// The operations of a decoder between its matrix products and attention, on f32 activations
// [rows][width]. All of them are bound by memory; a block takes a row, or threads take elements.
#include "common.cuh"
#include "curves.cuh"

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

// Subtracts the mean and divides by the deviation; `bias` may be null.
extern "C" __global__ void layer_norm(const float* x, const float* weight, const float* bias,
                                      float* out, int width, float eps) {
  const float* from = x + size_t(blockIdx.x) * width;
  float* to = out + size_t(blockIdx.x) * width;
  float sum = 0.f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += from[i];
  const float mean = block_sum(sum) / width;
  float squares = 0.f;
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    squares += (from[i] - mean) * (from[i] - mean);
  const float scale = rsqrtf(block_sum(squares) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    to[i] = (from[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.f);
}

// x = f(x); gate = f(gate) * up
#define ACTIVATION(F)                                                              \
  extern "C" __global__ void F##_alone(float* x, size_t len) {                     \
    const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;                \
    if (i < len) x[i] = F(x[i]);                                                   \
  }                                                                                \
  extern "C" __global__ void F##_gate(float* gate, const float* up, size_t len) {  \
    const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;                \
    if (i < len) gate[i] = F(gate[i]) * up[i];                                     \
  }
ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(gelu_tanh)
ACTIVATION(gelu_sigmoid)
ACTIVATION(relu)
ACTIVATION(relu_squared)

extern "C" __global__ void xielu(float* x, float positive, float negative, float beta, float epsilon,
                                 size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= len) return;
  const float v = x[i];
  const float low = v > epsilon ? epsilon : v;
  x[i] = v > 0.f ? positive * v * v + beta * v : (expm1f(low) - v) * negative + beta * v;
}

extern "C" __global__ void scale(float* x, float factor, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] *= factor;
}

extern "C" __global__ void clamp(float* x, float limit, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  // What is not a number stays.
  if (i < len && fabsf(x[i]) > limit) x[i] = copysignf(limit, x[i]);
}

extern "C" __global__ void soft_cap(float* x, float cap, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] = cap * tanhf(x[i] / cap);
}

extern "C" __global__ void add(float* x, const float* y, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] += y[i];
}

extern "C" __global__ void add_bias(float* x, const float* bias, int width, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] += bias[i % width];
}

extern "C" __global__ void multiply(float* x, const float* weights, int width, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] *= weights[i % width];
}

// x[t] *= 1 / (1 + e^-gate[t])
extern "C" __global__ void weigh(float* x, const float* gate, int width, size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) x[i] *= sigmoid(gate[i / width]);
}

// For each row of logits, the logarithm of its target's probability, and whether no other is more
// probable (of equals, the first counts as the most probable).
extern "C" __global__ void score_rows(const float* logits, const uint32_t* targets, double* out,
                                      int width) {
  __shared__ float tops[32];
  __shared__ int places[32];
  const float* row = logits + size_t(blockIdx.x) * width;
  float top = MINUS_INFINITY;
  int place = width;
  auto better = [](float x, int i, float y, int j) { return x > y || (x == y && i < j); };
  auto reduce = [&]() {
    for (int step = 16; step > 0; step /= 2) {
      const float x = __shfl_xor_sync(0xffffffffu, top, step);
      const int i = __shfl_xor_sync(0xffffffffu, place, step);
      if (better(x, i, top, place)) top = x, place = i;
    }
  };
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    if (better(row[i], i, top, place)) top = row[i], place = i;
  reduce();
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top, places[threadIdx.x / 32] = place;
  __syncthreads();
  const bool there = threadIdx.x % 32 < blockDim.x / 32;
  top = there ? tops[threadIdx.x % 32] : MINUS_INFINITY;
  place = there ? places[threadIdx.x % 32] : width;
  reduce();
  float sum = 0.f;  // of 200 terms or so each, then of the block's
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += expf(row[i] - top);
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const int target = targets[blockIdx.x];
    out[2 * blockIdx.x] = double(row[target] - top) - log(double(sum));
    out[2 * blockIdx.x + 1] = place == target;
  }
}

// out[i] = x[rows[i]]
extern "C" __global__ void take_rows(const float* x, const uint32_t* rows,
                                     const __grid_constant__ FewRows few, float* out, int width) {
  const float* from = x + size_t((rows ? rows : few.rows)[blockIdx.x]) * width;
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

// The first `width` of every `pitch` numbers.
template <class T>
static __device__ __forceinline__ void widen(const T* x, float* out, int width, int pitch,
                                             size_t len) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < len) out[i] = Packed<T>::wide(x[i / width * pitch + i % width]);
}

#define CONVERSIONS(NAME, T)                                                                     \
  extern "C" __global__ void take_##NAME(const T* x, const uint32_t* rows,                       \
                                         const __grid_constant__ FewRows few, float* out,        \
                                         int width) {                                            \
    widen_rows(x, rows ? rows : few.rows, out, width);                                           \
  }                                                                                              \
  extern "C" __global__ void to_##NAME(const float* x, T* out, size_t len) { narrow(x, out, len); } \
  extern "C" __global__ void from_##NAME(const T* x, float* out, int width, int pitch,          \
                                          size_t len) {                                          \
    widen(x, out, width, pitch, len);                                                            \
  }
CONVERSIONS(f16, __half)
CONVERSIONS(bf16, __nv_bfloat16)
