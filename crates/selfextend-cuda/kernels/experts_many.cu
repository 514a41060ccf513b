// A sparse layer for many tokens: pairs of tokens and experts are put in the order of the experts, and
// tensor cores multiply the rows of each expert by its matrices, which are unpacked to 16 bits tile by
// tile in shared memory. How many rows an expert has never leaves the device: there are as many blocks
// as the worst case needs, and those without rows end at once.
//
// A place is a pair in the order of the experts.
#include "experts.cuh"

constexpr int TILE_PLACES = 64;   // PLACES in src/experts/mix.rs
constexpr int TILE_WEIGHTS = 128;  // rows of weights in a tile; of gate and up together
constexpr int DEPTH = 128;         // columns of a step
constexpr int PITCH = DEPTH + 8;   // of a row in shared memory: eight rows begin in different banks
constexpr int THREADS = 256;

// One block: counts the pairs of each expert, gives each pair a place, and lists tiles of places:
// `tiles` is their number, then expert, first place and end of each.
extern "C" __global__ void __launch_bounds__(1024)
    group(const uint32_t* chosen, uint32_t* places, uint32_t* pairs, uint32_t* tiles, int experts, int count) {
  extern __shared__ uint32_t next[];
  for (int n = threadIdx.x; n < experts; n += blockDim.x) next[n] = 0;
  __syncthreads();
  for (int pair = threadIdx.x; pair < count; pair += blockDim.x) atomicAdd(next + chosen[pair], 1);
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    uint32_t place = 0, tile = 0;  // of the experts before
    for (int start = 0; start < experts; start += 32) {
      const int expert = start + lane;
      const uint32_t rows = expert < experts ? next[expert] : 0;
      const uint32_t its = (rows + TILE_PLACES - 1) / TILE_PLACES;
      uint32_t places_to = rows, tiles_to = its;  // up to this expert
      for (int step = 1; step < 32; step *= 2) {
        const uint32_t a = __shfl_up_sync(0xffffffffu, places_to, step);
        const uint32_t b = __shfl_up_sync(0xffffffffu, tiles_to, step);
        if (lane >= step) places_to += a, tiles_to += b;
      }
      const uint32_t first = place + places_to - rows;
      for (uint32_t n = 0; n < its; n++) {
        uint32_t* it = tiles + 1 + 3 * (tile + tiles_to - its + n);
        it[0] = expert, it[1] = first + n * TILE_PLACES;
        it[2] = min(first + (n + 1) * TILE_PLACES, first + rows);
      }
      if (expert < experts) next[expert] = first;
      place += __shfl_sync(0xffffffffu, places_to, 31);
      tile += __shfl_sync(0xffffffffu, tiles_to, 31);
    }
    if (lane == 0) tiles[0] = tile;
  }
  __syncthreads();
  for (int pair = threadIdx.x; pair < count; pair += blockDim.x) {
    const uint32_t place = atomicAdd(next + chosen[pair], 1);
    places[pair] = place;
    pairs[place] = pair;
  }
}

// out[token] = sum of weight * rows[place] over its pairs
extern "C" __global__ void combine(const float* rows, const uint32_t* places, const float* weights,
                                   float* out, int width, int used) {
  places += size_t(blockIdx.x) * used, weights += size_t(blockIdx.x) * used;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float sum = 0.f;
    for (int n = 0; n < used; n++) sum = fmaf(weights[n], rows[size_t(places[n]) * width + i], sum);
    out[size_t(blockIdx.x) * width + i] = sum;
  }
}

// The rows of x that a tile multiplies, DEPTH columns from `at` on; zeros where there are none.
template <class E>
static __device__ __forceinline__ void load_rows(E* to, const E* x, const uint32_t (&rows)[4], int at,
                                                 int columns) {
  // A thread has 16 bytes of rows 16 apart.
  const int piece = threadIdx.x % 16, first = threadIdx.x / 16, column = at + 8 * piece;
#pragma unroll
  for (int n = 0; n < 4; n++) {
    E* there = to + (first + 16 * n) * PITCH + 8 * piece;
    const bool is_row = rows[n] != 0xffffffffu;
    const E* from = x + size_t(is_row ? rows[n] : 0) * columns;
    if (columns % 8 == 0) {
      const bool is_there = is_row && column < columns;
      copy_async(shared_address(there), from + (is_there ? column : 0), is_there);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++)
        there[i] = is_row && column + i < columns ? from[column + i] : Packed<E>::one(0.f);
    }
  }
}

// Sums of products of a tile of places with TILE_WEIGHTS rows of weights: of `first` and, where there
// are two matrices, `second`, 16 rows of each in turn. Warps are 2 by 4; each has 32 places by 32 rows.
template <class L, class E, bool IS_GATED>
static __device__ __forceinline__ void tile_product(float (&sums)[2][4][4], const Planes& first,
                                                    const Planes& second, const E* x,
                                                    const uint32_t (&its)[4], int first_row, int rows,
                                                    int columns) {
  constexpr int LANES = TILE_WEIGHTS * 4 / THREADS;
  extern __shared__ __align__(16) char memory[];
  E* const weights = reinterpret_cast<E*>(memory);
  E* const stages = weights + TILE_WEIGHTS * PITCH;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, strip = threadIdx.x % 4;
  const int steps = (columns + DEPTH - 1) / DEPTH;
  L lanes[LANES];
  auto load = [&](int step) {
#pragma unroll
    for (int n = 0; n < LANES; n++) {
      const int row = threadIdx.x / 4 + n * (THREADS / 4);
      const int at = first_row + (IS_GATED ? row / 32 * 16 + row % 16 : row);
      const bool is_second = IS_GATED && row % 32 >= 16;
      lanes[n].load(is_second ? second : first, min(at, rows - 1), step, strip, columns);
    }
  };
  load_rows(stages, x, its, 0, columns);
  commit_copies();
  load(0);
  for (int step = 0; step < steps; step++) {
    __syncthreads();  // the tiles of the last step have been read
#pragma unroll
    for (int n = 0; n < LANES; n++) {
      E* to = weights + (threadIdx.x / 4 + n * (THREADS / 4)) * PITCH + 4 * strip;
#pragma unroll
      for (int part = 0; part < DEPTH / 16; part++) {
        float w[4];
        lanes[n].weights(part / 2, part % 2, w);
        *reinterpret_cast<uint2*>(to + 16 * part) = {Packed<E>::pack(w[0], w[1]), Packed<E>::pack(w[2], w[3])};
      }
    }
    wait_copies<0>();
    __syncthreads();
    const E* const stage = stages + step % 2 * TILE_PLACES * PITCH;
    if (step + 1 < steps) {
      load_rows(stages + (step + 1) % 2 * TILE_PLACES * PITCH, x, its, (step + 1) * DEPTH, columns);
      load(step + 1);
    }
    commit_copies();
    const E* a = stage + (warp / 4 * 32 + lane % 16) * PITCH + lane / 16 * 8;
    const E* b = weights + (warp % 4 * 32 + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
      uint32_t left[2][4], right[2][4];
#pragma unroll
      for (int n = 0; n < 2; n++) {
        load_matrices(left[n], shared_address(a + n * 16 * PITCH + k));
        load_matrices(right[n], shared_address(b + n * 16 * PITCH + k));
      }
#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int n = 0; n < 4; n++)
          Packed<E>::mma(sums[m][n], left[m], right[n / 2][n % 2 * 2], right[n / 2][n % 2 * 2 + 1]);
    }
  }
}

// The tile of places of a block; false where it has none.
struct Tile {
  uint32_t expert, first, end;
  __device__ __forceinline__ bool read(const uint32_t* tiles) {
    if (blockIdx.y >= tiles[0]) return false;
    const uint32_t* it = tiles + 1 + 3 * blockIdx.y;
    expert = it[0], first = it[1], end = it[2];
    return true;
  }
};

// What `load_rows` reads for a thread: of each place, `row(place)`.
template <class F>
static __device__ __forceinline__ void rows_of(uint32_t (&rows)[4], const Tile& tile, F row) {
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const uint32_t place = tile.first + threadIdx.x / 16 + 16 * n;
    rows[n] = place < tile.end ? row(place) : 0xffffffffu;
  }
}

// Calls `put(place, row, m, n, i)` for each sum of a thread whose place there is.
template <class F>
static __device__ __forceinline__ void each_sum(const Tile& tile, F put) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint32_t place = tile.first + warp / 4 * 32 + m * 16 + lane / 4 + i / 2 * 8;
      if (place < tile.end) put(place, lane % 4 * 2 + i % 2, m, i);
    }
}

// out[place] = curve(gate · x[token]) * (up · x[token]), in 16 bits
template <class L, class E>
static __device__ __forceinline__ void gated(const ExpertWeights& from, const uint32_t* pairs,
                                             const uint32_t* tiles, const E* x, E* out, int count, int rows,
                                             int columns, int used, int curve) {
  Tile tile;
  if (!tile.read(tiles)) return;
  uint32_t its[4];
  rows_of(its, tile, [&](uint32_t place) { return pairs[place] / used; });
  float sums[2][4][4] = {};
  const int first = blockIdx.x * (TILE_WEIGHTS / 2);
  tile_product<L, E, true>(sums, from.planes(tile.expert), from.planes(count + tile.expert), x, its, first,
                           rows, columns);
  each_sum(tile, [&](uint32_t place, int column, int m, int i) {
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const int row = first + threadIdx.x / 32 % 4 * 16 + n * 8 + column;
      if (row < rows)
        out[size_t(place) * rows + row] = Packed<E>::one(curve_of(curve, sums[m][n][i]) * sums[m][n + 2][i]);
    }
  });
}

// out[place] = down · x[place]
template <class L, class E>
static __device__ __forceinline__ void down(const ExpertWeights& from, const uint32_t* tiles, const E* x,
                                            float* out, int rows, int columns) {
  Tile tile;
  if (!tile.read(tiles)) return;
  uint32_t its[4];
  rows_of(its, tile, [](uint32_t place) { return place; });
  float sums[2][4][4] = {};
  const int first = blockIdx.x * TILE_WEIGHTS;
  const Planes planes = from.planes(tile.expert);
  tile_product<L, E, false>(sums, planes, planes, x, its, first, rows, columns);
  each_sum(tile, [&](uint32_t place, int column, int m, int i) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
      const int row = first + threadIdx.x / 32 % 4 * 32 + n * 8 + column;
      if (row < rows) out[size_t(place) * rows + row] = sums[m][n][i];
    }
  });
}

#define MANY(NAME, LANE, ELEMENT, E)                                                               \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                         \
      many_gated_##NAME##_##ELEMENT(const uint64_t* table, size_t high, size_t scales, size_t supers, \
                                    const uint32_t* pairs, const uint32_t* tiles, const E* x, E* out, \
                                    int count, int rows, int columns, int used, int curve) {       \
    gated<LANE, E>({table, high, scales, supers}, pairs, tiles, x, out, count, rows, columns, used, curve); \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)                                         \
      many_down_##NAME##_##ELEMENT(const uint64_t* table, size_t high, size_t scales, size_t supers, \
                                   const uint32_t* tiles, const E* x, float* out, int rows, int columns) { \
    down<LANE, E>({table, high, scales, supers}, tiles, x, out, rows, columns);                    \
  }
#define MANY_PACKED(NAME)                  \
  MANY(NAME, PackedLane<NAME>, f16, __half) \
  MANY(NAME, PackedLane<NAME>, bf16, __nv_bfloat16)
#define MANY_PLAIN(NAME, E) MANY(NAME, PlainLane<E>, NAME, E)
EVERY_LAYOUT(MANY_PACKED, MANY_PLAIN)
