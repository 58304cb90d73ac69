// Reads x, weights, biases, the shortcut and five scales from standard input, runs
// tail_next over ROWS rows in PROGRAMS programs, and writes both results.

#include <cstdio>

#include "tail_next.cu"

uint4 memory[1 << 14];

template <class Number> std::vector<Number> read_numbers(size_t count)
{
    std::vector<Number> numbers(count);
    if (std::fread(numbers.data(), sizeof(Number), count, stdin) != count) std::exit(1);
    return numbers;
}

int main()
{
    const auto x = read_numbers<unsigned char>(ROWS * IN);
    const auto weight = read_numbers<unsigned char>(BLOCKS * BLOCK);
    const auto bias = read_numbers<unsigned short>(BIASES);
    const auto shortcut = read_numbers<unsigned char>(
        ROWS * (SOURCE ? SOURCE * STRIDE * STRIDE : OUT));
    const auto scale = read_numbers<float>(5);
    std::vector<unsigned char> out(ROWS * OUT, 255), next(ROWS * NEXT, 255);
    gridDim = {PROGRAMS, 1, 1};
    run_grid(gridDim, THREADS, [&] {
        tail_next(x.data(), weight.data(), bias.data(), shortcut.data(), out.data(),
                  next.data(), ROWS, scale[0], scale[1], scale[2], scale[3], scale[4]);
    });
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fwrite(next.data(), 1, next.size(), stdout);
}
