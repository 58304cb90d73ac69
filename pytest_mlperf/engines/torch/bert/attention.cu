// Attention of packed sequences on Hopper's matrix units (sm_90a).
//
// A program stays on its multiprocessor and takes pairs of a sequence and a head in
// turn. One warp fetches: the queries, keys and values of 64 tokens are a tile, and
// TILES of them are in shared memory, so the next pairs come while this one computes,
// and each is read once. GROUPS groups of four warps compute: each takes 64 queries of
// a pair, by turns across pairs, so that none waits for another at a pair's end. While
// one group takes exponentials, another's products run.
//
// The largest score is not looked for in every tile: any value near it serves, because
// it only keeps the exponentials in range. It is the first tile's, until the sum of a
// thread's exponentials says that it is too small.
//
// Defined by the compiler's caller: HEADS, GROUPS, TILES, PAIRS, FP8.

#include "hopper.cuh"

#define HEAD 64
#define THREADS (128 * (GROUPS + 1))
#define EXACT (!FP8)  // take the largest score of every tile: its weight is exactly 1
#define TILE 64
#define PART (TILE * HEAD * 2)     // bytes of a tile's queries, or keys, or values
#define TILE_BYTES (3 * PART)
#define INFINITY_ __int_as_float(0x7f800000)
#define LARGEST_SUM 8192.0f        // of 16 exponentials; fp16 holds 65,504

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

// Have a tile's queries, keys and values fetched from a tensor map. Its first ``rows``
// tokens are ``token`` and those behind it, and the others zeros, because the map's axis
// of tokens ends there: whatever another sequence has, this one does not read it.
__device__ __forceinline__ void fetch(
    const TensorMap* map, u32 to, int column, int token, int rows, u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, 0}], [%5];\n" ::"r"(to), "l"(map), "r"(column),
        "r"(TILE - rows), "r"(token + rows), "r"(barrier) : "memory");
}

__device__ __forceinline__ float raise_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#define EACH_FLOAT(x) \
    "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3]), "+f"(x[4]), "+f"(x[5]), \
    "+f"(x[6]), "+f"(x[7]), "+f"(x[8]), "+f"(x[9]), "+f"(x[10]), "+f"(x[11]), \
    "+f"(x[12]), "+f"(x[13]), "+f"(x[14]), "+f"(x[15]), "+f"(x[16]), "+f"(x[17]), \
    "+f"(x[18]), "+f"(x[19]), "+f"(x[20]), "+f"(x[21]), "+f"(x[22]), "+f"(x[23]), \
    "+f"(x[24]), "+f"(x[25]), "+f"(x[26]), "+f"(x[27]), "+f"(x[28]), "+f"(x[29]), \
    "+f"(x[30]), "+f"(x[31])
__device__ __forceinline__ void hold(float (&x)[32]) {
    asm volatile("" : EACH_FLOAT(x)::"memory");
}
__device__ __forceinline__ void wait_products(float (&s)[32], float (&o)[32]) {
    wait_products<0>();
    hold(s);
    hold(o);
}

// out [64, 64] (+)= a [64, 16], in registers, times b [16, 64], values in shared memory.
__device__ __forceinline__ void multiply(
    float (&o)[32], const u32* a, u32 b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b64 b;\nsetp.ne.b32 p, %37, 0;\n"
        "mov.b64 b, {%36, " UPPER_HALF "};\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, b, p, 1, 1, 1;\n}\n"
        : EACH_FLOAT(o)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "r"(accumulate));
}

// The same with queries a [64, 16] and keys b [64, 16], both in shared memory.
__device__ __forceinline__ void multiply_shared(
    float (&o)[32], u32 a, u32 b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b64 a, b;\nsetp.ne.b32 p, %34, 0;\n"
        "mov.b64 a, {%32, " UPPER_HALF "};\n"
        "mov.b64 b, {%33, " UPPER_HALF "};\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "a, b, p, 1, 1, 0, 0;\n}\n"
        : EACH_FLOAT(o)
        : "r"(a), "r"(b), "r"(accumulate));
}

// Scores of 64 queries and a tile's 64 keys: those beyond the sequence are 0.
__device__ __forceinline__ void score(float (&s)[32], u32 queries, u32 keys) {
    u32 a = describe(queries), b = describe(keys);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; ++i) multiply_shared(s, a + 2 * i, b + 2 * i, i);
    end_products();
}

// Add the values of 16 * STEPS keys.
template <int STEPS>
__device__ __forceinline__ void mix(
    float (&o)[32], const u32 (&p)[16], u32 values, int accumulate) {
    u32 b = describe(values);
    begin_products();
#pragma unroll
    for (int i = 0; i < STEPS; ++i) {
        multiply(o, p + 4 * i, b + 128 * i, i || accumulate);
    }
    end_products();
}

// What a thread keeps of its two rows.
struct Rows {
    float top[2];  // the score that is taken off, times the scale
    float sum[2];
};

// Probabilities p of 16 * STEPS keys from scores s; ``keys`` of them are real.
template <int STEPS, bool MASKED>
__device__ __forceinline__ void softmax(
    float (&s)[32], u32 (&p)[16], float (&o)[32], Rows& rows, float scale, int keys,
    bool first) {
    bool fresh = EXACT || first;
    if (MASKED) {
        int column = (threadIdx.x & 3) * 2;
#pragma unroll
        for (int i = 8 * STEPS - 8; i < 8 * STEPS; ++i) {
            if (i / 4 * 8 + column + (i & 1) >= keys) s[i] = -INFINITY_;
        }
    }
    float sum[2];
    while (true) {
        if (fresh) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float tops[2] = {s[2 * r], s[2 * r + 1]};
#pragma unroll
                for (int i = 2 * r + 4; i < 8 * STEPS; i += 4) {
                    tops[0] = fmaxf(tops[0], s[i]);
                    tops[1] = fmaxf(tops[1], s[i + 1]);
                }
                float top = fmaxf(tops[0], tops[1]);
                top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
                top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
                top = fmaxf(rows.top[r], top * scale);
                float factor = raise_two(rows.top[r] - top);
                rows.top[r] = top;
                rows.sum[r] *= factor;
                if (first) continue;
#pragma unroll
                for (int i = 2 * r; i < 32; i += 4) {
                    o[i] *= factor;
                    o[i + 1] *= factor;
                }
            }
        }
        float sums[2][2];
#pragma unroll
        for (int i = 0; i < 8 * STEPS; i += 2) {
            int r = (i >> 1) & 1;
            float a = raise_two(s[i] * scale - rows.top[r]);
            float b = raise_two(s[i + 1] * scale - rows.top[r]);
            sums[r][0] = i < 4 ? a : sums[r][0] + a;
            sums[r][1] = i < 4 ? b : sums[r][1] + b;
            p[i / 2] = pack(a, b);
        }
        sum[0] = sums[0][0] + sums[0][1];
        sum[1] = sums[1][0] + sums[1][1];
        bool large = sum[0] > LARGEST_SUM || sum[1] > LARGEST_SUM;
        if (fresh || !__any_sync(0xffffffff, large)) break;
        fresh = true;
    }
    rows.sum[0] += sum[0];
    rows.sum[1] += sum[1];
}

// Give lane t of four the t-th register of each: x[i] becomes lane i's x[t].
__device__ __forceinline__ void transpose(u32 (&x)[4]) {
    bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        u32 got = __shfl_xor_sync(0xffffffff, odd ? x[i] : x[i + 1], 1);
        if (odd) x[i] = got; else x[i + 1] = got;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        u32 got = __shfl_xor_sync(0xffffffff, upper ? x[i] : x[i + 2], 2);
        if (upper) x[i] = got; else x[i + 2] = got;
    }
}

// Write 64 queries' context: rows of HEADS * 64 numbers, 16 bytes at a time.
__device__ __forceinline__ void write_rows(
    const float (&o)[32], const float (&factor)[2], char* out, int row, int end) {
    int lane = threadIdx.x & 3;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float f = factor[r];
        const float* x = o + 2 * r;
        bool inside = row + 8 * r < end;
        u32 at = (u32)(row + 8 * r) * (HEADS * HEAD);
        u32 y[4];
#if FP8
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float* z = x + 8 * i;
            y[i] = pack_fp8(z[0] * f, z[1] * f, z[4] * f, z[5] * f);
        }
        transpose(y);
        uint4 whole = make_uint4(
            __byte_perm(y[0], y[1], 0x5410), __byte_perm(y[2], y[3], 0x5410),
            __byte_perm(y[0], y[1], 0x7632), __byte_perm(y[2], y[3], 0x7632));
        if (inside) *(uint4*)(out + at + 16 * lane) = whole;
#else
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* z = x + 16 * half + 4 * i;
                y[i] = pack(z[0] * f, z[1] * f);
            }
            transpose(y);
            uint4 whole = make_uint4(y[0], y[1], y[2], y[3]);
            if (inside) *(uint4*)(out + 2 * at + 64 * half + 16 * lane) = whole;
        }
#endif
    }
}

// First token and length of a pair's sequence; length 0 behind the last.
__device__ __forceinline__ int2 find_sequence(
    const int* sequences, int capacity, int pair) {
    int row = pair / HEADS;
    if (row >= capacity) return make_int2(0, 0);
    return make_int2(sequences[2 * row], sequences[2 * row + 1]);
}

// A place in the ring of tiles, and how often the ring was passed.
struct Place {
    int tile;
    u32 phase;
    __device__ __forceinline__ Place after(int tiles) const {
        Place there = {tile + tiles, phase};
        if (there.tile >= TILES) {
            there.tile -= TILES;
            there.phase ^= 1;
        }
        return there;
    }
};

// ``sequences`` int32 [capacity, 2]: first token and length, the longest first; length
// 0 ends them. ``qkv`` describes fp16 [3, tokens, HEADS * 64] as attention.py has it;
// ``out`` [tokens, HEADS * 64] is fp8, multiplied by ``out_scale``, or fp16. ``queue`` [2]
// is 0 before and after. ``scale`` includes log2(e).
extern "C" __global__ void __launch_bounds__(THREADS, 1) attend(
    const __grid_constant__ TensorMap qkv, char* out, const float* out_scale,
    const int* sequences, int* queue, int capacity, float scale) {
    extern __shared__ char raw[];
    u32 tiles = (shared_address(raw) + 1023) & ~1023u;
    u32 full = tiles + TILES * TILE_BYTES, empty = full + 8 * TILES;
    int4* pairs = (int4*)(raw + (empty + 8 * TILES + 15 & ~15u) - shared_address(raw));
    int warp = uniform(threadIdx.x / 32), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) make_ring(full, empty, TILES, 4 * GROUPS);
    __syncthreads();
    Place place = {0, 0};
    if (warp >= 4 * GROUPS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 32;\n");
        if (warp > 4 * GROUPS || lane) return;
        // The next pair's number and sequence are asked for while this one is fetched.
        int pair = blockIdx.x, programs = gridDim.x;
        int2 sequence = find_sequence(sequences, capacity, pair);
        int following = programs + atomicAdd(queue, 1);
        for (int i = 0;; i = (i + 1) % PAIRS) {
            int column = pair % HEADS * HEAD, first = sequence.x, length = sequence.y;
            if (length) {
                pair = following;
                sequence = find_sequence(sequences, capacity, pair);
                following = programs + atomicAdd(queue, 1);
            }
            int begin = 0;
            do {
                wait(empty + 8 * place.tile, place.phase ^ 1);
                u32 barrier = full + 8 * place.tile;
                u32 to = tiles + place.tile * TILE_BYTES;
                int rest = length - begin;
                if (begin == 0) pairs[i] = make_int4(first, length, column, 0);
                if (rest > 0) {
                    expect(barrier, TILE_BYTES);
                    fetch(&qkv, to, column, first + begin, min(rest, TILE), barrier);
                } else {
                    arrive(barrier);  // the end
                }
                place = place.after(1);
                begin += TILE;
            } while (begin < length);
            if (length == 0) break;
        }
        // The last program to end lets the next launch begin at the first pair. Its own
        // and the others' last numbers must have been given out before.
        __threadfence();
        if (atomicInc((u32*)queue + 1, programs - 1) == programs - 1) {
            __threadfence();
            *queue = 0;
        }
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 112;\n");
    int group = warp / 4, turn = group;
    int own = 16 * (warp % 4);  // first query of the warp
    float out_factor = FP8 ? *out_scale : 1.0f;
    for (int i = 0;; i = (i + 1) % PAIRS) {
        wait(full + 8 * place.tile, place.phase);
        int4 pair = pairs[i];
        pair = make_int4(uniform(pair.x), uniform(pair.y), uniform(pair.z), 0);
        if (pair.y == 0) break;
        int length = pair.y, count = (length + TILE - 1) / TILE;
        for (; turn < count; turn += GROUPS) {
            Place here = place.after(turn);
            wait(full + 8 * here.tile, here.phase);
            u32 q = tiles + here.tile * TILE_BYTES;
            int first_query = turn * TILE + own;
            bool active = first_query < length;  // else the warp only takes part
            float s[32], o[32];
            u32 p[16];
            Rows rows = {{-INFINITY_, -INFINITY_}, {0.0f, 0.0f}};
            here = place;
            wait(full + 8 * here.tile, here.phase);
            score(s, q, tiles + here.tile * TILE_BYTES + PART);
            for (int t = 1; t < count; ++t) {
                wait_products(s, o);
                if (active) softmax<4, false>(s, p, o, rows, scale, TILE, t == 1);
                mix<4>(o, p, tiles + here.tile * TILE_BYTES + 2 * PART, t > 1);
                here = here.after(1);
                wait(full + 8 * here.tile, here.phase);
                score(s, q, tiles + here.tile * TILE_BYTES + PART);
            }
            wait_products(s, o);
            int keys = length - (count - 1) * TILE;
            u32 values = tiles + here.tile * TILE_BYTES + 2 * PART;
            bool first = count == 1;
            if (keys > 48) {
                if (active) softmax<4, true>(s, p, o, rows, scale, keys, first);
                mix<4>(o, p, values, !first);
            } else if (keys > 32) {
                if (active) softmax<3, true>(s, p, o, rows, scale, keys, first);
                mix<3>(o, p, values, !first);
            } else if (keys > 16) {
                if (active) softmax<2, true>(s, p, o, rows, scale, keys, first);
                mix<2>(o, p, values, !first);
            } else {
                if (active) softmax<1, true>(s, p, o, rows, scale, keys, first);
                mix<1>(o, p, values, !first);
            }
            wait_products(s, o);
            float factor[2];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float sum = rows.sum[r];
                sum += __shfl_xor_sync(0xffffffff, sum, 1);
                sum += __shfl_xor_sync(0xffffffff, sum, 2);
                factor[r] = __fdividef(out_factor, sum);
            }
            if (active) {
                int query = pair.x + first_query + lane / 4;
                write_rows(o, factor, out + pair.z * (FP8 ? 1 : 2), query,
                           pair.x + length);
            }
        }
        turn -= count;
        // A group that had nothing to do here must not be a whole ring ahead.
        Place last = place.after(count - 1);
        wait(full + 8 * last.tile, last.phase);
        __syncwarp();
        if (lane < count) arrive(empty + 8 * place.after(lane).tile);
        place = place.after(count);
    }
}
