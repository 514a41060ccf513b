// Prefill for Hopper: the walk of prefill.cu with warpgroup products and bulk tensor copies.
//
// One warp copies tiles ahead of two warpgroups of 64 queries each (the roles of FlashAttention-3,
// Shah et al. 2024). A warpgroup starts the scores of its next tile, then adds the values of this
// one, and computes the softmax of the next while the values are still being added. Where one region
// ends and the next begins, only the queries change.
#include "hopper.cuh"

struct alignas(128) TensorMap {
  uint64_t opaque[16];
};

struct HopperArgs {
  TensorMap q[MAX_REGIONS];  // [tokens][heads][D], boxes of 128 tokens and 64 components
  TensorMap k[MAX_REGIONS];  // [kv_heads][ring][D], boxes of BN keys
  TensorMap v;               // [kv_heads][keys][D]
  PrefillArgs a;
};
static_assert(sizeof(HopperArgs) == 7 * 128 + 128);

template <class T, int D, int BN>
struct Hopper {
  static constexpr int BM = 128, SLABS = D / 64, STAGES = 2;
  static constexpr int Q_BUFFERS = D > 128 ? 1 : 2;
  static constexpr int Q_BYTES = BM * D * 2, TILE_BYTES = BN * D * 2;
  static constexpr int SHARED = Q_BUFFERS * Q_BYTES + 2 * STAGES * TILE_BYTES + 1024;
  static constexpr int OUT = D == 64 ? 32 : 64, OUTS = D == 256 ? 2 : 1;
  using P = Packed<T>;

  // The walk over regions and tiles, the same for the copying warp and the warpgroups.
  struct Cursor {
    int region = -1, tile = 0, end = 0;
    Tiles<BN> tiles;

    __device__ __forceinline__ bool next(const PrefillArgs& a, int first, int last) {
      if (++tile < end) return true;
      while (++region < a.count) {
        const int* low = a.spans + size_t(2 * region) * a.stride;
        tiles = Tiles<BN>::of(low, low + a.stride, first, last);
        if (tiles.is_empty()) continue;
        tile = tiles.begin();
        end = tiles.end();
        return true;
      }
      return false;
    }
  };

  static __device__ __forceinline__ void run(const HopperArgs& h) {
    extern __shared__ uint8_t raw[];
    __shared__ uint64_t barriers[2 * Q_BUFFERS + 4 * STAGES];
    const PrefillArgs& a = h.a;
    const uint32_t sq = (shared_address(raw) + 1023) & ~1023u;  // the swizzle's period
    const uint32_t sk = sq + Q_BUFFERS * Q_BYTES, sv = sk + STAGES * TILE_BYTES;
    const uint32_t q_full = shared_address(barriers), q_empty = q_full + 8 * Q_BUFFERS;
    const uint32_t k_full = q_empty + 8 * Q_BUFFERS, k_empty = k_full + 8 * STAGES;
    const uint32_t v_full = k_empty + 8 * STAGES, v_empty = v_full + 8 * STAGES;
    const int head = blockIdx.x, kv_head = head / (a.heads / a.kv_heads);
    const int first = (gridDim.y - 1 - blockIdx.y) * BM;
    const int last = min(first + BM, a.tokens) - 1;
    constexpr int WARPS = 8;  // that read what is copied

    if (threadIdx.x == 0) {
      for (int n = 0; n < Q_BUFFERS; n++) {
        barrier_init(q_full + 8 * n, 1);
        barrier_init(q_empty + 8 * n, WARPS);
      }
      for (int n = 0; n < STAGES; n++) {
        barrier_init(k_full + 8 * n, 1);
        barrier_init(k_empty + 8 * n, WARPS);
        barrier_init(v_full + 8 * n, 1);
        barrier_init(v_empty + 8 * n, WARPS);
      }
      asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
    }
    __syncthreads();

    if (threadIdx.x < 128) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 40;\n");
      if (threadIdx.x != 0) return;
      Cursor c;
      int region = -1, queries = 0, tiles = 0;
      while (c.next(a, first, last)) {
        if (c.region != region) {
          region = c.region;
          const int buffer = queries % Q_BUFFERS;
          barrier_wait(q_empty + 8 * buffer, queries / Q_BUFFERS % 2 ^ 1);
          barrier_expect(q_full + 8 * buffer, Q_BYTES);
          for (int s = 0; s < SLABS; s++)
            copy_box(sq + buffer * Q_BYTES + s * BM * 128, &h.q[region], q_full + 8 * buffer,
                     s * 64, head, first);
          queries++;
        }
        const int stage = tiles % STAGES, parity = tiles / STAGES % 2 ^ 1;
        const int key = c.tile * BN, slot = uint32_t(key) % a.regions[region].ring;
        barrier_wait(k_empty + 8 * stage, parity);
        barrier_expect(k_full + 8 * stage, TILE_BYTES);
        for (int s = 0; s < SLABS; s++)
          copy_box(sk + stage * TILE_BYTES + s * BN * 128, &h.k[region], k_full + 8 * stage, s * 64,
                   slot, kv_head);
        barrier_wait(v_empty + 8 * stage, parity);
        barrier_expect(v_full + 8 * stage, TILE_BYTES);
        for (int s = 0; s < SLABS; s++)
          copy_box(sv + stage * TILE_BYTES + s * BN * 128, &h.v, v_full + 8 * stage, s * 64, key,
                   kv_head);
        tiles++;
      }
      return;
    }

    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;\n");
    const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const int row = first + group * 64 + warp * 16 + lane / 4;
    const bool speaker = lane == 0;
    float out[OUTS][OUT] = {};
    float score[BN / 2];
    uint32_t weight[BN / 16][4];
    float maximum[2] = {MINUS_INFINITY, MINUS_INFINITY}, sum[2] = {0.f, 0.f};
    float correction[2];

    Cursor c;
    int region = -1, queries = -1, tiles = 0;
    // Starts the scores of the cursor's tile.
    auto multiply_keys = [&]() {
      if (c.region != region) {
        region = c.region;
        queries++;
        barrier_wait(q_full + 8 * (queries % Q_BUFFERS), queries / Q_BUFFERS % 2);
      }
      const int stage = tiles % STAGES;
      barrier_wait(k_full + 8 * stage, tiles / STAGES % 2);
      const uint32_t q = sq + queries % Q_BUFFERS * Q_BYTES + group * 64 * 128;
      const uint32_t k = sk + stage * TILE_BYTES;
      wgmma_fence();
#pragma unroll
      for (int d = 0; d < D / 16; d++)
        Wgmma<T, BN>::both(score, descriptor(q + d / 4 * BM * 128 + d % 4 * 32, 16),
                           descriptor(k + d / 4 * BN * 128 + d % 4 * 32, 16), d > 0);
      wgmma_commit();
    };
    auto multiply_values = [&](int stage) {
      const uint32_t v = sv + stage * TILE_BYTES;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < BN / 16; k++)
#pragma unroll
        for (int o = 0; o < OUTS; o++)
          Wgmma<T, OUT * 2>::registers(
              out[o], weight[k], descriptor(v + o * 2 * BN * 128 + k * 16 * 128, BN * 128));
      wgmma_commit();
    };
    // Softmax of the scores of the cursor's tile; leaves weights in `score`.
    auto softmax = [&]() {
      const int key = c.tile * BN;
      if (c.tiles.starts_in(key) || c.tiles.ends_in(key)) {
        const int* low = a.spans + size_t(2 * c.region) * a.stride;
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int token = min(row + half * 8, last);
          const int from = low[token] - key - lane % 4 * 2;
          const int to = low[a.stride + token] - key - lane % 4 * 2;
#pragma unroll
          for (int n = 0; n < BN / 8; n++)
#pragma unroll
            for (int x = 0; x < 2; x++)
              if (n * 8 + x < from || n * 8 + x >= to) score[n * 4 + half * 2 + x] = MINUS_INFINITY;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float top = maximum[half];
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
          top = fmaxf(top, fmaxf(score[n * 4 + half * 2], score[n * 4 + half * 2 + 1]));
        top = quad_max(top);
        const float shift = top == MINUS_INFINITY ? 0.f : top * a.scale;
        correction[half] = exp2_fast(maximum[half] * a.scale - shift);
        maximum[half] = top;
        float added = 0.f;
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
#pragma unroll
          for (int x = 0; x < 2; x++) {
            float& s = score[n * 4 + half * 2 + x];
            s = exp2_fast(s * a.scale - shift);
            added += s;
          }
        sum[half] = sum[half] * correction[half] + added;
      }
    };
    auto pack = [&]() {
#pragma unroll
      for (int k = 0; k < BN / 16; k++)
#pragma unroll
        for (int x = 0; x < 4; x++)
          weight[k][x] = P::pack(score[k * 8 + x * 2], score[k * 8 + x * 2 + 1]);
    };
    auto rescale = [&]() {
#pragma unroll
      for (int o = 0; o < OUTS; o++)
#pragma unroll
        for (int x = 0; x < OUT; x++) out[o][x] *= correction[x / 2 % 2];
    };

    // The two warpgroups take turns at the tensor cores: one multiplies while the other computes
    // its softmax.
    auto my_turn = [&]() {
      asm volatile("bar.sync %0, 256;\n" ::"r"(1 + group) : "memory");
    };
    auto your_turn = [&]() {
      asm volatile("bar.arrive %0, 256;\n" ::"r"(2 - group) : "memory");
    };
    if (group == 1) your_turn();

    c.next(a, first, last);
    multiply_keys();
    wgmma_wait<0>();
    if (speaker) barrier_arrive(k_empty);
    softmax();
    pack();
    while (true) {
      const int stage = tiles % STAGES, parity = tiles / STAGES % 2;
      tiles++;
      const int before = queries;
      const bool more = c.next(a, first, last);
      // Queries of a region are free once its last scores are there.
      if (more && c.region != region && speaker) barrier_arrive(q_empty + 8 * (before % Q_BUFFERS));
      if (!more) break;
      my_turn();
      multiply_keys();
      barrier_wait(v_full + 8 * stage, parity);
      multiply_values(stage);
      your_turn();
      wgmma_wait<1>();
      if (speaker) barrier_arrive(k_empty + 8 * (tiles % STAGES));
      softmax();
      wgmma_wait<0>();
      if (speaker) barrier_arrive(v_empty + 8 * stage);
      rescale();
      pack();
    }
    if (group == 0) my_turn();  // takes what the other warpgroup's last turn left
    {
      const int at = tiles - 1;
      barrier_wait(v_full + 8 * (at % STAGES), at / STAGES % 2);
      multiply_values(at % STAGES);
      wgmma_wait<0>();
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = row + half * 8;
      const float scale = 1.f / quad_sum(sum[half]);
      if (token > last) continue;
      T* to = static_cast<T*>(a.out) + (size_t(token) * a.heads + head) * D + lane % 4 * 2;
#pragma unroll
      for (int o = 0; o < OUTS; o++)
#pragma unroll
        for (int d = 0; d < OUT / 4; d++)
          *reinterpret_cast<uint32_t*>(to + o * 128 + d * 8) = P::pack(
              out[o][d * 4 + half * 2] * scale, out[o][d * 4 + half * 2 + 1] * scale);
    }
  }
};

#define HOPPER(NAME, T, D, BN)                                    \
  extern "C" __global__ void __launch_bounds__(384, 1)            \
      hopper_##NAME##_##D(const __grid_constant__ HopperArgs h) { \
    Hopper<T, D, BN>::run(h);                                     \
  }
// Sizes are mirrored in src/kernels.rs.
#define HOPPERS(NAME, T)    \
  HOPPER(NAME, T, 64, 128)  \
  HOPPER(NAME, T, 128, 128) \
  HOPPER(NAME, T, 256, 64)
HOPPERS(f16, __half)
HOPPERS(bf16, __nv_bfloat16)
