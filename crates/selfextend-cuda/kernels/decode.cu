// Decode: a few query rows against all keys, split over warps and blocks, merged by log-sum-exp.
//
// The rows of a block are the query heads that share a key head, for each new token of a
// sequence, up to 16: keys and values are read once for all of them. A block has a range of the
// tiles of all regions; each of its warps walks every fourth of them with copies of its own in
// flight, and joins the others only at the end. The last block of some rows to arrive merges the
// results of all of them.
//
// Where keys and values are bytes, lanes widen them in registers just before their product, whose
// fragments then take components in an order in which each lane's bytes lie together: of 32 of a
// key, 8 lane % 4 + i; of 32 of a value, 4 (lane / 4) + i. Keys of a ring are 16-bit floats even then.
#include "common.cuh"

template <class T, int D, int WARPS, int STAGES, bool BYTES>
struct Decode {
  static constexpr int ROWS = 16, KEYS = 16;
  static constexpr int PITCH = D + 8;
  // Bytes between rows of bytes: lanes read keys by eight bytes and values by four, without bank
  // conflicts.
  static constexpr int K_PITCH = D | 32, V_PITCH = D | 16;
  static constexpr int SCALES = KEYS * (D / BLOCK) * 2;  // bytes of a tile's scales
  // A stage: keys, then values; or room for keys of either kind, bytes of values, scales of both.
  static constexpr int VALUES = KEYS * PITCH * 2, V_SCALES = VALUES + KEYS * V_PITCH;
  static constexpr int STAGE = BYTES ? V_SCALES + 2 * SCALES : 2 * KEYS * PITCH * 2;
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

  // Starts to copy the bytes of a tile, whose rows lie together.
  static __device__ __forceinline__ void fetch_bytes(uint32_t to, int pitch, const void* from,
                                                     size_t row) {
    constexpr int PIECES = D / 16;
    const uint8_t* bytes = static_cast<const uint8_t*>(from) + row * D;
#pragma unroll
    for (int at = threadIdx.x % 32; at < KEYS * PIECES; at += 32)
      copy_async(to + at / PIECES * pitch + at % PIECES * 16, bytes + at * 16, true);
  }

  // And its scales, with zeros after those of `there` rows.
  static __device__ __forceinline__ void fetch_scales(uint32_t to, const __half* from, size_t row,
                                                      int there) {
    const int at = threadIdx.x % 32 * 16;
    if (at >= SCALES) return;
    const uint8_t* scales = reinterpret_cast<const uint8_t*>(from + row * (D / BLOCK));
    copy_some_async(to + at, scales + at, max(0, min(16, there * (D / BLOCK) * 2 - at)));
  }

  // Adds the products of queries with a tile of keys: two sums for each half of the tile, so that a
  // product need not wait for the one before.
  static __device__ __forceinline__ void multiply_keys(float (&score)[2][2][4],
                                                       const uint32_t (&q)[D / 16][4],
                                                       uint32_t tile) {
    const int lane = threadIdx.x % 32;
    const uint32_t at = tile + ((lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8) * 2;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
      uint32_t b[4];
      load_matrices(b, at + k * 32);
      P::mma(score[k % 2][0], q[k], b[0], b[1]);
      P::mma(score[k % 2][1], q[k], b[2], b[3]);
    }
  }

  static __device__ __forceinline__ void multiply_key_bytes(float (&score)[2][2][4],
                                                            const uint32_t (&q)[D / 16][4],
                                                            const uint8_t* stage) {
    const int lane = threadIdx.x % 32;
    const __half* scales = reinterpret_cast<const __half*>(stage + V_SCALES + SCALES);
#pragma unroll
    for (int block = 0; block < D / BLOCK; block++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int key = j * 8 + lane / 4;
        const uint2 bytes = *reinterpret_cast<const uint2*>(stage + key * K_PITCH + block * BLOCK +
                                                            lane % 4 * 8);
        const __half2 scale = __half2half2(scales[key * (D / BLOCK) + block]);
        const uint2 even = P::scaled(bytes.x, scale), odd = P::scaled(bytes.y, scale);
        P::mma(score[0][j], q[2 * block], even.x, even.y);
        P::mma(score[1][j], q[2 * block + 1], odd.x, odd.y);
      }
  }

  // Adds the values of a tile, by their weights, to `out`, which is corrected before.
  static __device__ __forceinline__ void add_values(float (&out)[D / 8][4], const uint32_t (&p)[4],
                                                    const float (&correction)[2], uint32_t tile) {
    const int lane = threadIdx.x % 32;
    const uint32_t at = tile + VALUES + (lane % 16 * PITCH + lane / 16 * 8) * 2;
#pragma unroll
    for (int d = 0; d < D / 16; d++) {
      uint32_t b[4];
      load_transposed(b, at + d * 32);
      add_value(out[2 * d], p, correction, b[0], b[1]);
      add_value(out[2 * d + 1], p, correction, b[2], b[3]);
    }
  }

  static __device__ __forceinline__ void add_value_bytes(float (&out)[D / 8][4],
                                                         const uint32_t (&p)[4],
                                                         const float (&correction)[2],
                                                         const uint8_t* stage) {
    const int lane = threadIdx.x % 32;
    const __half* scales = reinterpret_cast<const __half*>(stage + V_SCALES);
#pragma unroll
    for (int block = 0; block < D / BLOCK; block++) {
      uint2 low[2], high[2];  // of two keys each: components 0 and 1, 2 and 3
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int key = j * 8 + lane % 4 * 2;
        const uint8_t* from = stage + VALUES + key * V_PITCH + block * BLOCK + lane / 4 * 4;
        const uint32_t even = *reinterpret_cast<const uint32_t*>(from);
        const uint32_t odd = *reinterpret_cast<const uint32_t*>(from + V_PITCH);
        const __half* scale = scales + key * (D / BLOCK) + block;
        const __half2 both = __halves2half2(scale[0], scale[D / BLOCK]);
        low[j] = P::scaled(__byte_perm(even, odd, 0x5140), both);
        high[j] = P::scaled(__byte_perm(even, odd, 0x7362), both);
      }
      add_value(out[block * 4], p, correction, low[0].x, low[1].x);
      add_value(out[block * 4 + 1], p, correction, low[0].y, low[1].y);
      add_value(out[block * 4 + 2], p, correction, high[0].x, high[1].x);
      add_value(out[block * 4 + 3], p, correction, high[0].y, high[1].y);
    }
  }

  static __device__ __forceinline__ void add_value(float (&out)[4], const uint32_t (&p)[4],
                                                   const float (&correction)[2], uint32_t b0,
                                                   uint32_t b1) {
#pragma unroll
    for (int c = 0; c < 4; c++) out[c] *= correction[c / 2];
    P::mma(out, p, b0, b1);
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
    const size_t first_value = size_t(kv_head) * s.capacity;

    // All new tokens are one block of queries; masks are compared for every tile.
    auto tiles_of = [&](int r) {
      return Tiles<KEYS>{s.low[r], s.low[r], s.high[r], s.high[r]};
    };
    auto count_of = [&](int r) {
      const auto tiles = tiles_of(r);
      return tiles.is_empty() ? 0 : tiles.end() - tiles.begin();
    };
    int total = 0;
    for (int r = 0; r < a.count; r++) total += count_of(r);
    const int begin = int(int64_t(total) * blockIdx.x / splits) + warp;
    const int beyond = int(int64_t(total) * (blockIdx.x + 1) / splits);
    const int work = beyond > begin ? (beyond - begin + WARPS - 1) / WARPS : 0;

    auto seek = [&](int place) {
      Cursor c{0, 0, 0};
      for (int r = 0; r < a.count; r++) {
        const int first = tiles_of(r).begin(), count = count_of(r);
        c = Cursor{r, first + place, first + count};
        if (place < count) break;
        place -= count;
      }
      return c;
    };
    auto step = [&](Cursor& c) {
      c.tile += WARPS;
      while (c.tile >= c.end && c.region + 1 < a.count) {
        c.region++;
        const int first = tiles_of(c.region).begin();
        c.tile += first - c.end;
        c.end = first + count_of(c.region);
      }
    };

    const uint8_t* own = shared + warp * STAGES * STAGE;
    const uint32_t pipe = shared_address(own);
    auto is_bytes = [&](int region) { return BYTES && s.k_scales[region] != nullptr; };
    auto fetch = [&](const Cursor& c, int stage) {
      constexpr int PIECES = D / 8;
      const uint32_t ring = s.ring[c.region];
      const int key = c.tile * KEYS;
      const size_t slot = size_t(kv_head) * ring + uint32_t(key) % ring;
      const uint32_t to = pipe + stage * STAGE;
      if (BYTES) {
        fetch_bytes(to + VALUES, V_PITCH, s.v, first_value + key);
        fetch_scales(to + V_SCALES, s.v_scales, first_value + key, s.keys - key);
        if (is_bytes(c.region)) {
          fetch_bytes(to, K_PITCH, s.k[c.region], slot);
          fetch_scales(to + V_SCALES + SCALES, s.k_scales[c.region], slot, KEYS);
          return;
        }
      }
      const T* k = static_cast<const T*>(s.k[c.region]) + slot * D;
      const T* v = static_cast<const T*>(s.v) + (first_value + key) * D;
#pragma unroll
      for (int at = lane; at < KEYS * PIECES; at += 32) {
        const int row = at / PIECES, piece = at % PIECES;
        const uint32_t place = to + (row * PITCH + piece * 8) * 2;
        const bool there = key + row < s.keys;
        copy_async(place, k + at * 8, true);
        if (!BYTES) copy_async(place + VALUES, v + (there ? at : piece) * 8, there);
      }
    };

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
      const bool together = is_bytes(region);
      // The rows of this lane's fragments: lane / 4, and 8 below.
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int local = lane / 4 + half * 8;
        const int at = block * ROWS + min(local, rows - 1);
        const int token = s.row + at / group;
        const size_t row = size_t(token) * a.heads + kv_head * group + at % group;
        const T* from = static_cast<const T*>(a.q[region]) + row * D + lane % 4 * (together ? 8 : 2);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          const T* two = from + (together ? k / 2 * BLOCK + k % 2 * 4 : k * 16);
          q[k][half] = *reinterpret_cast<const uint32_t*>(two);
          q[k][2 + half] = *reinterpret_cast<const uint32_t*>(two + (together ? 2 : 8));
        }
        const int* bound = a.spans + size_t(2 * region) * a.tokens + token;
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
      const uint32_t tile = pipe + stage * STAGE;
      float score[2][2][4] = {};
      if (is_bytes(at.region))
        multiply_key_bytes(score, q, own + stage * STAGE);
      else
        multiply_keys(score, q, tile);
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
      if constexpr (BYTES)
        add_value_bytes(out, p, correction, own + stage * STAGE);
      else
        add_values(out, p, correction, tile);
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
      float* to = sums + (warp * ROWS + local) * D;
      if constexpr (BYTES) {
#pragma unroll
        for (int d = 0; d < D / 8; d += 4)
#pragma unroll
          for (int c = half * 2; c < half * 2 + 2; c++)
            *reinterpret_cast<float4*>(to + d * 8 + lane % 4 * 8 + c % 2 * 4) =
                make_float4(out[d][c], out[d + 1][c], out[d + 2][c], out[d + 3][c]);
      } else {
#pragma unroll
        for (int d = 0; d < D / 8; d++)
          *reinterpret_cast<float2*>(to + d * 8 + lane % 4 * 2) =
              make_float2(out[d][half * 2], out[d][half * 2 + 1]);
      }
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
    Decode<T, D, 4, STAGES, false>::run(a);                                  \
  }                                                                          \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS)                  \
      decode_bytes_##NAME##_##D(const __grid_constant__ DecodeArgs a) {      \
    Decode<T, D, 4, STAGES, true>::run(a);                                   \
  }
// Sizes are mirrored in src/kernels.rs.
#define DECODES(NAME, T)  \
  DECODE(NAME, T, 64, 4, 2)  \
  DECODE(NAME, T, 96, 3, 2)  \
  DECODE(NAME, T, 128, 3, 2) \
  DECODE(NAME, T, 256, 2, 1)
DECODES(f16, __half)
DECODES(bf16, __nv_bfloat16)
