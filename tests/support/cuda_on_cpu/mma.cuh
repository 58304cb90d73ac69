// The package's file of this name for a CPU: a program's threads are threads, and what a
// warp does together they do between two barriers.

#pragma once

#include <algorithm>
#include <array>
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__
#define __syncthreads() whole_program->arrive_and_wait()

using std::max;
using std::min;

struct Place { int x, y, z; };
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };

struct Warp {
    std::barrier<> together{32};
    const void* rows[32];
    unsigned a[32][4], b[32][2];
};

inline thread_local Place threadIdx;
inline Place blockIdx;
inline std::barrier<>* whole_program;
inline thread_local Warp* warp;

inline void load_matrices(unsigned (&a)[4], const void* row)
{
    const int lane = threadIdx.x % 32;
    warp->rows[lane] = row;
    warp->together.arrive_and_wait();
    for (int i = 0; i < 4; ++i)
        std::memcpy(&a[i], (const char*)warp->rows[8 * i + lane / 4] + lane % 4 * 4, 4);
    warp->together.arrive_and_wait();
}

inline void multiply_add(int (&total)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    const int lane = threadIdx.x % 32;
    std::copy(a, a + 4, warp->a[lane]);
    std::copy(b, b + 2, warp->b[lane]);
    warp->together.arrive_and_wait();
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 32; ++k) {
            // PTX ISA, fragments of mma.m16n8k32: a lane holds four neighbors of k.
            const int part = k % 16 / 4, byte = k % 4, right = k / 16;
            const unsigned left =
                warp->a[row % 8 * 4 + part][right * 2 + row / 8] >> (8 * byte);
            const unsigned above = warp->b[column * 4 + part][right] >> (8 * byte);
            total[i] += (signed char)left * (signed char)above;
        }
    }
    warp->together.arrive_and_wait();
}

// Rounded to the nearest fp8 (e4m3), ties to even; at most 448. Not for negative numbers.
inline unsigned char to_byte(float value)
{
    if (!(value > 0)) return 0;
    value = std::min(value, 448.0f);
    const int exponent = std::max(std::ilogb(value), -6);
    const float unit = std::ldexp(1.0f, exponent - 3);
    const int steps = (int)std::nearbyint(value / unit);
    return (unsigned char)(steps + (exponent + 6) * 8);
}

inline unsigned short to_fp8(float first, float second)
{
    return (unsigned short)(to_byte(first) | to_byte(second) << 8);
}

inline float2 to_floats(unsigned both)
{
    _Float16 two[2];
    std::memcpy(two, &both, 4);
    return {(float)two[0], (float)two[1]};
}

inline unsigned max_bytes(unsigned a, unsigned b)
{
    unsigned result = 0;
    for (int shift = 0; shift < 32; shift += 8)
        result |= std::max(a >> shift & 255, b >> shift & 255) << shift;
    return result;
}

// Runs a kernel of `threads` threads at every place of a grid.
template <class Kernel> void run_grid(Place grid, int threads, Kernel kernel)
{
    for (int z = 0; z < grid.z; ++z)
        for (int y = 0; y < grid.y; ++y)
            for (int x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                std::barrier<> all(threads);
                whole_program = &all;
                std::vector<Warp> warps(threads / 32);
                std::vector<std::thread> lanes;
                for (int i = 0; i < threads; ++i)
                    lanes.emplace_back([&, i] {
                        threadIdx = {i, 0, 0};
                        warp = &warps[i / 32];
                        kernel();
                    });
                for (std::thread& lane : lanes) lane.join();
            }
}
