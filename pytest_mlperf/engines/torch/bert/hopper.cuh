// What the encoder's kernels do alike on Hopper (sm_90a), as PTX: barriers in shared memory,
// the warpgroup's matrix unit, and numbers of fewer bits.

#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

struct alignas(64) TensorMap {
    char bytes[128];
};

__device__ __forceinline__ u32 shared_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

// The same value for a warp: then the compiler keeps it in uniform registers, where the
// matrix unit wants its descriptions.
__device__ __forceinline__ int uniform(int x) { return __shfl_sync(0xffffffff, x, 0); }

// One thread makes a ring's barriers: ``full`` waits for who fetches, ``empty`` for
// ``readers`` arrivals.
__device__ __forceinline__ void make_ring(u32 full, u32 empty, int stages, int readers) {
    for (int i = 0; i < stages; ++i) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full + 8 * i));
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(empty + 8 * i),
                     "r"(readers));
    }
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// Wait until a barrier has passed ``phase``, 0 or 1.
__device__ __forceinline__ void wait(u32 barrier, u32 phase) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra finished;\n"
        "bra again;\n"
        "finished:\n}\n" ::"r"(barrier), "r"(phase) : "memory");
}

// Arrive, and announce bytes that will come.
__device__ __forceinline__ void expect(u32 barrier, u32 bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier),
        "r"(bytes) : "memory");
}

// Two numbers of fp16, the first in the low half.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// Four numbers of fp8 (e4m3), the first in the low byte.
__device__ __forceinline__ u32 pack_fp8(float a, float b, float c, float d) {
    u16 low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
    return (u32)low | ((u32)high << 16);
}

// The matrix unit's description of rows of 128 bytes, swizzled, in groups of eight: the
// lower half. The upper one is the same for all: 1,024 bytes a group.
#define UPPER_HALF "0x40000040"
__device__ __forceinline__ u32 describe(u32 address) {
    return (address >> 4) | (1u << 16);
}

// The compiler must not move registers across a product that still uses them.
__device__ __forceinline__ void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void end_products() {
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Wait for the products up to the last end_products() but LATER.
template <int LATER>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(LATER) : "memory");
}
