// A residual block of 64 and 256 channels from its 3x3 convolution on, in fp8: that,
// the 1x1 that widens, the shortcut (or its projection), ReLU, and with NEXT the next
// block's first 1x1. What the 3x3 makes stays in registers, and the wide result is not
// read back.
//
// Given by -D: HEIGHT and WIDTH of a picture (WIDTH at most 64), NEXT channels of the
// next 1x1 (0, 64 or 128), PROJECTION (1: the shortcut is a 1x1 of the 64 channels of
// the block's input; 0: it is that input, of 256), FIRST (1: the 1x1 that makes x from
// those 64 channels, too), GROUPS of warps in a program.
//
// All weights lie in shared memory. A warpgroup goes down its own lines of pixels: a
// line is the 64 rows of a product, of which those beyond WIDTH are computed for nothing.
// Four lines of x lie in a ring, 16 channels a plane, so that the left sides of the nine
// products are the same memory a pixel apart. What a product leaves in a thread's
// registers is what the next reads there: the weights are ordered so (block.py).

#include <fp8_rows.cuh>

constexpr int CHANNELS = 64, OUT = 256;
constexpr int PLANE = (WIDTH + 2) * 16;  // bytes of a line's 16 channels, zeros beside
constexpr int LINE = 4 * PLANE;
constexpr int LINES = 4;                 // of a ring: three in use, one on its way
constexpr int BEYOND = 128;              // bytes that the last row of a product may read
constexpr int HALVES = NEXT / 64;
constexpr int TAIL = 9, FOLLOWING = TAIL + 4, SHORT = FOLLOWING + 4 * HALVES;
constexpr int BEFORE = SHORT + 4 * PROJECTION;
constexpr int BLOCKS = BEFORE + FIRST;
constexpr int BIASES = CHANNELS + OUT + NEXT + CHANNELS * FIRST;
constexpr int STAGE = PROJECTION ? 0 : 128 * 128;  // bytes: a line of the shortcut
constexpr int THREADS = 128 * GROUPS;

// Starts copying a line of x into its place in the ring.
__device__ __forceinline__ void load_line(unsigned char* ring, const unsigned char* x,
                                          int line, int thread)
{
    const unsigned char* from = x + static_cast<size_t>(line) * (WIDTH * CHANNELS);
    unsigned char* to = ring + (line & 3) * LINE;
#pragma unroll
    for (int part = thread; part < WIDTH * 4; part += 128)
        copy_16(to + part % 4 * PLANE + (part / 4 + 1) * 16, from + part * 16);
}

// Starts copying 64 channels of a line of the shortcut to where this thread adds them.
__device__ __forceinline__ void load_shortcut(uint4* stage, const unsigned char* shortcut,
                                              int line, int column, int quarter)
{
    const unsigned char* from =
        shortcut + (static_cast<size_t>(line) * WIDTH + column) * OUT + quarter * 64;
    if (column < WIDTH) copy_16(stage + quarter * 256, from);
    if (column + 8 < WIDTH) copy_16(stage + quarter * 256 + 128, from + 8 * OUT);
}

// Loads a thread's words of a line of the block's input, as a product reads them.
__device__ __forceinline__ void load_source(unsigned (&words)[2][4],
                                            const unsigned char* input, int line, int column,
                                            int quad, bool inside)
{
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        uint2 low = {0, 0}, high = {0, 0};
        if (inside && column + 8 * h < WIDTH) {
            const size_t pixel = static_cast<size_t>(line) * WIDTH + column + 8 * h;
            const uint2* at = reinterpret_cast<const uint2*>(input + pixel * CHANNELS + quad * 8);
            low = at[0], high = at[4];
        }
        words[h][0] = low.x, words[h][1] = low.y, words[h][2] = high.x, words[h][3] = high.y;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
residual_block(const unsigned char* x, const unsigned char* weight,
               const unsigned short* bias, const unsigned char* shortcut,
               unsigned char* out, unsigned char* next, int lines, float conv_dequantize,
               float conv_quantize, float dequantize, float shortcut_dequantize,
               float quantize, float next_dequantize, float next_quantize,
               float first_dequantize, float first_quantize)
{
    // x [lines, WIDTH, 64], shortcut [lines, WIDTH, 256] or with PROJECTION 64,
    // out [lines, WIDTH, 256] and next [lines, WIDTH, NEXT], all fp8; weight [BLOCKS, 4,
    // 64, 16] fp8 and bias [BIASES] fp16, as block.py orders them.
    extern __shared__ uint4 memory[];
    unsigned char* weights = reinterpret_cast<unsigned char*>(memory);
    float* biases = reinterpret_cast<float*>(weights + BLOCKS * BLOCK);
    unsigned char* zeros = reinterpret_cast<unsigned char*>(biases + BIASES);
    unsigned char* rings = zeros + LINE + BEYOND;
    unsigned char* stages = rings + GROUPS * LINES * LINE + BEYOND;

    const int group = make_uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
    const int quad = thread % 4, column = thread / 32 * 16 + thread % 32 / 4;
    unsigned char* ring = rings + group * (LINES * LINE);
    uint4* stage = reinterpret_cast<uint4*>(stages + group * STAGE) + thread;
    const uint2* added = reinterpret_cast<uint2*>(stage - quad) + quad;
    const unsigned char* mine = shortcut + quad * 16;

    load_weights<BLOCKS * BLOCK, BIASES, THREADS>(weights, weight, biases, bias);
    const uint4 zero = {0, 0, 0, 0};
    for (int i = threadIdx.x; i < LINE / 16; i += THREADS)
        reinterpret_cast<uint4*>(zeros)[i] = zero;
    if (thread < 2 * 4 * LINES)
        reinterpret_cast<uint4*>(ring + thread / 2 * PLANE)[thread % 2 * (WIDTH + 1)] = zero;

    const int worker = blockIdx.x * GROUPS + group, workers = gridDim.x * GROUPS;
    const int first = static_cast<int>(static_cast<long long>(lines) * worker / workers);
    const int end = static_cast<int>(static_cast<long long>(lines) * (worker + 1) / workers);
    if (!FIRST && first < end) {
        for (int line = max(first - 1, 0); line < min(first + 2, lines); ++line)
            load_line(ring, x, line, thread);
    }
    end_copies();
    if (!PROJECTION && first < end)
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter)
            load_shortcut(stage, mine, first, column, quarter);
    end_copies();
    wait_copies<1>();
    publish();
    __syncthreads();

    const float4* conv_bias = reinterpret_cast<const float4*>(biases) + quad;
    const float4* tail_bias = conv_bias + CHANNELS / 4;
    const float4* next_bias = tail_bias + OUT / 4;
    const float ratio = PROJECTION ? divide(shortcut_dequantize, dequantize) : 0.0f;
    const float4* first_bias = next_bias + NEXT / 4;
    unsigned char* place = ring + quad * PLANE + (column + 1) * 16;
    unsigned source[2][4], ahead[2][4], words[2][4];
    float total[32];
    auto make_line = [&](int line) {
        begin_products();
        multiply_block(total, ahead, weights, BEFORE, false);
        end_products();
        wait_products();
        hold(total);
        finish<false>(words, total, first_bias, nullptr, first_dequantize, 0.0f, first_quantize);
        store(place + (line & 3) * LINE, 16, words, WIDTH - column);
    };
    if (FIRST && first < end) {
        if (first) {
            load_source(ahead, shortcut, first - 1, column, quad, true);
            make_line(first - 1);
        }
        load_source(source, shortcut, first, column, quad, true);
        load_source(ahead, shortcut, first, column, quad, true);
        make_line(first);
        load_source(ahead, shortcut, first + 1, column, quad, first + 1 < lines);
    }

#pragma unroll 1
    for (int line = first; line < end; ++line) {
        // The next line of x is here. Behind this barrier nobody reads the oldest.
        if (FIRST && line + 1 < lines) make_line(line + 1);
        wait_copies<1>();
        publish();
        meet(group);
        if (!FIRST && line + 2 <= end && line + 2 < lines)
            load_line(ring, x, line + 2, thread);
        end_copies();
        unsigned later[2][4];
        if (FIRST) load_source(later, shortcut, line + 2, column, quad, line + 2 < lines);
        if (PROJECTION && !FIRST) load_source(source, shortcut, line, column, quad, true);
        const int y = line % HEIGHT;
        begin_products();
#pragma unroll
        for (int down = 0; down < 3; ++down) {
            const bool outside = down == 0 ? y == 0 : down == 2 ? y == HEIGHT - 1 : false;
            const unsigned char* from =
                outside ? zeros : ring + ((line + down - 1) & 3) * LINE;
#pragma unroll
            for (int k = 0; k < 6; ++k)
                multiply_shared<PLANE, RIGHT>(
                    total, from, k / 2 * 16 + k % 2 * (2 * PLANE), weights,
                    (3 * down + k / 2) * BLOCK + k % 2 * (2 * RIGHT), down || k);
        }
        end_products();
        wait_products();
        hold(total);
        unsigned between[2][4];
        finish<false>(between, total, conv_bias, nullptr, conv_dequantize, 0.0f, conv_quantize);

        float result[HALVES ? HALVES : 1][32];
        unsigned char* to = out + (static_cast<size_t>(line) * WIDTH + column) * OUT
                            + place_pairs(quad);
        wait_copies<1>();
        meet_warp();
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) {
            begin_products();
            if (quarter)
#pragma unroll
                for (int half = 0; half < HALVES; ++half)
                    multiply_block(result[half], words, weights,
                                   FOLLOWING + (quarter - 1) * HALVES + half,
                                   quarter > 1);
            if (PROJECTION) {
                multiply_block(total, source, weights, SHORT + quarter, false);
                end_products();
                wait_products();
                hold(total);
#pragma unroll
                for (int i = 0; i < 32; ++i) total[i] *= ratio;
                begin_products();
            }
            multiply_block(total, between, weights, TAIL + quarter, PROJECTION);
            end_products();
            wait_products();
            hold(total);
            finish<!PROJECTION>(words, total, tail_bias + quarter * 16, added + quarter * 512,
                                dequantize, shortcut_dequantize, quantize);
            meet_warp();
            if (!PROJECTION && line + 1 < end)
                load_shortcut(stage, mine, line + 1, column, quarter);
            store_pairs(to + quarter * 64, OUT, words, WIDTH - column, quad);
        }
        end_copies();
        if (FIRST)
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                source[i / 4][i % 4] = ahead[i / 4][i % 4];
                ahead[i / 4][i % 4] = later[i / 4][i % 4];
            }
        if (!HALVES) continue;
        begin_products();
#pragma unroll
        for (int half = 0; half < HALVES; ++half)
            multiply_block(result[half], words, weights, FOLLOWING + 3 * HALVES + half, true);
        end_products();
        wait_products();
        unsigned char* beside = next + (static_cast<size_t>(line) * WIDTH + column) * NEXT
                                + quad * 16;
#pragma unroll
        for (int half = 0; half < HALVES; ++half) {
            hold(result[half]);
            finish<false>(words, result[half], next_bias + half * 16, nullptr, next_dequantize,
                          0.0f, next_quantize);
            store(beside + half * 64, NEXT, words, WIDTH - column);
        }
    }
}
