// Sums whose order depends on nothing but their length.

constexpr int SUM_THREADS = 256;

// out (R, size) = Σ over the chunks of parts (R, chunks, size), one after the other.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    add_up(const real *parts, real *out, long long size, int chunks) {
    const long long blocks = (size + SUM_THREADS - 1) / SUM_THREADS, r = blockIdx.x / blocks;
    const long long i = blockIdx.x % blocks * SUM_THREADS + threadIdx.x;
    if (i >= size) return;
    const real *from = parts + r * chunks * size + i;
    real sum = from[0];
    for (int c = 1; c < chunks; ++c) sum = sum + from[c * size];
    out[r * size + i] = sum;
}

// out (R) = ‖rows (R, size)‖₂: a block takes a replica, squares are summed in double, thread by thread and then by halves.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norms(const real *rows, real *out, long long by_row, long long size) {
    extern __shared__ Four memory[];
    double *const parts = reinterpret_cast<double *>(memory);
    const real *from = rows + blockIdx.x * by_row;
    double sum = 0;
    for (long long i = threadIdx.x; i < size; i += SUM_THREADS) sum = fma((double)from[i], (double)from[i], sum);
    sum = over_lanes<32>(sum);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    for (int warp = 1; warp < SUM_THREADS / 32; ++warp) sum = sum + parts[warp];
    out[blockIdx.x] = (real)sqrt(sum);
}
