// The end of a residual block in fp8 (a 1x1 that widens, the shortcut, ReLU) and the next
// block's first 1x1, which narrows: the wide result is written, but not read back.
//
// Given by -D: IN, OUT and NEXT channels (multiples of 64; NEXT may be 0), GROUPS of warps
// in a program, AHEAD times 64 channels of the shortcut that are on their way; SOURCE
// channels of the block's input if the shortcut is a 1x1 of it, else 0, with its STRIDE
// and the WIDTH of the result's pictures (the input's sides are STRIDE times as long).
//
// All weights lie in shared memory. A warpgroup takes 64 rows at a time; what a product
// leaves in a thread's registers is what the next reads there: the weights are ordered so.

#include <fp8_rows.cuh>

constexpr int PARTS = IN / 64, CHUNKS = OUT / 64, HALVES = NEXT / 64;
constexpr int SOURCES = SOURCE / 64;
constexpr int FOLLOWING = CHUNKS * PARTS, SHORT = FOLLOWING + CHUNKS * HALVES;
constexpr int BLOCKS = SHORT + CHUNKS * SOURCES;
constexpr int BIASES = OUT + NEXT;
constexpr int THREADS = 128 * GROUPS;
constexpr int LEFT = SOURCE ? 0 : 64 * IN;           // bytes of a warpgroup
constexpr int STAGE = SOURCE ? 0 : AHEAD * 4096;

// Loads a thread's words of a row, as a product reads them: 64 channels a part.
template <int COUNT>
__device__ __forceinline__ void load_words(unsigned (&words)[COUNT][2][4], int h,
                                           const unsigned char* row, bool inside)
{
#pragma unroll
    for (int i = 0; i < 2 * COUNT; ++i) {
        const uint2 zero = {0, 0};
        const uint2 two = inside ? *reinterpret_cast<const uint2*>(row + i * 32) : zero;
        words[i / 2][h][i % 2 * 2] = two.x, words[i / 2][h][i % 2 * 2 + 1] = two.y;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
tail_next(const unsigned char* x, const unsigned char* weight, const unsigned short* bias,
          const unsigned char* shortcut, unsigned char* out, unsigned char* next, int rows,
          float dequantize, float shortcut_dequantize, float quantize,
          float next_dequantize, float next_quantize)
{
    // x [rows, IN], shortcut [rows, OUT] or with SOURCE the block's input, out [rows, OUT]
    // and next [rows, NEXT], all fp8; weight [BLOCKS, 4, 64, 16] fp8 and bias [BIASES] fp16,
    // as tail_next.py orders them.
    extern __shared__ uint4 memory[];
    unsigned char* weights = reinterpret_cast<unsigned char*>(memory);
    float* biases = reinterpret_cast<float*>(weights + BLOCKS * BLOCK);
    unsigned char* lefts = reinterpret_cast<unsigned char*>(biases + BIASES);
    unsigned char* stages = lefts + GROUPS * LEFT;

    const int group = make_uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
    const int quad = thread % 4, row = thread / 32 * 16 + thread % 32 / 4;
    uint2* left = reinterpret_cast<uint2*>(lefts + group * LEFT) + thread;
    uint4* stage = reinterpret_cast<uint4*>(stages + group * STAGE) + thread;
    const uint2* added = reinterpret_cast<uint2*>(stage - quad) + quad;
    const int worker = blockIdx.x * GROUPS + group, workers = gridDim.x * GROUPS;

    unsigned a[PARTS][2][4], source[SOURCES ? SOURCES : 1][2][4];
    // With SOURCE a tile's rows are on their way in registers.
    unsigned next_a[PARTS][2][4], next_source[SOURCES ? SOURCES : 1][2][4];
    auto load_rows = [&](int tile) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int at = tile * 64 + row + 8 * h;
            const size_t pixel = static_cast<size_t>(at / WIDTH * STRIDE) * (WIDTH * STRIDE)
                                 + at % WIDTH * STRIDE;
            load_words(next_a, h, x + static_cast<size_t>(at) * IN + quad * 8, at < rows);
            load_words(next_source, h, shortcut + pixel * SOURCE + quad * 8, at < rows);
        }
    };
    // Each thread copies what it reads itself, or what a lane of its quad does.
    auto load_left = [&](int tile) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int at = tile * 64 + row + 8 * h;
            if (at >= rows) continue;
            const unsigned char* from = x + static_cast<size_t>(at) * IN + quad * 8;
#pragma unroll
            for (int i = 0; i < IN / 32; ++i)
                copy_8(left + (h * (IN / 32) + i) * 128, from + i * 32);
        }
    };
    auto load_shortcut = [&](int tile, int chunk) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int at = tile * 64 + row + 8 * h;
            if (at < rows)
                copy_16(stage + (chunk % AHEAD * 2 + h) * 128,
                        shortcut + static_cast<size_t>(at) * OUT + chunk * 64 + quad * 16);
        }
    };

    load_weights<BLOCKS * BLOCK, BIASES, THREADS>(weights, weight, biases, bias);
    if (SOURCE)
        load_rows(worker);
    else
        load_left(worker);
    end_copies();
#pragma unroll
    for (int chunk = 0; chunk < AHEAD; ++chunk) {
        if (!SOURCE) load_shortcut(worker, chunk);
        end_copies();
    }
    wait_copies<AHEAD>();
    publish();
    __syncthreads();

    const float4* tail_bias = reinterpret_cast<const float4*>(biases) + quad;
    const float4* next_bias = tail_bias + OUT / 4;
    const float ratio = SOURCE ? divide(shortcut_dequantize, dequantize) : 0.0f;

#pragma unroll 1
    for (int tile = worker; tile * 64 < rows; tile += workers) {
        unsigned words[2][4];
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int i = 0; i < 2 * PARTS; ++i) {
                const uint2 two = SOURCE ? uint2{} : left[(h * 2 * PARTS + i) * 128];
#pragma unroll
                for (int k = 0; k < 2; ++k)
                    a[i / 2][h][i % 2 * 2 + k] =
                        SOURCE ? next_a[i / 2][h][i % 2 * 2 + k] : k ? two.y : two.x;
            }
#pragma unroll
        for (int i = 0; i < 8 * SOURCES; ++i)
            source[i / 8][i / 4 % 2][i % 4] = next_source[i / 8][i / 4 % 2][i % 4];
        if (SOURCE)
            load_rows(tile + workers);
        else
            load_left(tile + workers);
        float total[32], result[HALVES ? HALVES : 1][32];
        const int inside = rows - tile * 64 - row;  // so many rows from this on
        const size_t first = static_cast<size_t>(tile) * 64 + row;
        unsigned char* to = out + first * OUT + place_pairs(quad);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            begin_products();
            if (chunk)
#pragma unroll
                for (int half = 0; half < HALVES; ++half)
                    multiply_block(result[half], words, weights,
                                   FOLLOWING + (chunk - 1) * HALVES + half, chunk > 1);
            if (SOURCE) {
#pragma unroll
                for (int part = 0; part < SOURCES; ++part)
                    multiply_block(total, source[part], weights,
                                   SHORT + chunk * SOURCES + part, part);
                end_products();
                wait_products();
                hold(total);
#pragma unroll
                for (int i = 0; i < 32; ++i) total[i] *= ratio;
                begin_products();
            }
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
                multiply_block(total, a[part], weights, chunk * PARTS + part, SOURCE || part);
            end_products();
            wait_copies<AHEAD - 1>();
            wait_products();
            hold(total);
            meet_warp();
            finish<!SOURCE>(words, total, tail_bias + chunk * 16, added + chunk % AHEAD * 512,
                         dequantize, shortcut_dequantize, quantize);
            meet_warp();
            const int later = chunk + AHEAD;
            if (!SOURCE)
                load_shortcut(later < CHUNKS ? tile : tile + workers, later % CHUNKS);
            end_copies();
            store_pairs(to + chunk * 64, OUT, words, inside, quad);
        }
        if (!HALVES) continue;
        begin_products();
#pragma unroll
        for (int half = 0; half < HALVES; ++half)
            multiply_block(result[half], words, weights,
                           FOLLOWING + (CHUNKS - 1) * HALVES + half, true);
        end_products();
        wait_products();
#pragma unroll
        for (int half = 0; half < HALVES; ++half) {
            hold(result[half]);
            finish<false>(words, result[half], next_bias + half * 16, nullptr, next_dequantize,
                          0.0f, next_quantize);
            store(next + first * NEXT + quad * 16 + half * 64, NEXT, words, inside);
        }
    }
}
