// A product in fp8, bias, residual and LayerNorm in one kernel, on Hopper (sm_90a).
//
// hidden = LayerNorm(x @ weight.T * scale + bias + hidden), and the same in fp8.
//
// A program computes COLUMNS columns of ROWS tokens at a time, 64 tokens with each of its
// two groups of four warps; PARTS programs have all columns of the same tokens. The two
// programs of a cluster have the same columns of two tiles of tokens, and each fetches
// half of the weights for both. So eight programs are a team. Where four are left over,
// they are a team of one tile, which shares nothing.
//
// A row's sum, and its squares around the mean of the program's own columns, go to the
// team's other programs through global memory, each with the number of the launch: it
// says that they are there. A cluster of all four would need no global memory, but does
// not fill the device: 120 of an H200's 132 multiprocessors were in clusters of four.
//
// A program that waits for its team holds a multiprocessor. That ends: programs start in
// the order of their numbers and a team's numbers are neighbors, so at most one team of a
// launch lacks programs that have not started, and holds seven multiprocessors at most.
// A whole team needs nobody else, ends, and makes room for the next programs. So as many
// streams may launch this at a time as have seven multiprocessors each, and one is left
// over: the caller sees to that. What else runs on the device only delays it. Processes
// that share a device take turns, or are counted by the caller's user under MPS.
//
// The launch's number is read when a program starts; the last program to have read it
// writes the next one. Launches of one stream follow each other, so no launch reads a
// number that changes, or sums with its number that are another's. ``sums`` and
// ``state`` belong to one stream.
//
// One group starts some steps after the other, and each goes to the next tile when it is
// ready: the products of one run while the other one normalizes.
//
// The matrix unit gives a thread every fourth pair of columns. The weights' rows are
// fetched in such an order that these are eight neighboring columns in memory.
//
// Defined by the compiler's caller: STAGES, DEPTH.

#include "hopper.cuh"

#define PARTS 4
#define COLUMNS 256
#define WIDTH (PARTS * COLUMNS)
#define CLUSTER 2
#define GROUPS 2
#define ROWS (64 * GROUPS)
#define THREADS (128 * (GROUPS + 1))
#define STEP 128                       // bytes of a row that a stage has
#define STEPS (DEPTH / STEP)
#define X_BYTES (ROWS * STEP)
#define STAGE_BYTES (X_BYTES + COLUMNS * STEP)
#define EARLY 2                        // steps before the last that fetch the residual
#define LAG 2                          // steps after which the second group starts
#define BLOCKS (COLUMNS / 32)          // of a row: a thread has eight columns of each

// The place of another program of the cluster.
__device__ __forceinline__ u32 map_to(u32 address, u32 rank) {
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

// ``barrier`` is a place in the cluster.
__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];\n" ::"r"(barrier)
                 : "memory");
}

// No program may reach another one's barriers before they are there.
__device__ __forceinline__ void join_cluster() {
    asm volatile(
        "barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait.acquire;\n" ::: "memory");
}

__device__ __forceinline__ void fetch_x(
    const TensorMap* map, u32 to, int column, int row, u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];\n" ::"r"(to), "l"(map), "r"(column), "r"(row),
        "r"(barrier) : "memory");
}

// Have 16-byte multiples come to L2.
__device__ __forceinline__ void prefetch(const char* from, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;\n" ::"l"(from), "r"(bytes)
                 : "memory");
}

// A program's half, from row ``32 * block`` on, for these programs of the cluster.
__device__ __forceinline__ void fetch_weights(
    const TensorMap* map, u32 to, int column, int block, u32 barrier, u16 programs) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3, %3, %3, %4}], [%5], %6;\n" ::"r"(to),
        "l"(map), "r"(column), "r"(0), "r"(block), "r"(barrier), "h"(programs)
        : "memory");
}

// A number with that of the launch: 64 bits are read as they were written, at once.
__device__ __forceinline__ u64 mark(float x, u32 launch) {
    return (u64)launch << 32 | __float_as_uint(x);
}
__device__ __forceinline__ void send(char* to, u64 a, u64 b) {
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};\n" ::"l"(to), "l"(a),
                 "l"(b) : "memory");
}
__device__ __forceinline__ void receive(const char* from, u64& a, u64& b) {
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];\n"
                 : "=l"(a), "=l"(b) : "l"(from) : "memory");
}

__device__ __forceinline__ float2 unpack(u32 x) {
    float2 y;
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\n"
        "cvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}\n"
        : "=f"(y.x), "=f"(y.y) : "r"(x));
    return y;
}

// Read where it stands: the compiler must not move it behind the last products.
__device__ __forceinline__ uint4 load(const char* p) {
    uint4 y;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(y.x), "=r"(y.y), "=r"(y.z), "=r"(y.w) : "l"(p) : "memory");
    return y;
}

// Predicated: a branch around each store costs more.
__device__ __forceinline__ void store(
    char* p, u32 a, u32 b, u32 c, u32 d, int inside) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n"
                 "@p st.global.v4.u32 [%0], {%1, %2, %3, %4};\n}\n" ::"l"(p), "r"(a),
                 "r"(b), "r"(c), "r"(d), "r"(inside) : "memory");
}
__device__ __forceinline__ void store(char* p, u32 a, u32 b, int inside) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\n"
                 "@p st.global.v2.u32 [%0], {%1, %2};\n}\n" ::"l"(p), "r"(a), "r"(b),
                 "r"(inside) : "memory");
}

#define EACH_8(x, i) \
    "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), \
    "+f"(x[i + 5]), "+f"(x[i + 6]), "+f"(x[i + 7])
#define EACH_32(x, i) \
    EACH_8(x, i), EACH_8(x, i + 8), EACH_8(x, i + 16), EACH_8(x, i + 24)
#define EACH_FLOAT(x) EACH_32(x, 0), EACH_32(x, 32), EACH_32(x, 64), EACH_32(x, 96)

__device__ __forceinline__ void hold(float (&x)[128]) {
    asm volatile("" : EACH_FLOAT(x)::"memory");
}

// out [64, 256] (+)= a [64, 32] times b [256, 32], both in shared memory.
__device__ __forceinline__ void multiply(float (&o)[128], u32 a, u32 b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b64 a, b;\nsetp.ne.b32 p, %130, 0;\n"
        "mov.b64 a, {%128, " UPPER_HALF "};\n"
        "mov.b64 b, {%129, " UPPER_HALF "};\n"
        "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "
        "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "
        "%123, %124, %125, %126, %127}, a, b, p, 1, 1;\n}\n"
        : EACH_FLOAT(o)
        : "r"(a), "r"(b), "r"(accumulate));
}

// A place in the ring of stages, and how often the ring was passed.
struct Place {
    int stage;
    u32 phase;
    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
    __device__ __forceinline__ int before() const {
        return stage ? stage - 1 : STAGES - 1;
    }
};

// What all threads of a program know.
struct Program {
    u32 stages, full, empty, launch;    // in shared memory: a ring, barriers, a number
    const float* parameters;            // there too: bias, gamma, beta
    int part, rank, tile, end, stride;  // columns, place in the cluster, tiles
    bool shares;
};

__device__ __forceinline__ void fetch_tiles(
    const Program& p, const TensorMap* x, const TensorMap* weight, const char* hidden,
    int rows, u32* state) {
    Place place = {0, 0};
    u32 launch;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];\n" : "=r"(launch) : "l"(state)
                 : "memory");
    for (int tile = p.tile; tile < p.end; tile += p.stride) {
        for (int k = 0; k < STEPS; ++k) {
            wait(p.empty + 8 * place.stage, place.phase ^ 1);
            u32 barrier = p.full + 8 * place.stage;
            u32 to = p.stages + place.stage * STAGE_BYTES;
            // Not sooner, because it takes a while to come; the barrier makes it known.
            if (tile == p.tile && k == STAGES - 1) {
                asm volatile("st.shared.u32 [%0], %1;\n" ::"r"(p.launch), "r"(launch)
                             : "memory");
            }
            expect(barrier, STAGE_BYTES);
            fetch_x(x, to, k * STEP, tile * ROWS, barrier);
            for (int half = 0; half < 2; ++half) {
                if (p.shares && half != p.rank) continue;  // the other program's
                fetch_weights(
                    weight, to + X_BYTES + half * (COLUMNS / 2 * STEP), k * STEP,
                    (2 * p.part + half) * (COLUMNS / 64), barrier,
                    p.shares ? 3 : 1 << p.rank);
            }
            // The residual comes to L2 a part at each step, and not all at the end.
#pragma unroll 4  // all of them do not fit into a fetching warp's registers
            for (int i = 0; i < ROWS / STEPS; ++i) {
                int row = tile * ROWS + k * (ROWS / STEPS) + i;
                u64 at = (u64)row * WIDTH + p.part * COLUMNS;
                if (row < rows) prefetch(hidden + 2 * at, 2 * COLUMNS);
            }
            place.advance();
        }
    }
    // This shared memory must last until the other program has left its barriers.
    for (int i = 0; i < STAGES && p.tile < p.end; ++i) {
        wait(p.empty + 8 * place.stage, place.phase ^ 1);
        place.advance();
    }
    // The last to have read the launch's number writes the next one.
    __threadfence();
    if (atomicInc(state + 1, gridDim.x - 1) == gridDim.x - 1) {
        atomicExch(state, max(launch + 1, 1u));  // 0 is that of sums never written
    }
}

// One stage's products. Then the stage before is free for who fetches into it.
__device__ __forceinline__ void take_step(
    float (&v)[128], const Program& p, Place& place, int group, bool first, u32 freed) {
    wait(p.full + 8 * place.stage, place.phase);
    u32 stage = p.stages + place.stage * STAGE_BYTES;
    u32 a = describe(stage + group * 64 * STEP), b = describe(stage + X_BYTES);
    begin_products();
#pragma unroll
    for (int i = 0; i < STEP / 32; ++i) {
        multiply(v, a + 2 * i, b + 2 * i, i || !first);
    }
    end_products();
    if (!first) {
        wait_products<1>();
        if (freed) arrive(freed + 8 * place.before());
    }
    place.advance();
}

struct Output {
    const float* scale;  // of what is fp8
    char* hidden;        // fp16
    char* low;           // fp8
    char* sums;          // what programs send each other
    int rows;
    float eps;
};

// Residual and bias are added, and the rows normalized and written.
__device__ __forceinline__ void normalize(
    float (&v)[128], uint4 (&residual)[2][BLOCKS], const Program& p, int group,
    int tile, float scale, const Output& out) {
    int warp = uniform(threadIdx.x / 32) % 4, lane = threadIdx.x % 32, quarter = lane % 4;
    int own = 16 * warp + lane / 4;
    long long row = tile * ROWS + 64 * group + own;
    u32 column = p.part * COLUMNS + 8 * quarter;
    const float* parameters = p.parameters + 8 * quarter;
    float sum[2] = {0, 0}, squares[2] = {0, 0}, mean[2];
#pragma unroll
    for (int g = 0; g < BLOCKS; ++g) {
        float bias[8];
        *(float4*)bias = *(const float4*)(parameters + 32 * g);
        *(float4*)(bias + 4) = *(const float4*)(parameters + 32 * g + 4);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            u32 words[4] = {residual[r][g].x, residual[r][g].y, residual[r][g].z,
                            residual[r][g].w};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float2 old = unpack(words[i]);
                float* at = v + 16 * g + 4 * i + 2 * r;
                at[0] = fmaf(at[0], scale, bias[2 * i]) + old.x;
                at[1] = fmaf(at[1], scale, bias[2 * i + 1]) + old.y;
                sum[r] += at[0] + at[1];
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 1);
        sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 2);
        mean[r] = sum[r] * (1.0f / COLUMNS);
    }
#pragma unroll
    for (int i = 0; i < 128; i += 4) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float a = v[i + 2 * r] - mean[r], b = v[i + 2 * r + 1] - mean[r];
            squares[r] = fmaf(a, a, squares[r]);
            squares[r] = fmaf(b, b, squares[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        squares[r] += __shfl_xor_sync(0xffffffff, squares[r], 1);
        squares[r] += __shfl_xor_sync(0xffffffff, squares[r], 2);
    }
    // Of four lanes two send a row each; each receives one part of both rows.
    u32 launch;
    asm volatile("ld.shared.u32 %0, [%1];\n" : "=r"(launch) : "r"(p.launch) : "memory");
    char* of_tile = out.sums + (long long)tile * (PARTS * ROWS * 16);
    int line = 64 * group + own;
    if (quarter < 2) {
        send(of_tile + (p.part * ROWS + line + 8 * quarter) * 16,
             mark(quarter ? sum[1] : sum[0], launch),
             mark(quarter ? squares[1] : squares[0], launch));
    }
    float factor[2], offset[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const char* from = of_tile + (quarter * ROWS + line + 8 * r) * 16;
        u64 a, b;
        do {
            receive(from, a, b);
        } while (a >> 32 != launch || b >> 32 != launch);
        __syncwarp();
        float part = __uint_as_float((u32)a), middle = part;
        middle += __shfl_xor_sync(0xffffffff, middle, 1);
        middle += __shfl_xor_sync(0xffffffff, middle, 2);
        middle *= 1.0f / WIDTH;
        float away = part * (1.0f / COLUMNS) - middle;
        float all = fmaf(away * away, (float)COLUMNS, __uint_as_float((u32)b));
        all += __shfl_xor_sync(0xffffffff, all, 1);
        all += __shfl_xor_sync(0xffffffff, all, 2);
        factor[r] = rsqrtf(all * (1.0f / WIDTH) + out.eps);
        offset[r] = -middle * factor[r];
    }
    float out_scale = *out.scale;
    int inside[2] = {row < out.rows, row + 8 < out.rows};
    u32 to = row * WIDTH + column;
#pragma unroll
    for (int g = 0; g < BLOCKS; ++g) {
        float gamma[8], beta[8];
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
            int at = COLUMNS + 32 * g + i;
            *(float4*)(gamma + i) = *(const float4*)(parameters + at);
            *(float4*)(beta + i) = *(const float4*)(parameters + COLUMNS + at);
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float y[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float x = v[16 * g + 4 * (i / 2) + 2 * r + i % 2];
                y[i] = fmaf(fmaf(x, factor[r], offset[r]), gamma[i], beta[i]);
            }
            u32 at = to + 8 * r * WIDTH + 32 * g;
            store(out.hidden + 2 * (u64)at, pack(y[0], y[1]), pack(y[2], y[3]),
                  pack(y[4], y[5]), pack(y[6], y[7]), inside[r]);
#pragma unroll
            for (int i = 0; i < 8; ++i) y[i] *= out_scale;
            store(out.low + at, pack_fp8(y[0], y[1], y[2], y[3]),
                  pack_fp8(y[4], y[5], y[6], y[7]), inside[r]);
        }
    }
}

__device__ __forceinline__ void compute_tiles(
    const Program& p, int group, float scale, const Output& out) {
    int lane = threadIdx.x % 32;
    // A lane for each program that fetches into this one's stages: its barriers.
    u32 freed = 0;
    if (lane < (p.shares ? 2 : 1)) freed = map_to(p.empty, p.shares ? lane : p.rank);
    Place place = {0, 0};
    float v[128];
    uint4 residual[2][BLOCKS];
    if (group == 1 && p.tile < p.end) asm volatile("bar.sync 1, 256;\n" ::: "memory");
    for (int tile = p.tile; tile < p.end; tile += p.stride) {
        hold(v);
        for (int k = 0; k < STEPS - EARLY; ++k) {
            take_step(v, p, place, group, k == 0, freed);
            if (group == 0 && tile == p.tile && k == LAG) {
                asm volatile("bar.arrive 1, 256;\n" ::: "memory");
            }
        }
        int own = 16 * (threadIdx.x / 32 % 4) + lane / 4;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            long long row = tile * ROWS + 64 * group + own + 8 * r;
            if (row >= out.rows) row = out.rows - 1;
            const char* from =
                out.hidden + 2 * (row * WIDTH + p.part * COLUMNS + 8 * (lane % 4));
#pragma unroll
            for (int g = 0; g < BLOCKS; ++g) residual[r][g] = load(from + 64 * g);
        }
        for (int k = STEPS - EARLY; k < STEPS; ++k) {
            take_step(v, p, place, group, false, freed);
        }
        wait_products<0>();
        hold(v);
        if (freed) arrive(freed + 8 * place.before());
        normalize(v, residual, p, group, tile, scale, out);
    }
}

// Which tiles a program takes.
__device__ __forceinline__ void find_tiles(Program& p, int rows) {
    int tiles = (rows + ROWS - 1) / ROWS;
    int teams = gridDim.x / (2 * PARTS), alone = gridDim.x / PARTS - 2 * teams;
    int turns = (tiles + 2 * teams + alone - 1) / (2 * teams + alone);
    int rest = max(0, tiles - 2 * teams * turns);  // for the four that are left over
    int cluster = blockIdx.x / CLUSTER;
    p.shares = cluster < PARTS * teams;
    if (p.shares) {
        p.part = cluster % PARTS;
        p.tile = cluster / PARTS * 2 + p.rank;
        p.stride = 2 * teams;
        p.end = (tiles - rest + 1) / 2 * 2;
    } else {
        p.part = blockIdx.x % PARTS;
        p.tile = tiles - rest;
        p.stride = 1;
        p.end = tiles;
    }
}

// ``x`` describes fp8 [tokens, DEPTH] in boxes of ROWS rows of STEP bytes, ``weight``
// fp8 [WIDTH, DEPTH] as [WIDTH / 32, 4 pairs, 4 quarters, 2, DEPTH] in boxes of
// COLUMNS / 2 rows. ``hidden`` is fp16 [tokens, WIDTH], ``low`` the same in fp8,
// multiplied by ``low_scale``. ``sums`` has room for 16 bytes of each token, of tiles
// up to an even number, and part. ``state`` [2] is the launch's number, from 1 on, and 0.
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1)
    __launch_bounds__(THREADS, 1) multiply_and_normalize(
        const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight,
        const float* x_scale, const float* weight_scale, const u16* bias,
        const float* gamma, const float* beta, char* hidden, char* low,
        const float* low_scale, char* sums, u32* state, int rows, float eps) {
    extern __shared__ __align__(1024) char raw[];
    Program p;
    p.rank = blockIdx.x % CLUSTER;
    find_tiles(p, rows);
    p.stages = (shared_address(raw) + 1023) & ~1023u;
    u32 parameters = p.stages + STAGES * STAGE_BYTES;
    float* shared_parameters = (float*)(raw + (parameters - shared_address(raw)));
    p.parameters = shared_parameters;
    p.full = parameters + 3 * COLUMNS * 4;
    p.empty = p.full + 8 * STAGES;
    p.launch = p.empty + 8 * STAGES;
    int warp = uniform(threadIdx.x / 32);
    int readers = 4 * GROUPS * (p.shares ? 2 : 1);
    if (threadIdx.x == 0) make_ring(p.full, p.empty, STAGES, readers);
    for (int i = threadIdx.x; i < COLUMNS; i += THREADS) {
        int column = p.part * COLUMNS + i;
        asm("cvt.f32.f16 %0, %1;" : "=f"(shared_parameters[i]) : "h"(bias[column]));
        shared_parameters[COLUMNS + i] = gamma[column];
        shared_parameters[2 * COLUMNS + i] = beta[column];
    }
    __syncthreads();
    join_cluster();
    if (warp >= 4 * GROUPS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;\n");
        if (threadIdx.x == 128 * GROUPS) {
            fetch_tiles(p, &x, &weight, hidden, rows, state);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;\n");
        Output out = {low_scale, hidden, low, sums, rows, eps};
        compute_tiles(p, warp / 4, *x_scale * *weight_scale, out);
    }
}
