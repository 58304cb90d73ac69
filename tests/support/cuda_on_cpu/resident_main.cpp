// Reads x, weights, biases and two scales from standard input, runs convolve_resident over
// BATCH pictures in PROGRAMS programs, and writes its result.

#include <cstdio>

#include "resident.cu"

uint4 memory[1 << 14];

template <class Number> std::vector<Number> read_numbers(size_t count)
{
    std::vector<Number> numbers(count);
    if (std::fread(numbers.data(), sizeof(Number), count, stdin) != count) std::exit(1);
    return numbers;
}

int main()
{
    const int pixels = BATCH * HEIGHT * WIDTH;
    const auto x = read_numbers<unsigned char>(pixels * CHANNELS);
    const auto weight = read_numbers<unsigned char>(9 * TAP);
    const auto bias = read_numbers<unsigned short>(CHANNELS);
    const auto scale = read_numbers<float>(2);
    std::vector<unsigned char> out(pixels * CHANNELS, 255);
    gridDim = {PROGRAMS, 1, 1};
    run_grid(gridDim, THREADS, [&] {
        convolve_resident(x.data(), weight.data(), bias.data(), out.data(), BATCH, scale[0],
                          scale[1]);
    });
    std::fwrite(out.data(), 1, out.size(), stdout);
}
