// The package's file of this name for a CPU: what a warpgroup does together its 128
// threads do between two barriers, and copies are made at once.

#pragma once

#include "mma.cuh"

struct float4 { float x, y, z, w; };

struct Warpgroup {
    std::barrier<> together{128};
    unsigned words[128][4];
};

inline Warpgroup warpgroups[4];
inline Place gridDim{1, 1, 1};

inline Warpgroup& my_warpgroup() { return warpgroups[threadIdx.x / 128]; }

// A byte as e4m3; 0x7f and 0xff, which are no number, as the kernels never mean them.
inline float from_byte(unsigned byte)
{
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const float value = exponent ? std::ldexp(8.0f + mantissa, exponent - 10)
                                 : std::ldexp((float)mantissa, -9);
    return byte & 128 ? -value : value;
}

// Byte k of row `row` of an operand in shared memory.
template <int PLANE> inline float read_tile(const void* tile, int row, int k)
{
    return from_byte(((const unsigned char*)tile)[k / 16 * PLANE + row * 16 + k % 16]);
}

template <class Left, class Right>
inline void multiply_tile(float (&total)[32], bool add, Left left, Right right)
{
    const int thread = threadIdx.x % 128, lane = thread % 32;
    for (int n = 0; n < 32; ++n) {
        const int row = thread / 32 * 16 + n / 2 % 2 * 8 + lane / 4;
        const int column = n / 4 * 8 + lane % 4 * 2 + n % 2;
        float sum = add ? total[n] : 0.0f;
        for (int k = 0; k < 32; ++k) sum += left(row, k) * right(column, k);
        total[n] = sum;
    }
}

template <int LEFT_PLANE, int RIGHT_PLANE>
inline void multiply_shared(float (&total)[32], const void* left, int left_skip,
                            const void* right, int right_skip, bool add)
{
    left = (const char*)left + left_skip, right = (const char*)right + right_skip;
    multiply_tile(
        total, add, [&](int row, int k) { return read_tile<LEFT_PLANE>(left, row, k); },
        [&](int column, int k) { return read_tile<RIGHT_PLANE>(right, column, k); });
}

template <int LEFT_PLANE, int RIGHT_PLANE>
inline void multiply_wide(float (&low)[32], float (&high)[32], const void* left, int left_skip,
                          const void* right, int right_skip, bool add)
{
    multiply_shared<LEFT_PLANE, RIGHT_PLANE>(low, left, left_skip, right, right_skip, add);
    right_skip += 64 * 16;
    multiply_shared<LEFT_PLANE, RIGHT_PLANE>(high, left, left_skip, right, right_skip, add);
}

template <int RIGHT_PLANE>
inline void multiply_words(float (&total)[32], unsigned a, unsigned b, unsigned c, unsigned d,
                           const void* right, int right_skip, bool add)
{
    right = (const char*)right + right_skip;
    Warpgroup& group = my_warpgroup();
    const unsigned words[4] = {a, b, c, d};
    std::copy(words, words + 4, group.words[threadIdx.x % 128]);
    group.together.arrive_and_wait();
    multiply_tile(
        total, add,
        [&](int row, int k) {
            // PTX ISA, fragments of wgmma.m64k32 of 8 bits.
            const int thread = row / 16 * 32 + row % 8 * 4 + k % 16 / 4;
            return from_byte(group.words[thread][k / 16 * 2 + row / 8 % 2] >> k % 4 * 8 & 255);
        },
        [&](int column, int k) { return read_tile<RIGHT_PLANE>(right, column, k); });
    group.together.arrive_and_wait();
}

inline void begin_products() {}
inline void end_products() {}
template <int LATER = 0> inline void wait_products() {}
inline void hold(float (&)[32]) {}
inline void copy_16(void* to, const void* from) { std::memcpy(to, from, 16); }
inline void copy_16_or_zeros(void* to, const void* from, bool inside)
{
    if (inside)
        copy_16(to, from);
    else
        std::memset(to, 0, 16);
}
inline void copy_8(void* to, const void* from) { std::memcpy(to, from, 8); }
inline void end_copies() {}
template <int LATER> inline void wait_copies() {}
inline void publish() {}
inline void meet(int) { my_warpgroup().together.arrive_and_wait(); }
inline void meet_warp() { warp->together.arrive_and_wait(); }

inline unsigned trade(unsigned value)
{
    const int lane = threadIdx.x % 32;
    warp->a[lane][0] = value;
    meet_warp();
    value = warp->a[lane ^ 1][0];
    meet_warp();
    return value;
}

inline int make_uniform(int value) { return value; }

inline unsigned to_word(float a, float b, float c, float d)
{
    return to_fp8(a, b) | (unsigned)to_fp8(c, d) << 16;
}

inline float4 from_word(unsigned word)
{
    return {from_byte(word & 255), from_byte(word >> 8 & 255), from_byte(word >> 16 & 255),
            from_byte(word >> 24)};
}

inline float to_float(unsigned short half)
{
    _Float16 value;
    std::memcpy(&value, &half, 2);
    return (float)value;
}

inline float divide(float a, float b) { return a / b; }
