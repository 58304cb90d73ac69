// A 3x3 convolution of 128 channels to 128 with ReLU, stride 1, in fp8, whose weights stay
// in shared memory, as its pixels do while nine products read them.
//
// Given by -D: HEIGHT and WIDTH of a picture, GROUPS of warps in a program.
//
// A picture is a row of places: WIDTH pixels and a zero, HEIGHT times, and a line of zeros.
// So the pixels of a weight's 64 places are 64 places too, and a product's left side is
// shared memory that begins a few places further. 64 places a warpgroup; what is computed
// at zeros is thrown away.

#include <fp8_rows.cuh>

constexpr int CHANNELS = 128;
constexpr int PITCH = WIDTH + 1, PICTURE = (HEIGHT + 1) * PITCH;
constexpr int PLACES = 64 * GROUPS;                   // of a tile
constexpr int BESIDE = PITCH + 1;                     // places that a tile needs on each side
constexpr int FETCHED = PLACES + 2 * BESIDE;
constexpr int PLANE = (FETCHED + (13 - FETCHED % 8) % 8) * 16;  // 5 places of 8: no bank twice
constexpr int TILE = CHANNELS / 16 * PLANE;           // bytes
constexpr int WIDE = CHANNELS * 16;                   // bytes between 16 channels of weights
constexpr int TAP = CHANNELS * CHANNELS;
constexpr int THREADS = 128 * GROUPS;

extern "C" __global__ void __launch_bounds__(THREADS, 1)
convolve_resident(const unsigned char* x, const unsigned char* weight,
                  const unsigned short* bias, unsigned char* out, int pictures,
                  float dequantize, float quantize)
{
    // x and out [pictures, HEIGHT, WIDTH, 128] fp8; weight [9, 8, 128, 16] fp8 and bias
    // [128] fp16, as resident.py orders them.
    extern __shared__ uint4 memory[];
    unsigned char* weights = reinterpret_cast<unsigned char*>(memory);
    float* biases = reinterpret_cast<float*>(weights + 9 * TAP);
    unsigned char* tiles = reinterpret_cast<unsigned char*>(biases + CHANNELS);

    const int group = make_uniform(threadIdx.x / 128), thread = threadIdx.x % 128;
    const int quad = thread % 4, row = thread / 32 * 16 + thread % 32 / 4;
    const int places = pictures * PICTURE;

    // The number of a place's pixel, or -1 where it is a zero.
    auto find_pixel = [&](int place) {
        const int picture = place / PICTURE, at = place % PICTURE;
        const int line = at / PITCH, column = at % PITCH;
        const bool inside = place >= 0 && place < places && line < HEIGHT && column < WIDTH;
        return inside ? (picture * HEIGHT + line) * WIDTH + column : -1;
    };
    auto load_tile = [&](int tile, int buffer) {
        unsigned char* to = tiles + buffer * TILE + threadIdx.x % 8 * PLANE;
#pragma unroll
        for (int i = 0; i < (FETCHED + THREADS / 8 - 1) / (THREADS / 8); ++i) {
            const int place = threadIdx.x / 8 + i * (THREADS / 8);
            if (place >= FETCHED) break;
            const int pixel = find_pixel(tile * PLACES - BESIDE + place);
            const size_t from = static_cast<size_t>(max(pixel, 0)) * CHANNELS;
            copy_16_or_zeros(to + place * 16, x + from + threadIdx.x % 8 * 16, pixel >= 0);
        }
    };

    load_weights<9 * TAP, CHANNELS, THREADS>(weights, weight, biases, bias);
    load_tile(blockIdx.x, 0);
    end_copies();
    const float4* shifts = reinterpret_cast<const float4*>(biases) + quad;

    int buffer = 0;
#pragma unroll 1
    for (int tile = blockIdx.x; tile * PLACES < places; tile += gridDim.x) {
        // The tile is here, and nobody reads the one before.
        wait_copies<0>();
        publish();
        __syncthreads();
        load_tile(tile + gridDim.x, buffer ^ 1);
        end_copies();
        const unsigned char* left = tiles + buffer * TILE + group * (64 * 16);
        float low[32], high[32];
        begin_products();
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                multiply_wide<PLANE, WIDE>(low, high, left,
                                           (tap / 3 * PITCH + tap % 3) * 16 + k * (2 * PLANE),
                                           weights, tap * TAP + k * (2 * WIDE), tap || k);
        end_products();
        wait_products();
        hold(low);
        hold(high);
        unsigned words[2][2][4];
        finish<false>(words[0], low, shifts, nullptr, dequantize, 0.0f, quantize);
        finish<false>(words[1], high, shifts + 16, nullptr, dequantize, 0.0f, quantize);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int pixel = find_pixel(tile * PLACES + group * 64 + row + 8 * h);
            if (pixel < 0) continue;
            unsigned char* to = out + static_cast<size_t>(pixel) * CHANNELS + quad * 16;
#pragma unroll
            for (int half = 0; half < 2; ++half)
                *reinterpret_cast<uint4*>(to + half * 64) = {
                    words[half][h][0], words[half][h][1], words[half][h][2],
                    words[half][h][3]};
        }
        buffer ^= 1;
    }
}
