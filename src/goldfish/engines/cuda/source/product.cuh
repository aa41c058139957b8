// The product of a matrix (N, K) with the vectors of a tile's rows, all threads of a block together, once a step.
//
// Thread (group, slice) multiplies four rows of the matrix, 4·group …, with every SLICES-th quadruple of k. Its part of
// the matrix stays with it for the whole sequence: the first quadruples in registers, the next in shared memory; what
// fits in neither is read from global memory, that is from L2, in every step. The order of the sums follows from N, K
// and SLICES alone: neither the tile nor where a weight is kept changes a bit.
//
// A matrix that one multiprocessor cannot keep is dealt to the CLUSTER blocks of a cluster: each has the rows of OWN units,
// multiplies all of k, and writes what comes of it into the sources of all, of which there are two, by turns.

constexpr int PASS = ROWS < 4 ? ROWS : 4;  // rows that are multiplied at a time
constexpr int SOURCES = CLUSTER > 1 ? 2 : 1;
static_assert(CLUSTER * OWN >= H && (CLUSTER > 1 || OWN == H), "every unit has a block");
#if CLUSTER > 1
#define IN_CLUSTERS __cluster_dims__(CLUSTER, 1, 1)
#else
#define IN_CLUSTERS
#endif

// The barrier behind which all blocks of a tile see what each has written for them.
__device__ __forceinline__ void wait_for_tile() {
    if constexpr (CLUSTER > 1)
        wait_for_cluster();
    else
        __syncthreads();
}

// A number for every block of the tile, in its shared memory.
template <typename Number>
__device__ __forceinline__ void tell(Number *here, Number value) {
    if constexpr (CLUSTER > 1) {
#pragma unroll
        for (int rank = 0; rank < CLUSTER; ++rank) store_at(here, rank, value);
    } else {
        *here = value;
    }
}

template <int N, int K, int SLICES, int IN_REGISTERS, int IN_SHARED, int THREADS>
struct Product {
    static constexpr int GROUPS = (N + 3) / 4;
    static constexpr int WORKERS = GROUPS * SLICES;
    static constexpr int DEPTH = (K + 4 * SLICES - 1) / (4 * SLICES);   // quadruples of a thread
    static constexpr int WIDTH = 4 * SLICES * DEPTH;                    // numbers of a source row, K and zeros behind
    static constexpr int LINE = 4 * GROUPS;                             // sums of a row
    // from one slice's sums to the next one's: a warp that stores them meets every bank alike
    static constexpr int STRIDE = (ROWS * LINE + 31) / 32 * 32 + (SLICES > 32 ? 4 : SLICES > 4 ? 128 / SLICES : 0);
    static constexpr int KEPT = IN_SHARED * 4 * THREADS;                // quadruples in shared memory
    static constexpr int SOURCE = ROWS * WIDTH, SUMS = SLICES * STRIDE;  // numbers of a source and of the sums
    static constexpr int BYTES = KEPT * sizeof(Four) + (SOURCES * SOURCE + SUMS) * sizeof(real);
    static_assert(SOURCE % 4 == 0 && STRIDE % 4 == 0 && LINE % 4 == 0, "both are read and written four at a time");

    Four registers[IN_REGISTERS > 0 ? IN_REGISTERS : 1][4];
    const real *matrix;
    Four *kept;
    int group, slice, first;

    // The quadruple of this block's row 4·group + u that stands at depth i; zero outside the matrix.
    __device__ __forceinline__ Four weight(int i, int u) const {
        const int n = 4 * group + u, k = 4 * (i * SLICES + slice);
        const bool there = n < N && (OWN == H || first + n % OWN < H);
        const real *from = matrix + (long long)(OWN == H ? n : n / OWN * H + first + n % OWN) * K + k;
        if (K % 4 == 0)
            return there && k < K ? *reinterpret_cast<const Four *>(from) : Four{ZERO, ZERO, ZERO, ZERO};
        return Four{there && k < K ? from[0] : ZERO, there && k + 1 < K ? from[1] : ZERO,
                    there && k + 2 < K ? from[2] : ZERO, there && k + 3 < K ? from[3] : ZERO};
    }

    // matrix: (N / OWN · H, K) in global memory, on 16 bytes, of which this block has the rows of OWN units from `first`
    // on; memory: KEPT quadruples of shared memory.
    __device__ __forceinline__ Product(const real *matrix_, Four *memory, int first_)
        : matrix(matrix_), kept(memory), group(threadIdx.x / SLICES), slice(threadIdx.x % SLICES), first(first_) {
        if (threadIdx.x >= WORKERS) return;
#pragma unroll
        for (int i = 0; i < IN_REGISTERS; ++i)
#pragma unroll
            for (int u = 0; u < 4; ++u) registers[i][u] = weight(i, u);
        for (int i = 0; i < IN_SHARED; ++i)
            for (int u = 0; u < 4; ++u) kept[(i * 4 + u) * THREADS + threadIdx.x] = weight(IN_REGISTERS + i, u);
    }

    static __device__ __forceinline__ void accumulate(real &sum, const Four &a, const Four &b) {
        sum = fused(a.x, b.x, sum);
        sum = fused(a.y, b.y, sum);
        sum = fused(a.z, b.z, sum);
        sum = fused(a.w, b.w, sum);
    }

    // One depth: four rows of the matrix with PASS rows of the source.
    __device__ __forceinline__ void multiply(const Four (&w)[4], const real *source, int i, real (&sum)[PASS][4]) const {
        const Four *from = reinterpret_cast<const Four *>(source) + i * SLICES + slice;
#pragma unroll
        for (int row = 0; row < PASS; ++row) {
            const Four v = from[row * (WIDTH / 4)];
#pragma unroll
            for (int u = 0; u < 4; ++u) accumulate(sum[row][u], w[u], v);
        }
    }

    // source: (ROWS, WIDTH) in shared memory; sums: (SLICES, STRIDE), to be added up by `total`.
    __device__ __forceinline__ void run(const real *source, real *sums) const {
        if (threadIdx.x >= WORKERS) return;
        for (int first = 0; first < ROWS; first += PASS) {
            const real *rows = source + first * WIDTH;
            real sum[PASS][4] = {};
#pragma unroll
            for (int i = 0; i < IN_REGISTERS; ++i) multiply(registers[i], rows, i, sum);
            for (int i = 0; i < IN_SHARED; ++i) {
                Four w[4];
#pragma unroll
                for (int u = 0; u < 4; ++u) w[u] = kept[(i * 4 + u) * THREADS + threadIdx.x];
                multiply(w, rows, IN_REGISTERS + i, sum);
            }
            for (int i = IN_REGISTERS + IN_SHARED; i < DEPTH; ++i) {
                Four w[4];
#pragma unroll
                for (int u = 0; u < 4; ++u) w[u] = weight(i, u);
                multiply(w, rows, i, sum);
            }
#pragma unroll
            for (int row = 0; row < PASS; ++row)
                *reinterpret_cast<Four *>(sums + slice * STRIDE + (first + row) * LINE + 4 * group) =
                    Four{sum[row][0], sum[row][1], sum[row][2], sum[row][3]};
        }
    }

    // Element n of the product of a row: the slices' sums, halves before the whole.
    template <int COUNT = SLICES>
    static __device__ __forceinline__ real total(const real *sums, int row, int n) {
        if constexpr (COUNT == 1)
            return sums[row * LINE + n];
        else
            return total<COUNT / 2>(sums, row, n) + total<COUNT / 2>(sums + COUNT / 2 * STRIDE, row, n);
    }
};
