// What the kernels share: the argument structures (mirrored in src/launch/arguments.rs), the tiles of
// a region, and wrappers of the tensor-core, shared-memory and asynchronous-copy instructions of
// sm_80 and later.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>

constexpr int MAX_REGIONS = 3;
constexpr int MAX_PLANES = 1 + MAX_REGIONS;
constexpr int MAX_SEQUENCES = 16;  // of one decode launch

// One region of keys (lowering.rs of the attention crate): of query i, those from spans[r][0][i] up
// to spans[r][1][i].
struct Region {
  const void* q;   // queries rotated for this region: [tokens][heads][D]
  const void* k;   // keys rotated for this region: [kv_heads][ring][D]; key j is in slot j % ring
  uint32_t ring;   // slots; a multiple of 128
  float bend;      // what scores are multiplied by before their soft cap's tanh; 0 without one
};

struct PrefillArgs {
  Region regions[MAX_REGIONS];
  const void* v;      // [kv_heads][capacity][D]
  void* out;          // [tokens][heads][D]
  const int* spans;   // [regions][2][stride]: first key, and the one after the last; never decrease
  int stride;         // tokens of all sequences of the pass
  int count;          // regions
  int tokens;         // new tokens of this sequence
  int heads;
  int kv_heads;
  int capacity;       // slots of v for each head
  int keys;           // keys stored, the new tokens included
  float scale;        // of the scores (with a soft cap, of their tanh), times log2(e)
};

// One sequence of a decode step. Keys of regions with scales are bytes; values are too, with theirs.
struct DecodeSequence {
  const void* k[MAX_REGIONS];
  const void* v;
  const __half* k_scales[MAX_REGIONS];  // [kv_heads][ring][D / 32], or null
  const __half* v_scales;               // [kv_heads][capacity][D / 32]
  uint32_t ring[MAX_REGIONS];
  int low[MAX_REGIONS];   // keys that some new token sees in each region: the first,
  int high[MAX_REGIONS];  // and the one after the last
  int keys;
  int row;     // its first token in the packed step
  int tokens;
  int capacity;
  int unused;
};

struct DecodeArgs {
  const void* q[MAX_REGIONS];  // [tokens][heads][D] for each region
  void* out;
  const int* spans;            // [regions][2][tokens]
  float* partial;              // [sequence][kv head][row block][split][16][D]
  float2* states;              // [sequence][kv head][row block][split][16]: maximum, sum
  unsigned* arrived;           // [sequence][kv head][row block], zero between launches
  int count;
  int tokens;                  // of all sequences
  int heads;
  int kv_heads;
  float scale;
  float bend;  // as in Region
  DecodeSequence sequences[MAX_SEQUENCES];
};

struct AppendArgs {
  const void* q;  // [tokens][heads][head_dim] before rotation; rows are *_stride elements apart
  const void* k;  // [tokens][kv_heads][head_dim]
  const void* v;
  void* q_out[MAX_REGIONS];
  void* k_out[MAX_PLANES];
  void* v_out;
  __half* k_scales;  // of k_out[0] and v_out where they are bytes, [kv_heads][slots][D / 32]
  __half* v_scales;
  const double* q_positions;  // [regions][stride]
  const double* k_positions;  // [planes][stride]
  const float* q_factors;     // [tokens], or null
  const double* frequencies;
  uint32_t ring[MAX_PLANES];
  int regions;
  int planes;  // rotations that keys are stored in
  int pairs;        // rotated pairs
  int interleaved;  // pairs (2t, 2t + 1) rather than (t, t + pairs)
  float magnitude;  // of rotated components
  int stride;       // tokens of all sequences of the pass
  int start;        // keys stored before
  int heads;
  int kv_heads;
  int capacity;
  int q_stride;
  int kv_stride;
  int head_dim;  // components of a head in q, k and v; the rest of D is stored as zeros
  int anchored;  // a bit for each plane that holds the first keys of all, not the newest
};

struct UnpackArgs {
  const int8_t* bytes[2];  // keys, values: [kv_heads][capacity][dim]
  const __half* scales[2];
  void* out;  // [2][kv_heads][slots][dim]
  int dim;
  int capacity;
  int slots;
  int first;   // slot that is written, with all after it
  int stored;  // slots that hold a token
  int unused;
};

struct DeriveArgs {
  const void* stored;    // [kv_heads][capacity][D], the first plane of keys
  const __half* scales;  // of them where they are bytes
  void* out;             // [kv_heads][ring][D]
  const double* positions;  // [2][keys]: in the first plane, in this one
  const double* frequencies;
  uint32_t ring;
  int pairs;
  int interleaved;
  int start;  // the first key
  int kv_heads;
  int capacity;
};

// In units of 16 bytes.
struct CopyArgs {
  const uint4* from[4];  // keys, values, their scales
  uint4* to[4];
  int count[2];  // of each head: of numbers, of scales
  int from_pitch[2];
  int to_pitch[2];
};

// The tiles of WIDTH keys of a region that a block of queries visits, from left to right: the one
// rule of all kernels, and `Tiles` in lowering.rs of the attention crate. `low` is the first key of a
// query, `high` the key after its last; neither decreases from query to query.
template <int WIDTH>
struct Tiles {
  int low_first, low_last, high_first, high_last;  // of the block's first and last query

  // Of the queries first to last, whose spans are low[query], high[query].
  static __device__ __forceinline__ Tiles of(const int* low, const int* high, int first, int last) {
    return {low[first], low[last], high[first], high[last]};
  }
  // Whether there is none; `begin` and `end` mean nothing then.
  __device__ __forceinline__ bool is_empty() const { return high_last <= low_first; }
  __device__ __forceinline__ int begin() const { return low_first / WIDTH; }
  __device__ __forceinline__ int end() const { return (high_last + WIDTH - 1) / WIDTH; }
  // Whether some query of the block does not see all of the tile that starts with `key`: because it
  // starts to see keys later, or ends earlier. (Two functions, because prefill.cu spills more
  // registers where one returns either.)
  __device__ __forceinline__ bool starts_in(int key) const { return key < low_last; }
  __device__ __forceinline__ bool ends_in(int key) const { return key + WIDTH > high_first; }
};

// The same numbers as in src/launch/arguments.rs.
static_assert(sizeof(PrefillArgs) == 128);
static_assert(sizeof(DecodeSequence) == 120);
static_assert(sizeof(DecodeArgs) == 2008);
static_assert(sizeof(AppendArgs) == 208);
static_assert(sizeof(UnpackArgs) == 64);
static_assert(sizeof(DeriveArgs) == 64);
static_assert(sizeof(CopyArgs) == 88);

constexpr int BLOCK = 32;  // components that share a scale where a row is stored as bytes

// `scaled` multiplies bytes 0 and 2 by the lower scale, 1 and 3 by the upper: each product is
// exact until it is rounded once.
template <class T>
struct Packed;
template <>
struct Packed<__half> {
  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    __half2 h = __floats2half2_rn(a, b);
    return *reinterpret_cast<uint32_t*>(&h);
  }
  static __device__ __forceinline__ __half one(float a) { return __float2half_rn(a); }
  static __device__ __forceinline__ float wide(__half a) { return __half2float(a); }
  static __device__ __forceinline__ float2 both(uint32_t a) {
    return __half22float2(*reinterpret_cast<const __half2*>(&a));
  }
  static __device__ __forceinline__ uint2 scaled(uint32_t bytes, __half2 scales) {
    bytes ^= 0x80808080u;  // 0 to 255, which in the last places of 1024 add exactly that
    auto two = [&](uint32_t selector) {
      const uint32_t x = __byte_perm(bytes, 0x64646464u, selector);
      const __half2 number = __hsub2(*reinterpret_cast<const __half2*>(&x), __half2half2(1152));
      const __half2 y = __hmul2(number, scales);
      return *reinterpret_cast<const uint32_t*>(&y);
    };
    return make_uint2(two(0x4140), two(0x4342));
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};
template <>
struct Packed<__nv_bfloat16> {
  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<uint32_t*>(&h);
  }
  static __device__ __forceinline__ __nv_bfloat16 one(float a) { return __float2bfloat16_rn(a); }
  static __device__ __forceinline__ float wide(__nv_bfloat16 a) { return __bfloat162float(a); }
  static __device__ __forceinline__ float2 both(uint32_t a) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a));
  }
  static __device__ __forceinline__ uint2 scaled(uint32_t bytes, __half2 scales) {
    bytes ^= 0x80808080u;
    const float2 scale = __half22float2(scales);
    auto number = [&](int n, float scale) {  // a byte's place in a float adds 2^15
      const float x = __uint_as_float(__byte_perm(bytes, 0x47000000u, 0x7404u + 16 * n));
      return fmaf(x, scale, -(32768.f + 128.f) * scale);
    };
    return make_uint2(pack(number(0, scale.x), number(1, scale.y)),
                      pack(number(2, scale.x), number(3, scale.y)));
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// Copies `bytes` of 16 to shared memory, and zeros for the rest.
__device__ __forceinline__ void copy_some_async(uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes));
}
// Copies 16 bytes to shared memory, or zeros when `there` is false.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool there) {
  copy_some_async(to, from, there ? 16 : 0);
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::); }
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING));
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// tanh to about 1e-6: the 5e-4 of the approximate instruction would matter, times a soft cap of 50.
__device__ __forceinline__ float tanh_fast(float x) {
  return 1.f - __fdividef(2.f, 1.f + exp2_fast(fminf(x * 2.885390082f, 80.f)));
}

// Over the four lanes that hold a row of an accumulator.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

constexpr float MINUS_INFINITY = -__builtin_inff();

// Row numbers as an argument: used where the pointer to those in memory is null.
struct FewRows {
  uint32_t rows[32];
};
