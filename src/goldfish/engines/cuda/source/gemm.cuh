// Products over whole sequences: the projection of the inputs, and the gradients of inputs and weights.
//
// An element is one chain of fused multiply-adds over k, cut into chunks whose length depends on K alone, and the chunks
// are added up in order: its bits depend neither on the replicas beside it nor on the tiles. A block takes a tile of
// (TILE_M, TILE_N), a thread an OWN × OWN part of it; what the next steps need is on its way meanwhile.

constexpr int OWN = 8, STEP = 8, STAGES = 3;  // numbers of k at a time, and how many times that lies in shared memory
constexpr int SIDE_M = TILE_M / OWN, SIDE_N = TILE_N / OWN, GEMM_THREADS = SIDE_M * SIDE_N;
constexpr int QUARTER = 16 / sizeof(real);    // numbers in 16 bytes
constexpr int LEAD_M = TILE_M + QUARTER, LEAD_N = TILE_N + QUARTER, STAGE = STEP * (LEAD_M + LEAD_N);
constexpr int ACROSS = SIDE_N < 8 ? SIDE_N : 8, DOWN = 32 / ACROSS;  // a warp's threads over the tile

// How a matrix stands: element (i, k) of a replica at data[i·by_i + k·by_k], in numbers.
struct Matrix {
    const real *data;
    long long by_i, by_k;
    __device__ __forceinline__ const real *at(long long i, long long k) const { return data + i * by_i + k * by_k; }
};

// One number from where it stands, or zero, on its way to shared memory.
__device__ __forceinline__ void fetch(real *into, const real *from, const real *valid, bool there) {
    copy_async<sizeof(real)>(into, there ? from : valid, there);
}

// The rows [a; tail; 1] of the left matrix: `own` of a, or of `initial` for the first `head` of k, then `width` of tail.
struct Left {
    Matrix a;
    const real *tail, *initial;
    int own, width, head, rows;

    __device__ __forceinline__ void one(real *into, int m, int k, bool there) const {
        if (there && m == own + width && m < rows) {
            *into = ONE;
            return;
        }
        const bool mine = m < own, known = there && m < own + width;
        const real *from = !known           ? a.data
                           : !mine          ? tail + (long long)k * width + m - own
                           : k < head       ? initial + (long long)k * own + m
                                            : a.at(m, k - head);
        fetch(into, from, a.data, known);
    }
};

// out (R, chunks, M, N) = Σ_k left(m, k) b(n, k) over each chunk, from bias (R, N) in the first one, where that is not
// null. left: `own` rows of a, of which the first `head` of k are those of `initial` (R, head, own) instead; `width` rows
// of tail (R, K, width); and ones. wide: what may be moved 16 bytes at a time, of a (1), b (2) and out (4).
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    gemm(const real *a, const real *tail, const real *initial, const real *b, const real *bias, real *out, long long a_r,
         long long a_m, long long a_k, long long b_r, long long b_n, long long b_k, int M, int N, int K, int chunk,
         int chunks, int own, int width, int head, int wide) {
    extern __shared__ Four memory[];
    real *const stages = reinterpret_cast<real *>(memory);
    const int tiles_m = (M + TILE_M - 1) / TILE_M, tiles_n = (N + TILE_N - 1) / TILE_N;
    const int tile = blockIdx.x % (tiles_m * tiles_n), part = blockIdx.x / (tiles_m * tiles_n);
    const int first_m = tile % tiles_m * TILE_M, first_n = tile / tiles_m * TILE_N;
    const int r = part / chunks, piece = part % chunks;
    const int begin = piece * chunk, end = begin + chunk < K ? begin + chunk : K;
    const Left left{{a + r * a_r, a_m, a_k}, tail + (long long)r * K * width, initial + (long long)r * head * own,
                    own, width, head, M};
    const Matrix right{b + r * b_r, b_n, b_k};
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int x = SIDE_N > 8 ? warp % (SIDE_N / 8) * 8 + lane % 8 : thread % SIDE_N;
    const int y = SIDE_N > 8 ? warp / (SIDE_N / 8) * DOWN + lane / 8 : thread / SIDE_N;

    const auto ask = [&](int stage, int at) {
        real *const for_m = stages + stage * STAGE, *const for_n = for_m + STEP * LEAD_M;
        if (left.a.by_k == 1 && width == 0) {  // neighbours in memory are asked for by neighbours
            for (int i = thread; i < TILE_M * STEP; i += GEMM_THREADS) {
                const int m = first_m + i / STEP, k = at + i % STEP;
                left.one(for_m + i % STEP * LEAD_M + i / STEP, m, k, m < M && k < end);
            }
        } else {
            for (int i = thread; i < TILE_M / QUARTER * STEP; i += GEMM_THREADS) {
                const int m = first_m + i % (TILE_M / QUARTER) * QUARTER, k = at + i / (TILE_M / QUARTER);
                real *into = for_m + (k - at) * LEAD_M + m - first_m;
                if ((wide & 1) && m + QUARTER <= own && k < end) {
                    copy_async<16>(into, k < head ? left.initial + (long long)k * own + m : left.a.at(m, k - head), true);
                    continue;
                }
#pragma unroll
                for (int u = 0; u < QUARTER; ++u) left.one(into + u, m + u, k, m + u < M && k < end);
            }
        }
        if (right.by_k == 1) {
            for (int i = thread; i < TILE_N * STEP; i += GEMM_THREADS) {
                const int n = first_n + i / STEP, k = at + i % STEP;
                fetch(for_n + i % STEP * LEAD_N + i / STEP, right.at(n, k), right.data, n < N && k < end);
            }
        } else {
            for (int i = thread; i < TILE_N / QUARTER * STEP; i += GEMM_THREADS) {
                const int n = first_n + i % (TILE_N / QUARTER) * QUARTER, k = at + i / (TILE_N / QUARTER);
                real *into = for_n + (k - at) * LEAD_N + n - first_n;
                if ((wide & 2) && n + QUARTER <= N) {
                    copy_async<16>(into, k < end ? right.at(n, k) : right.data, k < end);
                    continue;
                }
#pragma unroll
                for (int u = 0; u < QUARTER; ++u) fetch(into + u, right.at(n + u, k), right.data, n + u < N && k < end);
            }
        }
    };

    real sum[OWN][OWN];
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
        const int n = first_n + j / 4 * (TILE_N / 2) + 4 * x + j % 4;
        const real from = bias && piece == 0 && n < N ? bias[(long long)r * N + n] : ZERO;
#pragma unroll
        for (int i = 0; i < OWN; ++i) sum[i][j] = from;
    }
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (begin + stage * STEP < end) ask(stage, begin + stage * STEP);
        commit_copies();
    }
    int stage = 0;
    for (int at = begin; at < end; at += STEP) {
        await_copies<STAGES - 2>();
        __syncthreads();  // this stage is there, and nobody reads the one before it any more
        if (at + (STAGES - 1) * STEP < end) ask((stage + STAGES - 1) % STAGES, at + (STAGES - 1) * STEP);
        commit_copies();
        const real *const for_m = stages + stage * STAGE, *const for_n = for_m + STEP * LEAD_M;
#pragma unroll
        for (int k = 0; k < STEP; ++k) {
            real p[OWN], q[OWN];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const Four of_m = *reinterpret_cast<const Four *>(for_m + k * LEAD_M + half * (TILE_M / 2) + 4 * y);
                const Four of_n = *reinterpret_cast<const Four *>(for_n + k * LEAD_N + half * (TILE_N / 2) + 4 * x);
                p[4 * half] = of_m.x, p[4 * half + 1] = of_m.y, p[4 * half + 2] = of_m.z, p[4 * half + 3] = of_m.w;
                q[4 * half] = of_n.x, q[4 * half + 1] = of_n.y, q[4 * half + 2] = of_n.z, q[4 * half + 3] = of_n.w;
            }
#pragma unroll
            for (int i = 0; i < OWN; ++i)
#pragma unroll
                for (int j = 0; j < OWN; ++j) sum[i][j] = fused(p[i], q[j], sum[i][j]);
        }
        stage = (stage + 1) % STAGES;
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int m = first_m + i / 4 * (TILE_M / 2) + 4 * y + i % 4;
        if (m >= M) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int n = first_n + half * (TILE_N / 2) + 4 * x;
            real *into = out + ((long long)part * M + m) * N + n;
            const real *from = sum[i] + 4 * half;
            if ((wide & 4) && n + 4 <= N) {
                *reinterpret_cast<Four *>(into) = Four{from[0], from[1], from[2], from[3]};
                continue;
            }
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (n + j < N) into[j] = from[j];
        }
    }
}
