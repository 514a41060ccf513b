// Hopper's instructions (sm_90a): warpgroup matrix products, bulk tensor copies, their barriers.
#pragma once
#include "common.cuh"

// A matrix of 64-element slabs, each of rows of 128 bytes in the 128-byte swizzle that bulk tensor
// copies write (PTX ISA, "matrix descriptor"). `leading` is the distance between slabs in bytes,
// which only transposed operands use; groups of 8 rows are 1024 bytes apart.
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t leading) {
  return uint64_t(address >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 |
         uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals));
}
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// Until the phase of that parity is complete.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A box of a tensor; elements outside the tensor arrive as zeros.
__device__ __forceinline__ void copy_box(uint32_t to, const void* map, uint32_t barrier, int x,
                                         int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];\n" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// The registers of an accumulator, as text and as operands.
#define REGISTERS_32 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define REGISTERS_64 REGISTERS_32 "," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define OPERANDS_32(d) \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), \
  "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
  "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), \
  "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
  "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), \
  "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), \
  "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define OPERANDS_64(d) OPERANDS_32(d), \
  "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), \
  "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
  "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), \
  "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), \
  "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
  "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), \
  "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

// m64nNk16 products of a warpgroup: `both` operands from shared memory, or the left one, rows of
// weights, from `registers` and the right one transposed.
template <class T, int N>
struct Wgmma;

// R0 to R4: the numbers of the operands that follow the accumulator's LEN.
#define WGMMA(T, NAME, N, LEN, R0, R1, R2, R3, R4)                                              \
  template <>                                                                                   \
  struct Wgmma<T, N> {                                                                          \
    static __device__ __forceinline__ void both(float (&d)[LEN], uint64_t a, uint64_t b,        \
                                                int add) {                                      \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" R2                                      \
                   ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #NAME "." #NAME      \
                   " {" REGISTERS_##LEN "}, %" R0 ", %" R1 ", p, 1, 1, 0, 0;\n}\n"              \
                   : OPERANDS_##LEN(d)                                                          \
                   : "l"(a), "l"(b), "r"(add));                                                 \
    }                                                                                           \
    static __device__ __forceinline__ void registers(float (&d)[LEN], const uint32_t (&a)[4],   \
                                                     uint64_t b) {                              \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #NAME "." #NAME            \
                   " {" REGISTERS_##LEN "}, {%" R0 ",%" R1 ",%" R2 ",%" R3 "}, %" R4            \
                   ", 1, 1, 1, 1;\n"                                                            \
                   : OPERANDS_##LEN(d)                                                          \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                       \
    }                                                                                           \
  }
WGMMA(__half, f16, 64, 32, "32", "33", "34", "35", "36");
WGMMA(__half, f16, 128, 64, "64", "65", "66", "67", "68");
WGMMA(__nv_bfloat16, bf16, 64, 32, "32", "33", "34", "35", "36");
WGMMA(__nv_bfloat16, bf16, 128, 64, "64", "65", "66", "67", "68");
