// What one warp does together, as PTX: a test on a CPU includes its own file of this name.

// Loads four 8x8 matrices of 16-bit words: lanes 8i to 8i + 7 give the addresses of the
// rows (16 bytes) of matrix i; a lane gets word lane % 4 of row lane / 4 of each.
__device__ __forceinline__ void load_matrices(unsigned (&a)[4], const void* row)
{
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(address));
}

// total [16, 8] += a [16, 32] b [32, 8], int8 into int32.
__device__ __forceinline__ void multiply_add(int (&total)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(total[0]), "+r"(total[1]), "+r"(total[2]), "+r"(total[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two numbers in fp8 (e4m3), the first in the low byte; at most 448 in magnitude.
__device__ __forceinline__ unsigned short to_fp8(float first, float second)
{
    unsigned short both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(second), "f"(first));
    return both;
}

// Two numbers of fp16, the first in the low half.
__device__ __forceinline__ float2 to_floats(unsigned both)
{
    float2 value;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; "
        "cvt.f32.f16 %1, high; }"
        : "=f"(value.x), "=f"(value.y) : "r"(both));
    return value;
}

// The larger of each of four unsigned bytes.
__device__ __forceinline__ unsigned max_bytes(unsigned a, unsigned b)
{
    return __vmaxu4(a, b);
}
