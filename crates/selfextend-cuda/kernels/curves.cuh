// Activation functions.
#pragma once

static __device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
static __device__ __forceinline__ float silu(float x) { return x / (1.f + expf(-x)); }
static __device__ __forceinline__ float gelu(float x) { return 0.5f * x * erfcf(-x * 0.70710678f); }
static __device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}
static __device__ __forceinline__ float gelu_sigmoid(float x) { return x / (1.f + expf(-1.702f * x)); }
static __device__ __forceinline__ float relu(float x) { return x < 0.f ? 0.f : x; }
static __device__ __forceinline__ float relu_squared(float x) { return relu(x) * relu(x); }

// By its number (`Curve` of src/ops.rs).
static __device__ __forceinline__ float curve_of(int curve, float x) {
  switch (curve) {
    case 0: return silu(x);
    case 1: return gelu(x);
    case 2: return gelu_tanh(x);
    case 3: return gelu_sigmoid(x);
    case 4: return relu(x);
    default: return relu_squared(x);
  }
}
