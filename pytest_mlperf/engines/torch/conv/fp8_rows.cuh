// Products of fp8 rows whose result stays in registers: 64 rows of a warpgroup, of which
// a thread has two (8 apart) and a quad of lanes all channels.

#pragma once

#include <wgmma.cuh>

constexpr int BLOCK = 4096;  // bytes of weights: 64 by 64
constexpr int RIGHT = 1024;  // between 16 channels of such a block

// Starts copying a program's BYTES of weights, and reads its COUNT biases.
template <int BYTES, int COUNT, int THREADS>
__device__ __forceinline__ void load_weights(unsigned char* weights, const unsigned char* weight,
                                             float* biases, const unsigned short* bias)
{
    for (int i = threadIdx.x; i < BYTES / 16; i += THREADS)
        copy_16(weights + i * 16, weight + i * 16);
    for (int i = threadIdx.x; i < COUNT; i += THREADS) biases[i] = to_float(bias[i]);
}

// relu(total * dequantize + added + bias) * quantize in fp8: of both rows 16 channels.
// With ADD, `added` are two words of the first row, two more 32 bytes on, and the second
// row's 2,048 bytes behind them.
template <bool ADD>
__device__ __forceinline__ void finish(unsigned (&words)[2][4], const float (&total)[32],
                                       const float4* bias, const uint2* added,
                                       float dequantize, float added_dequantize,
                                       float quantize)
{
    uint2 more[2][2];
    if (ADD)
#pragma unroll
        for (int h = 0; h < 2; ++h) more[h][0] = added[256 * h], more[h][1] = added[256 * h + 4];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
        const float4 shift = bias[4 * t];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const float* at = total + 8 * t + 2 * h;
            float value[4] = {at[0], at[1], at[4], at[5]};
            const float shifts[4] = {shift.x, shift.y, shift.z, shift.w};
            float4 four = {};
            if (ADD) four = from_word(t % 2 ? more[h][t / 2].y : more[h][t / 2].x);
            const float adds[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float sum = ADD ? adds[i] * added_dequantize : shifts[i];
                value[i] = fmaf(value[i], dequantize, sum);
                if (ADD) value[i] += shifts[i];
                value[i] *= quantize;
            }
            words[h][t] = to_word(value[0], value[1], value[2], value[3]);
        }
    }
}

// total [64, 64] (+)= the words of `left` and a block of weights.
__device__ __forceinline__ void multiply_block(float (&total)[32],
                                               const unsigned (&left)[2][4],
                                               const unsigned char* weights, int block,
                                               bool add)
{
    multiply_words<RIGHT>(total, left[0][0], left[1][0], left[0][1], left[1][1], weights,
                          block * BLOCK, add);
    multiply_words<RIGHT>(total, left[0][2], left[1][2], left[0][3], left[1][3], weights,
                          block * BLOCK + 2 * RIGHT, true);
}

// Writes a thread's 16 channels of two rows, `pitch` bytes a row, of `inside` that are.
__device__ __forceinline__ void store(unsigned char* to, int pitch, const unsigned (&words)[2][4],
                                      int inside)
{
#pragma unroll
    for (int h = 0; h < 2; ++h)
        if (8 * h < inside)
            *reinterpret_cast<uint4*>(to + h * (8 * pitch)) = {words[h][0], words[h][1],
                                                               words[h][2], words[h][3]};
}

// The same of words that are 8 channels of each half of 64: lanes trade words by two, so
// that each writes 16 adjacent ones, at `place_pairs` of its 64.
__device__ __forceinline__ void store_pairs(unsigned char* to, int pitch,
                                            const unsigned (&words)[2][4], int inside, int quad)
{
    const bool odd = quad & 1;
    unsigned both[2][4];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const unsigned other = trade(odd ? words[h][i] : words[h][i + 2]);
            both[h][i] = odd ? other : words[h][i];
            both[h][i + 2] = odd ? words[h][i + 2] : other;
        }
    store(to, pitch, both, inside);
}

__device__ __forceinline__ int place_pairs(int quad) { return quad % 2 * 32 + quad / 2 * 16; }
