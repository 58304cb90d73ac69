// Reads pictures, weights, scales and biases from standard input, runs stem_pool over
// BATCH pictures and writes its result.

#include <cstdio>

#include "stem_pool.cu"

uint4 memory[1 << 16];

template <class Number> std::vector<Number> read_numbers(size_t count)
{
    std::vector<Number> numbers(count);
    if (std::fread(numbers.data(), sizeof(Number), count, stdin) != count) std::exit(1);
    return numbers;
}

int main()
{
    const auto pictures = read_numbers<unsigned char>(BATCH * HEIGHT * WIDTH * 3);
    const auto weight = read_numbers<unsigned char>(OUT * 256);
    const auto scale = read_numbers<unsigned>(OUT / 2), bias = read_numbers<unsigned>(OUT / 2);
    const auto unit = read_numbers<float>(1);
    const int height = HEIGHT / 4;
    std::vector<unsigned char> out(BATCH * height * (WIDTH / 4) * OUT, 255);
    run_grid({OUT / 32, (height + STRIP - 1) / STRIP, BATCH}, WIDTH, [&] {
        stem_pool(pictures.data(), weight.data(), scale.data(), bias.data(), out.data(), unit[0]);
    });
    std::fwrite(out.data(), 1, out.size(), stdout);
}
