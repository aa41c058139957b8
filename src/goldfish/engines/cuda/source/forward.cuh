// A layer forward: each block takes a tile of one replica's rows through the whole sequence, alone.

typedef Product<GATES * OWN, H, FORWARD_SLICES, FORWARD_REGISTERS, FORWARD_SHARED, FORWARD_THREADS> Forward;
static_assert(Forward::BYTES == FORWARD_MEMORY, "plan.py lays out as much");

// matrix: W_hh (R, G·H, H). bias: (R, H), the GRU's b_hn, else null. gates: (R, T, B, G·H), holds W_ih x_t + b and, where
// `keep`, takes what is saved; extra: (R, T, B, H). outputs: (R, T, B, H). initial, last: (R, B, H); those of c may be null.
extern "C" __global__ void IN_CLUSTERS __launch_bounds__(FORWARD_THREADS, FORWARD_BLOCKS)
    forward(const real *matrix, const real *bias, real *gates, real *extra, real *outputs, const real *initial_h,
            const real *initial_c, real *last_c, int T, int B, int keep) {
    extern __shared__ Four memory[];
    constexpr int ITEMS = (ROWS * OWN + FORWARD_THREADS - 1) / FORWARD_THREADS;  // (row, unit) pairs of a thread
    const int tiles = (B + ROWS - 1) / ROWS, tile = blockIdx.x / CLUSTER, first_unit = blockIdx.x % CLUSTER * OWN;
    const int replica = tile / tiles, first = tile % tiles * ROWS;
    real *const source = reinterpret_cast<real *>(memory + Forward::KEPT), *const sums = source + SOURCES * Forward::SOURCE;
    const Forward product(matrix + (long long)replica * GATES * H * H, memory, first_unit);

    for (int i = threadIdx.x; i < SOURCES * Forward::SOURCE; i += FORWARD_THREADS) {
        const int row = i / Forward::WIDTH, k = i % Forward::WIDTH;  // the first source starts with all units' h
        source[i] = row < ROWS && first + row < B && k < H ? initial_h[((long long)replica * B + first + row) * H + k] : ZERO;
    }
    int row[ITEMS], unit[ITEMS], own_unit[ITEMS];
    bool mine[ITEMS];
    long long at[ITEMS];  // (replica, t, b), where a step is B further on
    real own[ITEMS], offset[ITEMS], now[ITEMS][GATES];
#pragma unroll
    for (int n = 0; n < ITEMS; ++n) {
        const int item = threadIdx.x + n * FORWARD_THREADS;
        row[n] = item / OWN;
        own_unit[n] = item % OWN;
        unit[n] = first_unit + own_unit[n];
        mine[n] = row[n] < ROWS && first + row[n] < B && unit[n] < H;
        at[n] = (long long)replica * T * B + first + row[n];
        own[n] = offset[n] = ZERO;
        if (!mine[n]) continue;
        const long long state = ((long long)replica * B + first + row[n]) * H + unit[n];
        own[n] = STATES > 1 ? initial_c[state] : initial_h[state];
        if (bias) offset[n] = bias[replica * H + unit[n]];
#pragma unroll
        for (int g = 0; g < GATES; ++g) now[n][g] = gates[(at[n] * GATES + g) * H + unit[n]];
    }
    wait_for_tile();
    for (int t = 0; t < T; ++t) {
        real next[ITEMS][GATES];  // asked for here, needed a step later: its way from memory is hidden
#pragma unroll
        for (int n = 0; n < ITEMS; ++n)
#pragma unroll
            for (int g = 0; g < GATES; ++g)
                next[n][g] = mine[n] && t + 1 < T ? gates[((at[n] + B) * GATES + g) * H + unit[n]] : ZERO;
        const real *const from = source + t % SOURCES * Forward::SOURCE;
        real *const into = source + (t + 1) % SOURCES * Forward::SOURCE;
        product.run(from, sums);
        __syncthreads();
#pragma unroll
        for (int n = 0; n < ITEMS; ++n) {
            if (mine[n]) {
                real sum[GATES], further = ZERO;
#pragma unroll
                for (int g = 0; g < GATES; ++g) sum[g] = Forward::total(sums, row[n], g * OWN + own_unit[n]);
                const real h = step(sum, now[n], offset[n], own[n], further);
                tell(into + row[n] * Forward::WIDTH + unit[n], h);
                outputs[at[n] * H + unit[n]] = h;
                if (keep) {
#pragma unroll
                    for (int g = 0; g < GATES; ++g) gates[(at[n] * GATES + g) * H + unit[n]] = now[n][g];
                    if (EXTRA) extra[at[n] * H + unit[n]] = further;
                }
                at[n] += B;
            }
#pragma unroll
            for (int g = 0; g < GATES; ++g) now[n][g] = next[n][g];
        }
        wait_for_tile();
    }
    if (STATES > 1)
#pragma unroll
        for (int n = 0; n < ITEMS; ++n)
            if (mine[n]) last_c[((long long)replica * B + first + row[n]) * H + unit[n]] = own[n];
}
