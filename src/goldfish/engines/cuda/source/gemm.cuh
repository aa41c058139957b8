// Products over whole sequences: the projection of the inputs, and the gradients of inputs and weights.
//
// An element is one chain of fused multiply-adds over k, cut into chunks whose length depends on K alone, and the chunks
// are added up in order: its bits depend neither on the replicas beside it nor on the tiles.

constexpr int TILE = 64, STEP = 16, SIDE = 16, OWN = TILE / SIDE, LEAD = TILE + 4;

// Where a matrix stands: element (i, k) of replica r at data[r·by_replica + i·by_i + k·by_k], in numbers.
struct Matrix {
    const real *data;
    long long by_replica, by_i, by_k;
    __device__ __forceinline__ real operator()(int r, long long i, long long k) const {
        return data[r * by_replica + i * by_i + k * by_k];
    }
};

// A tile of (TILE, STEP) into shared memory as (STEP, LEAD), so that neighbours in memory are read by neighbours.
template <typename Element>
__device__ __forceinline__ void fetch(real *into, bool along_k, const Element &element) {
    for (int n = threadIdx.x; n < TILE * STEP; n += SIDE * SIDE) {
        const int i = along_k ? n / STEP : n % TILE, k = along_k ? n % STEP : n / TILE;
        into[k * LEAD + i] = element(i, k);
    }
}

// out (R, chunks, M, N) = Σ_k a(m, k) b(n, k) over each chunk, from bias (R, N) in the first one, where that is not null.
// The first `head` of k are those of `initial` instead of a's, (R, head, M); rows of a from `ones` on are ones.
extern "C" __global__ void __launch_bounds__(SIDE *SIDE)
    gemm(const real *a_data, const real *initial, const real *b_data, const real *bias, real *out, long long a_r,
         long long a_m, long long a_k, long long b_r, long long b_n, long long b_k, int M, int N, int K, int chunk,
         int chunks, int head, int ones) {
    extern __shared__ Four memory[];
    real *left = reinterpret_cast<real *>(memory), *right = left + STEP * LEAD;
    const Matrix a{a_data, a_r, a_m, a_k}, b{b_data, b_r, b_n, b_k};
    const int r = blockIdx.z / chunks, piece = blockIdx.z % chunks;
    const int first_m = blockIdx.x * TILE, first_n = blockIdx.y * TILE;
    const int begin = piece * chunk, end = begin + chunk < K ? begin + chunk : K;
    const int y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;
    real sum[OWN][OWN];
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
        const int n = first_n + x * OWN + j;
        const real from = bias && piece == 0 && n < N ? bias[(long long)r * N + n] : ZERO;
#pragma unroll
        for (int i = 0; i < OWN; ++i) sum[i][j] = from;
    }
    for (int at = begin; at < end; at += STEP) {
        fetch(left, a_k == 1, [&](int i, int k) {
            const int m = first_m + i;
            if (m >= M || at + k >= end) return ZERO;
            if (m >= ones) return ONE;
            return at + k < head ? initial[((long long)r * head + at + k) * ones + m] : a(r, m, at + k - head);
        });
        fetch(right, b_k == 1, [&](int j, int k) {
            return first_n + j < N && at + k < end ? b(r, first_n + j, at + k) : ZERO;
        });
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; ++k) {
            const Four p = *reinterpret_cast<const Four *>(left + k * LEAD + y * OWN);
            const Four q = *reinterpret_cast<const Four *>(right + k * LEAD + x * OWN);
            const real ps[OWN] = {p.x, p.y, p.z, p.w}, qs[OWN] = {q.x, q.y, q.z, q.w};
#pragma unroll
            for (int i = 0; i < OWN; ++i)
#pragma unroll
                for (int j = 0; j < OWN; ++j) sum[i][j] = fused(ps[i], qs[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const int m = first_m + y * OWN + i, n = first_n + x * OWN + j;
            if (m < M && n < N) out[((long long)blockIdx.z * M + m) * N + n] = sum[i][j];
        }
}

// out (R, size) = Σ over the chunks of parts (R, chunks, size), one after the other; a block's y is the replica.
extern "C" __global__ void __launch_bounds__(SIDE *SIDE)
    add_up(const real *parts, real *out, long long size, int chunks) {
    const long long i = (long long)blockIdx.x * SIDE * SIDE + threadIdx.x;
    if (i >= size) return;
    const real *from = parts + (long long)blockIdx.y * chunks * size + i;
    real sum = from[0];
    for (int c = 1; c < chunks; ++c) sum = sum + from[c * size];
    out[blockIdx.y * size + i] = sum;
}
