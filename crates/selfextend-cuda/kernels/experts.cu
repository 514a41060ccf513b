// A sparse layer for few tokens, read by the experts that a token's router chooses: choosing, and
// products that read the chosen experts alone. What is chosen never leaves the device, so a CUDA
// graph can hold all of it. experts_many.cu has the products of many tokens.
//
// A pair is a token with one of its experts; pairs are [tokens][used], a token's in the order of the
// experts' numbers.
#include "experts.cuh"

// How experts are chosen: `Routing` of src/experts/routing.rs.
struct Choosing {
  int experts;
  int used;
  int score;  // 0: softmax over all, 1: over the chosen, 2: sigmoid
  int normalised;
  int groups;
  int groups_used;
  float scale;
  int unused;
};
static_assert(sizeof(Choosing) == 32);

// Whether the x of place i comes before the y of place j: what is no number first, then the larger,
// of equals the first.
static __device__ __forceinline__ bool before(float x, int i, float y, int j) {
  const bool no_x = x != x, no_y = y != y;
  if (no_x || no_y) return no_x && (!no_y || i < j);
  return x > y || (x == y && i < j);
}

static __device__ __forceinline__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
static __device__ __forceinline__ float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// The place of the first of `ranks` in the order of `before`, for every lane.
static __device__ __forceinline__ int first_of(const float* ranks, int count, int lane) {
  float best = ranks[0];
  int place = 0;
  for (int i = lane; i < count; i += 32)
    if (before(ranks[i], i, best, place)) best = ranks[i], place = i;
  for (int step = 16; step > 0; step /= 2) {
    const float x = __shfl_xor_sync(0xffffffffu, best, step);
    const int i = __shfl_xor_sync(0xffffffffu, place, step);
    if (before(x, i, best, place)) best = x, place = i;
  }
  return place;
}

// Leaves experts of the best groups: those whose two largest ranks have the largest sums.
static __device__ __forceinline__ void leave_groups(float* ranks, float* sums, const Choosing& how,
                                                    int lane) {
  const int size = how.experts / how.groups;
  for (int group = lane; group < how.groups; group += 32) {
    const float* its = ranks + group * size;
    int first = 0;
    for (int i = 1; i < size; i++)
      if (before(its[i], i, its[first], first)) first = i;
    float second = MINUS_INFINITY;
    for (int i = 0; i < size; i++)
      if (i != first) second = fmaxf(second, its[i]);
    sums[group] = size > 1 ? its[first] + second : its[first];
  }
  __syncwarp();
  for (int left = how.groups_used; left < how.groups; left++) {
    // The last of the worst, as the first of equals is better.
    int worst = -1;
    for (int group = how.groups - 1; group >= 0; group--)
      if (sums[group] < -MINUS_INFINITY && (worst < 0 || sums[group] < sums[worst])) worst = group;
    if (worst < 0) return;
    __syncwarp();
    if (lane == 0) sums[worst] = -MINUS_INFINITY;
    for (int i = lane; i < size; i += 32) ranks[worst * size + i] = MINUS_INFINITY;
    __syncwarp();
  }
}

// Chooses for a token, by one warp: `used` experts in the order of their numbers, and what their
// outputs are multiplied by. `bias` (or null) is added to scores for the choice alone.
extern "C" __global__ void __launch_bounds__(32)
    choose(const float* router, const float* bias, uint32_t* chosen, float* weights,
           const __grid_constant__ Choosing how) {
  extern __shared__ float memory[];
  float *scores = memory, *ranks = scores + how.experts, *sums = ranks + how.experts;
  float* its_weights = sums + how.groups;
  int* its = reinterpret_cast<int*>(its_weights + how.used);
  const int lane = threadIdx.x, count = how.experts, used = how.used;
  router += size_t(blockIdx.x) * count;
  for (int i = lane; i < count; i += 32) scores[i] = how.score == 2 ? sigmoid(router[i]) : router[i];
  if (how.score == 0) {
    float most = MINUS_INFINITY, sum = 0.f;
    for (int i = lane; i < count; i += 32) most = fmaxf(most, scores[i]);
    most = warp_max(most);
    for (int i = lane; i < count; i += 32) sum += scores[i] = expf(scores[i] - most);
    sum = warp_sum(sum);
    for (int i = lane; i < count; i += 32) scores[i] /= sum;
  }
  for (int i = lane; i < count; i += 32) ranks[i] = bias ? scores[i] + bias[i] : scores[i];
  __syncwarp();
  if (how.groups_used < how.groups) leave_groups(ranks, sums, how, lane);
  for (int n = 0; n < used; n++) {
    const int expert = first_of(ranks, count, lane);
    __syncwarp();
    if (lane == 0) {
      ranks[expert] = MINUS_INFINITY;
      // In the order of their numbers from here on.
      int at = n;
      for (; at > 0 && its[at - 1] > expert; at--) its[at] = its[at - 1], its_weights[at] = its_weights[at - 1];
      its[at] = expert, its_weights[at] = scores[expert];
    }
    __syncwarp();
  }
  float most = MINUS_INFINITY, sum = 0.f;
  for (int n = lane; n < used; n += 32) most = fmaxf(most, its_weights[n]);
  most = warp_max(most);
  for (int n = lane; n < used; n += 32) {
    if (how.score == 1) its_weights[n] = expf(its_weights[n] - most);
    sum += its_weights[n];
  }
  sum = warp_sum(sum);
  if (!(how.normalised || how.score == 1) || sum == 0.f) sum = 1.f;
  for (int n = lane; n < used; n += 32) {
    chosen[size_t(blockIdx.x) * used + n] = its[n];
    weights[size_t(blockIdx.x) * used + n] = its_weights[n] / sum * how.scale;
  }
}

// A block's row groups for few tokens: two warps share two rows of both matrices.
constexpr int GROUP_THREADS = 64, GROUPS = 32 * WARPS / GROUP_THREADS, GATED_ROWS = 2;
constexpr int DOWN_ROWS = 4;

// out[pair] = curve(gate · x[token]) * (up · x[token])
template <class L>
static __device__ __forceinline__ void gated(const ExpertWeights& from, const uint32_t* chosen,
                                             const float* x, float* out, int count, int rows,
                                             int columns, int used, int curve) {
  constexpr int R = 2 * GATED_ROWS;
  __shared__ float parts[WARPS][R];
  const int warp = threadIdx.x / 32, group = threadIdx.x / GROUP_THREADS;
  const int within = threadIdx.x % GROUP_THREADS, strip = within % 4;
  const uint32_t pair = blockIdx.y, expert = chosen[pair];
  const Planes gate = from.planes(expert), up = from.planes(count + expert);
  const int first = blockIdx.x * GROUPS * GATED_ROWS;
  const float* row = x + size_t(pair / used) * columns;
  float sums[R] = {};
  const int units = (columns + L::COLUMNS - 1) / L::COLUMNS;
  for (int unit = within / 4; unit < units; unit += GROUP_THREADS / 4) {
    L lanes[R];
#pragma unroll
    for (int r = 0; r < GATED_ROWS; r++) {
      const uint32_t at = min(first + group * GATED_ROWS + r, rows - 1);
      lanes[r].load(gate, at, unit, strip, columns);
      lanes[GATED_ROWS + r].load(up, at, unit, strip, columns);
    }
    add_unit<L, R>(sums, lanes, row, unit, strip, columns);
  }
  const float sum = warp_sums<R / 2>(sums, threadIdx.x % 32);
  if (threadIdx.x % (32 / R) == 0) parts[warp][threadIdx.x % 32 / (32 / R)] = sum;
  __syncthreads();
  const int at = first + threadIdx.x;
  if (threadIdx.x < GROUPS * GATED_ROWS && at < rows) {
    const int from_warp = threadIdx.x / GATED_ROWS * (GROUP_THREADS / 32), r = threadIdx.x % GATED_ROWS;
    float a = 0.f, b = 0.f;
#pragma unroll
    for (int n = 0; n < GROUP_THREADS / 32; n++) {
      a += parts[from_warp + n][r];
      b += parts[from_warp + n][GATED_ROWS + r];
    }
    out[size_t(pair) * rows + at] = curve_of(curve, a) * b;
  }
}

// out[token] = sum of weight * down · x[pair] over its pairs
template <class L>
static __device__ __forceinline__ void down(const ExpertWeights& from, const uint32_t* chosen,
                                            const float* weights, const float* x, float* out, int rows,
                                            int columns, int used) {
  constexpr int R = DOWN_ROWS;
  __shared__ float parts[WARPS][R];
  const int strip = threadIdx.x % 4, first = blockIdx.x * R;
  const int units = (columns + L::COLUMNS - 1) / L::COLUMNS;
  float sums[R] = {};
  for (int n = threadIdx.x / 4; n < used * units; n += 8 * WARPS) {
    const size_t pair = size_t(blockIdx.y) * used + n / units;
    const int unit = n % units;
    const Planes planes = from.planes(chosen[pair]);
    L lanes[R];
#pragma unroll
    for (int r = 0; r < R; r++)
      lanes[r].load(planes, min(first + r, rows - 1), unit, strip, columns);
    float its[R] = {};
    add_unit<L, R>(its, lanes, x + pair * columns, unit, strip, columns);
    const float weight = weights[pair];
#pragma unroll
    for (int r = 0; r < R; r++) sums[r] = fmaf(weight, its[r], sums[r]);
  }
  const float sum = warp_sums<R / 2>(sums, threadIdx.x % 32);
  if (threadIdx.x % (32 / R) == 0) parts[threadIdx.x / 32][threadIdx.x % 32 / (32 / R)] = sum;
  __syncthreads();
  const int at = first + threadIdx.x;
  if (threadIdx.x < R && at < rows) {
    float all = 0.f;
#pragma unroll
    for (int n = 0; n < WARPS; n++) all += parts[n][threadIdx.x];
    out[size_t(blockIdx.y) * rows + at] = all;
  }
}

#define FEW(NAME, LANE)                                                                        \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 5)                                  \
      gated_##NAME(const uint64_t* table, size_t high, size_t scales, size_t supers,           \
                   const uint32_t* chosen, const float* x, float* out, int count, int rows,    \
                   int columns, int used, int curve) {                                         \
    gated<LANE>({table, high, scales, supers}, chosen, x, out, count, rows, columns, used, curve); \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 5)                                  \
      down_##NAME(const uint64_t* table, size_t high, size_t scales, size_t supers,            \
                  const uint32_t* chosen, const float* weights, const float* x, float* out,    \
                  int rows, int columns, int used) {                                           \
    down<LANE>({table, high, scales, supers}, chosen, weights, x, out, rows, columns, used);   \
  }
#define FEW_PACKED(NAME) FEW(NAME, PackedLane<NAME>)
#define FEW_PLAIN(NAME, E) FEW(NAME, PlainLane<E>)
EVERY_LAYOUT(FEW_PACKED, FEW_PLAIN)
