// Decode: a few query rows against all keys, split over warps and blocks, merged by log-sum-exp.
//
// The rows of a block are the query heads that share a key head, for each new token of a
// sequence, up to 16: keys and values are read once for all of them. A block has a range of the
// tiles of all regions; each of its warps walks every fourth of them with copies of its own in
// flight, and meets the others only at the end. The last block to arrive merges what the blocks
// of its rows left.
#include "common.cuh"

template <class T, int D, int WARPS, int STAGES>
struct Decode {
  static constexpr int ROWS = 16, KEYS = 16;
  static constexpr int PITCH = D + 8;
  static constexpr int STAGE = 2 * KEYS * PITCH;  // keys, then values
  static constexpr int PIPES = WARPS * STAGES * STAGE * 2;
  static constexpr int SHARED = PIPES > WARPS * ROWS * D * 4 ? PIPES : WARPS * ROWS * D * 4;
  using P = Packed<T>;

  // A place in the list of tiles of all regions.
  struct Cursor {
    int region, tile, end;  // `end`: the region's last tile plus one
  };

  static __device__ __forceinline__ float weight_of(float2 state, float top, float scale) {
    return state.x == MINUS_INFINITY ? 0.f : exp2_fast((state.x - top) * scale);
  }

  // Common maximum and sum of a row's parts, and what each part is multiplied by. One warp.
  static __device__ __forceinline__ float2 combine(const float2 (*states)[ROWS], float* factors,
                                                   int row, int count, float scale, int lane) {
    float top = MINUS_INFINITY, sum = 0.f;
    for (int n = lane; n < count; n += 32) top = fmaxf(top, __ldcg(&states[n][row]).x);
    for (int step = 16; step > 0; step /= 2)
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
    for (int n = lane; n < count; n += 32) {
      const float2 one = __ldcg(&states[n][row]);
      const float f = weight_of(one, top, scale);
      factors[n * ROWS + row] = f;
      sum += one.y * f;
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return make_float2(top, sum);
  }

  static __device__ __forceinline__ void run(const DecodeArgs& a) {
    extern __shared__ __align__(16) uint8_t shared[];
    __shared__ float2 states[WARPS][ROWS];
    __shared__ float factors[WARPS][ROWS], totals[ROWS];
    __shared__ bool is_last;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int splits = gridDim.x, group = a.heads / a.kv_heads;
    const int kv_head = blockIdx.y % a.kv_heads, block = blockIdx.y / a.kv_heads;
    const DecodeSequence& s = a.sequences[blockIdx.z];
    const int rows = min(s.tokens * group - block * ROWS, ROWS);
    if (rows <= 0) return;  // a sequence with fewer new tokens than the longest
    const T* values = static_cast<const T*>(s.v) + size_t(kv_head) * s.capacity * D;

    int total = 0;
    for (int r = 0; r < a.count; r++) total += s.to[r] - s.from[r];
    const int begin = int(int64_t(total) * blockIdx.x / splits) + warp;
    const int beyond = int(int64_t(total) * (blockIdx.x + 1) / splits);
    const int work = beyond > begin ? (beyond - begin + WARPS - 1) / WARPS : 0;

    auto seek = [&](int place) {
      Cursor c{0, 0, 0};
      for (int r = 0; r < a.count; r++) {
        c = Cursor{r, s.from[r] + place, s.to[r]};
        if (place < s.to[r] - s.from[r]) break;
        place -= s.to[r] - s.from[r];
      }
      return c;
    };
    auto step = [&](Cursor& c) {
      c.tile += WARPS;
      while (c.tile >= c.end && c.region + 1 < a.count) {
        c.region++;
        c.tile += s.from[c.region] - c.end;
        c.end = s.to[c.region];
      }
    };

    const uint32_t pipe = shared_address(shared) + warp * STAGES * STAGE * 2;
    auto fetch = [&](const Cursor& c, int stage) {
      constexpr int PIECES = D / 8;
      const uint32_t ring = s.ring[c.region];
      const int key = c.tile * KEYS;
      const T* k = static_cast<const T*>(s.k[c.region]) +
                   (size_t(kv_head) * ring + uint32_t(key) % ring) * D;
      const T* v = values + size_t(key) * D;
      const uint32_t to = pipe + stage * STAGE * 2;
#pragma unroll
      for (int at = lane; at < KEYS * PIECES; at += 32) {
        const int row = at / PIECES, piece = at % PIECES;
        const uint32_t place = to + (row * PITCH + piece * 8) * 2;
        const bool there = key + row < s.keys;
        copy_async(place, k + at * 8, true);
        copy_async(place + KEYS * PITCH * 2, v + (there ? at : piece) * 8, there);
      }
    };

    // The row of this lane's fragments: lane / 4, and 8 below.
    int token[2];
    const T* query[MAX_REGIONS][2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int local = lane / 4 + half * 8;
      const int at = block * ROWS + min(local, rows - 1);
      token[half] = s.row + at / group;
      const size_t offset =
          (size_t(token[half]) * a.heads + kv_head * group + at % group) * D + lane % 4 * 2;
#pragma unroll
      for (int r = 0; r < MAX_REGIONS; r++)
        query[r][half] = static_cast<const T*>(a.q[r]) + offset;
    }

    float out[D / 8][4] = {};
    float maximum[2] = {MINUS_INFINITY, MINUS_INFINITY}, sum[2] = {0.f, 0.f};
    uint32_t q[D / 16][4];
    int low[2] = {0, 0}, high[2] = {0, 0};
    int loaded = -1;
    Cursor at = seek(begin), ahead = at;
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
      if (stage < work) {
        fetch(ahead, stage);
        step(ahead);
      }
      commit_copies();
    }
    auto load_queries = [&](int region) {
      loaded = region;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const T* from = region == 0 ? query[0][half] : region == 1 ? query[1][half] : query[2][half];
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          q[k][half] = *reinterpret_cast<const uint32_t*>(from + k * 16);
          q[k][2 + half] = *reinterpret_cast<const uint32_t*>(from + k * 16 + 8);
        }
        const int* bound = a.spans + size_t(2 * region) * a.tokens + token[half];
        low[half] = bound[0];
        high[half] = bound[a.tokens];
      }
    };
    load_queries(at.region);  // while the first tiles are on their way
    for (int n = 0, stage = 0; n < work; n++, step(at)) {
      wait_copies<STAGES - 2>();
      __syncwarp();
      {
        const int next = stage == 0 ? STAGES - 1 : stage - 1;
        if (n + STAGES - 1 < work) {
          fetch(ahead, next);
          step(ahead);
        }
        commit_copies();
      }
      if (at.region != loaded) load_queries(at.region);
      const uint32_t tile = pipe + stage * STAGE * 2;
      const uint32_t k_at = tile + ((lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8) * 2;
      const uint32_t v_at = tile + ((KEYS + lane % 16) * PITCH + lane / 16 * 8) * 2;
      // Two sums for each half of the tile, so that a product need not wait for the one before.
      float score[2][2][4] = {};
#pragma unroll
      for (int k = 0; k < D / 16; k++) {
        uint32_t b[4];
        load_matrices(b, k_at + k * 32);
        P::mma(score[k % 2][0], q[k], b[0], b[1]);
        P::mma(score[k % 2][1], q[k], b[2], b[3]);
      }
      const int key = at.tile * KEYS + lane % 4 * 2;
      float correction[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float top = maximum[half];
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int c = 0; c < 2; c++) {
            float& x = score[0][j][half * 2 + c];
            x += score[1][j][half * 2 + c];
            if (a.bend != 0.f) x = tanh_fast(x * a.bend);
            const int k = key + j * 8 + c;
            if (k < low[half] || k >= high[half]) x = MINUS_INFINITY;
            top = fmaxf(top, x);
          }
        top = quad_max(top);
        const float shift = top == MINUS_INFINITY ? 0.f : top * a.scale;
        correction[half] = exp2_fast(maximum[half] * a.scale - shift);
        maximum[half] = top;
        sum[half] *= correction[half];
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int c = 0; c < 2; c++) {
            float& x = score[0][j][half * 2 + c];
            x = exp2_fast(x * a.scale - shift);
            sum[half] += x;
          }
      }
      uint32_t p[4];
#pragma unroll
      for (int c = 0; c < 4; c++)
        p[c] = P::pack(score[0][c / 2][c % 2 * 2], score[0][c / 2][c % 2 * 2 + 1]);
#pragma unroll
      for (int d = 0; d < D / 16; d++) {
        uint32_t b[4];
        load_transposed(b, v_at + d * 32);
#pragma unroll
        for (int c = 0; c < 4; c++) {
          out[2 * d][c] *= correction[c / 2];
          out[2 * d + 1][c] *= correction[c / 2];
        }
        P::mma(out[2 * d], p, b[0], b[1]);
        P::mma(out[2 * d + 1], p, b[2], b[3]);
      }
      stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
    wait_copies<0>();
    __syncthreads();

    // The warps of the block.
    float* sums = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int local = lane / 4 + half * 8;
      const float total_sum = quad_sum(sum[half]);
      if (lane % 4 == 0) states[warp][local] = make_float2(maximum[half], total_sum);
#pragma unroll
      for (int d = 0; d < D / 8; d++)
        *reinterpret_cast<float2*>(sums + (warp * ROWS + local) * D + d * 8 + lane % 4 * 2) =
            make_float2(out[d][half * 2], out[d][half * 2 + 1]);
    }
    __syncthreads();
    const size_t place = size_t(blockIdx.z) * gridDim.y + blockIdx.y;
    float* partial = a.partial + place * splits * ROWS * D;
    float2* state = a.states + place * splits * ROWS;
    auto store = [&](int row, int d, float4 x, float scale) {
      const int r = block * ROWS + row;
      T* to = static_cast<T*>(a.out) +
              (size_t(s.row + r / group) * a.heads + kv_head * group + r % group) * D + d;
      *reinterpret_cast<uint2*>(to) =
          make_uint2(P::pack(x.x * scale, x.y * scale), P::pack(x.z * scale, x.w * scale));
    };
    // Adds up `count` unnormalised results of this row, four components of it.
    auto merge = [&](const float* from, const float* factors, int count) {
      float4 result = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 16
      for (int n = 0; n < count; n++) {
        const float4 x = *reinterpret_cast<const float4*>(from + size_t(n) * ROWS * D);
        const float f = factors[n * ROWS];
        result.x += x.x * f, result.y += x.y * f, result.z += x.z * f, result.w += x.w * f;
      }
      return result;
    };
    if (threadIdx.x < rows) {
      const int row = threadIdx.x;
      float top = MINUS_INFINITY, sum = 0.f;
#pragma unroll
      for (int n = 0; n < WARPS; n++) top = fmaxf(top, states[n][row].x);
#pragma unroll
      for (int n = 0; n < WARPS; n++) {
        const float f = weight_of(states[n][row], top, a.scale);
        factors[n][row] = f;
        sum += states[n][row].y * f;
      }
      totals[row] = sum;
      if (splits > 1) state[blockIdx.x * ROWS + row] = make_float2(top, sum);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * (D / 4); i += WARPS * 32) {
      const int row = i / (D / 4), d = i % (D / 4) * 4;
      const float4 x = merge(sums + row * D + d, &factors[0][row], WARPS);
      if (splits == 1)
        store(row, d, x, 1.f / totals[row]);
      else
        *reinterpret_cast<float4*>(partial + (size_t(blockIdx.x) * ROWS + row) * D + d) = x;
    }
    if (splits == 1) return;

    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(a.arrived + place, 1) == unsigned(splits - 1);
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    float* all = reinterpret_cast<float*>(shared);  // [splits][16]
    for (int row = warp; row < rows; row += WARPS) {
      const auto* parts = reinterpret_cast<const float2(*)[ROWS]>(state);
      const float2 merged = combine(parts, all, row, splits, a.scale, lane);
      if (lane == 0) totals[row] = merged.y;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * (D / 4); i += WARPS * 32) {
      const int row = i / (D / 4), d = i % (D / 4) * 4;
      store(row, d, merge(partial + row * D + d, all + row, splits), 1.f / totals[row]);
    }
    if (threadIdx.x == 0) a.arrived[place] = 0;
  }
};

#define DECODE(NAME, T, D, STAGES, BLOCKS)                                   \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS)                  \
      decode_##NAME##_##D(const __grid_constant__ DecodeArgs a) {            \
    Decode<T, D, 4, STAGES>::run(a);                                         \
  }
// Sizes are mirrored in src/launch.rs.
#define DECODES(NAME, T)  \
  DECODE(NAME, T, 64, 4, 2)  \
  DECODE(NAME, T, 96, 3, 2)  \
  DECODE(NAME, T, 128, 3, 2) \
  DECODE(NAME, T, 256, 2, 1)
DECODES(f16, __half)
DECODES(bf16, __nv_bfloat16)
