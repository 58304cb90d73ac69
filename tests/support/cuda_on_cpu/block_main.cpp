// Reads x, weights, biases, the shortcut and nine scales from standard input, runs
// residual_block over BATCH pictures in PROGRAMS programs, and writes both results.

#include <cstdio>

#include "block.cu"

uint4 memory[1 << 14];

template <class Number> std::vector<Number> read_numbers(size_t count)
{
    std::vector<Number> numbers(count);
    if (std::fread(numbers.data(), sizeof(Number), count, stdin) != count) std::exit(1);
    return numbers;
}

int main()
{
    const int lines = BATCH * HEIGHT;
    const auto x = read_numbers<unsigned char>(lines * WIDTH * CHANNELS);
    const auto weight = read_numbers<unsigned char>(BLOCKS * BLOCK);
    const auto bias = read_numbers<unsigned short>(BIASES);
    const auto shortcut =
        read_numbers<unsigned char>(lines * WIDTH * (PROJECTION ? CHANNELS : OUT));
    const auto scale = read_numbers<float>(9);
    std::vector<unsigned char> out(lines * WIDTH * OUT, 255), next(lines * WIDTH * NEXT, 255);
    std::memset(memory, 0x7f, sizeof(memory));
    gridDim = {PROGRAMS, 1, 1};
    run_grid(gridDim, THREADS, [&] {
        residual_block(x.data(), weight.data(), bias.data(), shortcut.data(), out.data(),
                       next.data(), lines, scale[0], scale[1], scale[2], scale[3], scale[4],
                       scale[5], scale[6], scale[7], scale[8]);
    });
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fwrite(next.data(), 1, next.size(), stdout);
}
