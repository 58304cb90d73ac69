// The first convolution of a net (7x7, stride 2, padding 3, int8 pictures of three
// colors), its ReLU and its pooling (largest of 3x3, stride 2, padding 1) in one kernel:
// what is between them is four times the result and never leaves the multiprocessor.
//
// Given by -D: HEIGHT and WIDTH of a picture (multiples of 4 and 32), OUT channels (a
// multiple of 32), STRIP rows of the result that a program makes. A program has WIDTH
// threads and makes 32 channels of a strip: grid (OUT / 32, strips, pictures).
//
// Blocks of 2x2 pixels are 16 bytes (12, and 4 of zero), so the convolution is a product
// over 4x4 blocks. A strip's blocks lie in shared memory once; the product's left side
// is read from there at overlapping addresses. A warp has 16 columns of the convolution
// and all weights of its 32 channels in registers, and goes down the rows.

#include <mma.cuh>

constexpr int BLOCK = 16;
constexpr int COLUMNS = WIDTH / 2;       // of the convolution
constexpr int PITCH = COLUMNS + 4;       // blocks of a line: two of zeros on each side
constexpr int LINES = 2 * STRIP + 4;     // lines of blocks that a strip needs
constexpr int CHANNELS = 32;
constexpr int ROW_PITCH = CHANNELS + 16; // bytes: no two rows of a tile in one bank
constexpr int LEAST = -2147483647 - 1;

// Writes the blocks of a strip, whose first line is line `first` of the picture's.
__device__ void fold_pixels(const unsigned char* picture, int first, unsigned char* lines)
{
    constexpr int GROUPS = WIDTH / 8;  // of four blocks: 24 bytes of two rows of pixels
    const uint4 zero = {0, 0, 0, 0};
    for (int task = threadIdx.x; task < LINES * GROUPS; task += WIDTH) {
        const int line = task / GROUPS, group = task % GROUPS;
        const int y = first + line - 2;
        uint2 pixels[2][3] = {};
        if (y >= 0 && y < HEIGHT / 2) {
            const uint2* at = reinterpret_cast<const uint2*>(
                picture + (2 * y * WIDTH + 8 * group) * 3);
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                pixels[0][i] = at[i];
                pixels[1][i] = at[i + WIDTH * 3 / 8];
            }
        }
        const unsigned t[6] = {pixels[0][0].x, pixels[0][0].y, pixels[0][1].x,
                               pixels[0][1].y, pixels[0][2].x, pixels[0][2].y};
        const unsigned u[6] = {pixels[1][0].x, pixels[1][0].y, pixels[1][1].x,
                               pixels[1][1].y, pixels[1][2].x, pixels[1][2].y};
        uint4* to = reinterpret_cast<uint4*>(lines) + line * PITCH + 2 + 4 * group;
#pragma unroll
        for (int i = 0; i < 6; i += 3) {
            const int k = i / 3 * 2;
            to[k] = {t[i], (t[i + 1] & 0xffff) | (u[i] << 16),
                     (u[i] >> 16) | (u[i + 1] << 16), 0};
            to[k + 1] = {(t[i + 1] >> 16) | (t[i + 2] << 16),
                         (t[i + 2] >> 16) | (u[i + 1] & 0xffff0000), u[i + 2], 0};
        }
    }
    for (int task = threadIdx.x; task < LINES * 4; task += WIDTH) {
        const int side = task % 4;
        const int column = side < 2 ? side : COLUMNS + side;
        reinterpret_cast<uint4*>(lines)[task / 4 * PITCH + column] = zero;
    }
}

extern "C" __global__ void __launch_bounds__(WIDTH, PROGRAMS)
stem_pool(const unsigned char* pictures, const unsigned char* weight, const unsigned* scale,
          const unsigned* bias, unsigned char* out, float unit)
{
    // pictures [batch, HEIGHT, WIDTH, 3] int8; weight [OUT, 4, 4 blocks] int8; `scale`
    // times `unit` undoes the weights' scale and applies that of `out`, as `bias` does
    // (both fp16, two a word); out [batch, HEIGHT / 4, WIDTH / 4, OUT] fp8.
    extern __shared__ uint4 memory[];
    unsigned char* lines = reinterpret_cast<unsigned char*>(memory);
    unsigned char* rows = lines + LINES * PITCH * BLOCK;
    const int lane = threadIdx.x % 32, tile = threadIdx.x / 32;
    const int group = lane / 4, pair = lane % 4;
    const int channel = blockIdx.x * CHANNELS;
    const int strip = blockIdx.y * STRIP;

    unsigned b[4][2][4][2];  // kernel's line, half of it, 8 channels
#pragma unroll
    for (int down = 0; down < 4; ++down)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int eight = 0; eight < 4; ++eight) {
                const unsigned* at = reinterpret_cast<const unsigned*>(
                    weight + (channel + eight * 8 + group) * 256 + down * 64 + half * 32);
                b[down][half][eight][0] = at[pair];
                b[down][half][eight][1] = at[pair + 4];
            }
    const unsigned char* picture =
        pictures + static_cast<size_t>(blockIdx.z) * (HEIGHT * WIDTH * 3);
    fold_pixels(picture, 2 * strip - 1, lines);
    __syncthreads();

    // Of a 16x32 tile the four 8x8 matrices are the upper and lower rows, left and right.
    const int matrix = lane / 8;
    const int column = 16 * tile + lane % 8 + matrix % 2 * 8 + matrix / 2;
    const unsigned char* base = lines + column * BLOCK;
    int before[4][4];  // the convolution's last row
#pragma unroll
    for (int eight = 0; eight < 4; ++eight)
#pragma unroll
        for (int i = 0; i < 4; ++i) before[eight][i] = strip ? 0 : LEAST;
    if (strip)
#pragma unroll
        for (int down = 0; down < 4; ++down)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                unsigned a[4];
                load_matrices(a, base + down * (PITCH * BLOCK) + half * 32);
#pragma unroll
                for (int eight = 0; eight < 4; ++eight)
                    multiply_add(before[eight], a, b[down][half][eight]);
            }

    const int end = min(STRIP, HEIGHT / 4 - strip);
#pragma unroll 1
    for (int row = 0; row < end; ++row) {
        // Two rows of the convolution; four of their five lines are in both.
        int upper[4][4] = {}, lower[4][4] = {};
        const unsigned char* line = base + (2 * row + 1) * (PITCH * BLOCK);
#pragma unroll
        for (int down = 0; down < 5; ++down)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                unsigned a[4];
                load_matrices(a, line + down * (PITCH * BLOCK) + half * 32);
#pragma unroll
                for (int eight = 0; eight < 4; ++eight) {
                    if (down < 4) multiply_add(upper[eight], a, b[down & 3][half][eight]);
                    if (down) multiply_add(lower[eight], a, b[(down - 1) & 3][half][eight]);
                }
            }
        // Scaling, ReLU and rounding keep the order of numbers: the largest is scaled.
        unsigned char* kept = rows + (row & 1) * (COLUMNS * ROW_PITCH);
#pragma unroll
        for (int eight = 0; eight < 4; ++eight) {
            const int at = channel + eight * 8 + pair * 2;
            const float2 factor = to_floats(scale[at / 2]), shift = to_floats(bias[at / 2]);
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                float value[2];
#pragma unroll
                for (int k = 0; k < 2; ++k) {
                    const int largest = max(max(before[eight][i + k], upper[eight][i + k]),
                                            lower[eight][i + k]);
                    before[eight][i + k] = lower[eight][i + k];
                    value[k] = static_cast<float>(largest);
                }
                value[0] = fmaxf(value[0] * (factor.x * unit) + shift.x, 0.0f);
                value[1] = fmaxf(value[1] * (factor.y * unit) + shift.y, 0.0f);
                const int spot = (16 * tile + group + i * 4) * ROW_PITCH + eight * 8;
                *reinterpret_cast<unsigned short*>(kept + spot + pair * 2) =
                    to_fp8(value[0], value[1]);
            }
        }
        __syncthreads();
        // fp8 numbers that are not negative have the order of their bytes.
        const int pixel = threadIdx.x / 4, part = threadIdx.x % 4;
        const unsigned char* from = kept + 2 * pixel * ROW_PITCH + part * 8;
        uint2 value = *reinterpret_cast<const uint2*>(from);
#pragma unroll
        for (int side = -1; side < 2; side += 2) {
            if (side < 0 && pixel == 0) continue;
            const uint2 other = *reinterpret_cast<const uint2*>(from + side * ROW_PITCH);
            value = {max_bytes(value.x, other.x), max_bytes(value.y, other.y)};
        }
        const size_t line_out =
            static_cast<size_t>(blockIdx.z) * (HEIGHT / 4) + strip + row;
        *reinterpret_cast<uint2*>(out + (line_out * (WIDTH / 4) + pixel) * OUT + channel
                                  + part * 8) = value;
        // The next row goes into the other half of `rows`: nobody waits here.
    }
}
