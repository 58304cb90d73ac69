// What a warpgroup (four warps, 128 threads) of sm_90a does together, and asynchronous
// copies, as PTX: a test on a CPU includes its own file of this name.
//
// Of a tile of totals [64, 64] a thread has 32: number 4j + 2h + i is that of row
// 16 warp + 8h + lane / 4 and column 8j + 2 (lane % 4) + i.

#pragma once

#define TOTALS(total)                                                                    \
    "+f"(total[0]), "+f"(total[1]), "+f"(total[2]), "+f"(total[3]), "+f"(total[4]),      \
        "+f"(total[5]), "+f"(total[6]), "+f"(total[7]), "+f"(total[8]), "+f"(total[9]),  \
        "+f"(total[10]), "+f"(total[11]), "+f"(total[12]), "+f"(total[13]),              \
        "+f"(total[14]), "+f"(total[15]), "+f"(total[16]), "+f"(total[17]),              \
        "+f"(total[18]), "+f"(total[19]), "+f"(total[20]), "+f"(total[21]),              \
        "+f"(total[22]), "+f"(total[23]), "+f"(total[24]), "+f"(total[25]),              \
        "+f"(total[26]), "+f"(total[27]), "+f"(total[28]), "+f"(total[29]),              \
        "+f"(total[30]), "+f"(total[31])
#define TOTAL_NAMES                                                                      \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "  \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define WIDE_NAMES                                                                       \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "  \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "   \
    "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "   \
    "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define WGMMA "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 "

// A product's operand in shared memory, [rows, 32] fp8, `skip` bytes behind `tile`: 16
// bytes of all rows are adjacent, and the second 16 bytes are PLANE bytes on.
template <int PLANE>
__device__ __forceinline__ unsigned long long describe(const void* tile, int skip)
{
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(tile));
    const unsigned low = (address >> 4) + (skip / 16 | (PLANE / 16) << 16);
    const unsigned high = 128 / 16;  // between 8 rows
    return static_cast<unsigned long long>(high) << 32 | low;
}

// total [64, 64] = left [64, 32] right [64, 32]^T, plus total if `add`. Both in shared
// memory; any 16-byte address will do.
template <int LEFT_PLANE, int RIGHT_PLANE>
__device__ __forceinline__ void multiply_shared(float (&total)[32], const void* left,
                                                int left_skip, const void* right,
                                                int right_skip, bool add)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; " WGMMA TOTAL_NAMES
                 ", %32, %33, p, 1, 1; }"
                 : TOTALS(total)
                 : "l"(describe<LEFT_PLANE>(left, left_skip)),
                   "l"(describe<RIGHT_PLANE>(right, right_skip)),
                   "r"(static_cast<int>(add)));
}

// The same for right [128, 32]: `low` are the first 64 columns, `high` the others.
template <int LEFT_PLANE, int RIGHT_PLANE>
__device__ __forceinline__ void multiply_wide(float (&low)[32], float (&high)[32],
                                              const void* left, int left_skip,
                                              const void* right, int right_skip, bool add)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 " WIDE_NAMES
                 ", %64, %65, p, 1, 1; }"
                 : TOTALS(low), TOTALS(high)
                 : "l"(describe<LEFT_PLANE>(left, left_skip)),
                   "l"(describe<RIGHT_PLANE>(right, right_skip)),
                   "r"(static_cast<int>(add)));
}

// multiply_shared with the left side in registers, four neighbors of k a word: words 0 and 1
// are k = 4 (lane % 4) of rows 16 warp + lane / 4 and 8 further, words 2 and 3 k + 16.
template <int RIGHT_PLANE>
__device__ __forceinline__ void multiply_words(float (&total)[32], unsigned a, unsigned b,
                                               unsigned c, unsigned d, const void* right,
                                               int right_skip, bool add)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; " WGMMA TOTAL_NAMES
                 ", {%32, %33, %34, %35}, %36, p, 1, 1; }"
                 : TOTALS(total)
                 : "r"(a), "r"(b), "r"(c), "r"(d),
                   "l"(describe<RIGHT_PLANE>(right, right_skip)),
                   "r"(static_cast<int>(add)));
}

// Before the first product that reads registers which were written otherwise.
__device__ __forceinline__ void begin_products()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void end_products()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits for the products up to the last end_products() but LATER.
template <int LATER = 0> __device__ __forceinline__ void wait_products()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LATER) : "memory");
}

// Keeps the uses of `total` behind the wait for it.
__device__ __forceinline__ void hold(float (&total)[32])
{
    asm volatile("" : TOTALS(total)::"memory");
}

// Starts a copy of 16 bytes to shared memory.
__device__ __forceinline__ void copy_16(void* to, const void* from)
{
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(address), "l"(from)
                 : "memory");
}

// The same, but of zeros unless `inside`.
__device__ __forceinline__ void copy_16_or_zeros(void* to, const void* from, bool inside)
{
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(address),
                 "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

// Starts a copy of 8 bytes.
__device__ __forceinline__ void copy_8(void* to, const void* from)
{
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global.L2::256B [%0], [%1], 8;" ::"r"(address), "l"(from)
                 : "memory");
}

__device__ __forceinline__ void end_copies()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for this thread's copies up to the last end_copies() but LATER.
template <int LATER> __device__ __forceinline__ void wait_copies()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}

// Lets products see what this thread wrote to shared memory, after the next barrier.
__device__ __forceinline__ void publish()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Waits for the warpgroup's other threads.
__device__ __forceinline__ void meet(int warpgroup)
{
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

// The same of a warp's other lanes.
__device__ __forceinline__ void meet_warp() { __syncwarp(); }

// What the neighbor has: lane 1's for lane 0 and lane 0's for lane 1, and so on.
__device__ __forceinline__ unsigned trade(unsigned value)
{
    return __shfl_xor_sync(0xffffffff, value, 1);
}

// A number that all lanes have alike, as the compiler cannot see.
__device__ __forceinline__ int make_uniform(int value)
{
    return __shfl_sync(0xffffffff, value, 0);
}

// Four numbers in fp8 (e4m3), the first in the low byte: 0 to 448.
__device__ __forceinline__ unsigned to_word(float a, float b, float c, float d)
{
    unsigned word;
    asm("{ .reg .b16 low, high; cvt.rn.satfinite.relu.e4m3x2.f32 low, %2, %1; "
        "cvt.rn.satfinite.relu.e4m3x2.f32 high, %4, %3; mov.b32 %0, {low, high}; }"
        : "=r"(word)
        : "f"(a), "f"(b), "f"(c), "f"(d));
    return word;
}

// The four fp8 numbers of a word.
__device__ __forceinline__ float4 from_word(unsigned word)
{
    float4 value;
    asm("{ .reg .b16 low, high; .reg .b32 two, four; .reg .f16 a, b, c, d; "
        "mov.b32 {low, high}, %4; cvt.rn.f16x2.e4m3x2 two, low; "
        "cvt.rn.f16x2.e4m3x2 four, high; mov.b32 {a, b}, two; mov.b32 {c, d}, four; "
        "cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; cvt.f32.f16 %2, c; cvt.f32.f16 %3, d; }"
        : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
        : "r"(word));
    return value;
}

// One number of fp16.
__device__ __forceinline__ float to_float(unsigned short half)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// As Triton divides: within two units of the last place.
__device__ __forceinline__ float divide(float a, float b)
{
    float value;
    asm("div.full.f32 %0, %1, %2;" : "=f"(value) : "f"(a), "f"(b));
    return value;
}
