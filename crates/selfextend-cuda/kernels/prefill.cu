// Prefill: blocks of queries against tiles of keys, one online softmax over all regions.
//
// The keys of a query fall into regions, each with queries and keys of its own rotation. A block
// walks the regions in order and the tiles of each from left to right; tiles outside a region are
// never visited, tiles inside it for every row of the block are multiplied without a mask, and
// only those on a boundary compare positions. A tile that two regions share is visited once in
// each, with complementary masks, so maximum, sum and output simply go on: nothing is merged,
// nothing subtracted, and V exists once. With one region this is FlashAttention-2 (Dao 2023).
#include "common.cuh"

// D: head size. BM queries by BN keys, WARPS warps of BM/WARPS rows.
template <class T, int D, int BM, int BN, int WARPS>
struct Prefill {
  static constexpr int THREADS = WARPS * 32;
  static constexpr int TALL = BM / (16 * WARPS);  // fragments of 16 rows for each warp
  static constexpr int PITCH = D + 8;  // an odd number of 16-byte pieces: no bank conflicts
  static constexpr int STAGE = BN * PITCH;
  static constexpr int SHARED = (BM * PITCH + 4 * STAGE) * 2;
  using P = Packed<T>;

  static __device__ __forceinline__ void copy_rows(uint32_t to, const T* from, size_t stride,
                                                   int rows, int there) {
    constexpr int PIECES = D / 8;
#pragma unroll
    for (int at = threadIdx.x; at < rows * PIECES; at += THREADS) {
      int row = at / PIECES, piece = at % PIECES;
      bool inside = row < there;
      copy_async(to + (row * PITCH + piece * 8) * 2,
                 from + (inside ? row : 0) * stride + piece * 8, inside);
    }
  }

  static __device__ __forceinline__ void run(const PrefillArgs& a) {
    extern __shared__ __align__(16) uint8_t shared[];
    const uint32_t sq = shared_address(shared);
    const uint32_t sk = sq + BM * PITCH * 2, sv = sk + 2 * STAGE * 2;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int head = blockIdx.x, kv_head = head / (a.heads / a.kv_heads);
    // Long blocks first, so that short ones fill the gaps at the end.
    const int first = (gridDim.y - 1 - blockIdx.y) * BM;
    const int last = min(first + BM, a.tokens) - 1;
    const T* values = static_cast<const T*>(a.v) + size_t(kv_head) * a.capacity * D;

    // Addresses of this lane's rows in the three operands (PTX ISA, mma.m16n8k16 fragments).
    const uint32_t q_at = sq + ((warp * 16 * TALL + lane % 16) * PITCH + lane / 16 * 8) * 2;
    const uint32_t k_at = sk + ((lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8) * 2;
    const uint32_t v_at = sv + ((lane % 16) * PITCH + lane / 16 * 8) * 2;
    const int row = first + warp * 16 * TALL + lane / 4;

    float out[TALL][D / 8][4] = {};
    float maximum[TALL][2], sum[TALL][2];
#pragma unroll
    for (int m = 0; m < TALL; m++) {
      maximum[m][0] = maximum[m][1] = MINUS_INFINITY;
      sum[m][0] = sum[m][1] = 0.f;
    }

    for (int r = 0; r < a.count; r++) {
      const int* low = a.spans + size_t(2 * r) * a.stride;
      const int* high = low + a.stride;
      const auto tiles = Tiles<BN>::of(low, high, first, last);
      if (tiles.is_empty()) continue;
      const uint32_t ring = a.regions[r].ring;
      const T* queries = static_cast<const T*>(a.regions[r].q) + size_t(head) * D;
      const T* keys = static_cast<const T*>(a.regions[r].k) + size_t(kv_head) * ring * D;
      const int end = tiles.end();
      int tile = tiles.begin();

      auto fetch = [&](int tile, int stage) {
        const int key = tile * BN;
        copy_rows(sk + stage * STAGE * 2, keys + size_t(key % ring) * D, D, BN, BN);
        copy_rows(sv + stage * STAGE * 2, values + size_t(key) * D, D, BN, a.keys - key);
        commit_copies();
      };
      __syncthreads();  // the region before has been read
      const size_t stride = size_t(a.heads) * D;
      copy_rows(sq, queries + size_t(first) * stride, stride, BM, last + 1 - first);
      fetch(tile, 0);

      for (int stage = 0; tile < end; tile++, stage ^= 1) {
        wait_copies<0>();
        __syncthreads();  // this tile is here, and the other stage has been read
        if (tile + 1 < end) fetch(tile + 1, stage ^ 1);

        float score[TALL][BN / 8][4] = {};
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          uint32_t q[TALL][4];
#pragma unroll
          for (int m = 0; m < TALL; m++) load_matrices(q[m], q_at + (m * 16 * PITCH + k * 16) * 2);
#pragma unroll
          for (int n = 0; n < BN / 16; n++) {
            uint32_t b[4];
            load_matrices(b, k_at + (stage * STAGE + n * 16 * PITCH + k * 16) * 2);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
              P::mma(score[m][2 * n], q[m], b[0], b[1]);
              P::mma(score[m][2 * n + 1], q[m], b[2], b[3]);
            }
          }
        }

        const float bend = a.regions[r].bend;
        if (bend != 0.f) {
#pragma unroll
          for (int m = 0; m < TALL; m++)
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
              for (int c = 0; c < 4; c++) score[m][n][c] = tanh_fast(score[m][n][c] * bend);
        }
        const int key = tile * BN;
        if (tiles.starts_in(key) || tiles.ends_in(key)) {
#pragma unroll
          for (int m = 0; m < TALL; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
              const int token = min(row + m * 16 + half * 8, last);
              const int from = low[token] - key - lane % 4 * 2;
              const int to = high[token] - key - lane % 4 * 2;
#pragma unroll
              for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++)
                  if (n * 8 + c < from || n * 8 + c >= to)
                    score[m][n][half * 2 + c] = MINUS_INFINITY;
            }
        }

        float correction[TALL][2];
        bool moved = false;
#pragma unroll
        for (int m = 0; m < TALL; m++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            float top = maximum[m][half];
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
              top = fmaxf(top, fmaxf(score[m][n][half * 2], score[m][n][half * 2 + 1]));
            top = quad_max(top);
            // A row without a key so far keeps -infinity, but must not subtract it from itself.
            const float shift = top == MINUS_INFINITY ? 0.f : top * a.scale;
            correction[m][half] = exp2_fast(maximum[m][half] * a.scale - shift);
            moved |= top != maximum[m][half];
            maximum[m][half] = top;
            float added = 0.f;
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
              for (int c = 0; c < 2; c++) {
                float& s = score[m][n][half * 2 + c];
                s = exp2_fast(s * a.scale - shift);
                added += s;
              }
            sum[m][half] = sum[m][half] * correction[m][half] + added;
          }
        // Maxima settle after a few tiles; then nothing needs rescaling.
        if (__any_sync(0xffffffffu, moved)) {
#pragma unroll
          for (int m = 0; m < TALL; m++)
#pragma unroll
            for (int d = 0; d < D / 8; d++)
#pragma unroll
              for (int c = 0; c < 4; c++) out[m][d][c] *= correction[m][c / 2];
        }

#pragma unroll
        for (int k = 0; k < BN / 16; k++) {
          uint32_t p[TALL][4];
#pragma unroll
          for (int m = 0; m < TALL; m++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
              const float* s = &score[m][2 * k + c / 2][c % 2 * 2];
              p[m][c] = P::pack(s[0], s[1]);
            }
#pragma unroll
          for (int d = 0; d < D / 16; d++) {
            uint32_t b[4];
            load_transposed(b, v_at + (stage * STAGE + k * 16 * PITCH + d * 16) * 2);
#pragma unroll
            for (int m = 0; m < TALL; m++) {
              P::mma(out[m][2 * d], p[m], b[0], b[1]);
              P::mma(out[m][2 * d + 1], p[m], b[2], b[3]);
            }
          }
        }
      }
    }

#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int token = row + m * 16 + half * 8;
        const float scale = 1.f / quad_sum(sum[m][half]);
        if (token > last) continue;
        T* to = static_cast<T*>(a.out) + (size_t(token) * a.heads + head) * D + lane % 4 * 2;
#pragma unroll
        for (int d = 0; d < D / 8; d++)
          *reinterpret_cast<uint32_t*>(to + d * 8) =
              P::pack(out[m][d][half * 2] * scale, out[m][d][half * 2 + 1] * scale);
      }
  }
};

#define PREFILL(NAME, T, D, BM, BN, WARPS, BLOCKS)                             \
  extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)             \
      prefill_##NAME##_##D(const __grid_constant__ PrefillArgs a) {            \
    Prefill<T, D, BM, BN, WARPS>::run(a);                                      \
  }
// Sizes are mirrored in src/kernels.rs.
#define PREFILLS(NAME, T)           \
  PREFILL(NAME, T, 64, 128, 64, 4, 2)  \
  PREFILL(NAME, T, 96, 128, 64, 4, 2)  \
  PREFILL(NAME, T, 128, 128, 64, 4, 2) \
  PREFILL(NAME, T, 256, 128, 32, 8, 1)
PREFILLS(f16, __half)
PREFILLS(bf16, __nv_bfloat16)
