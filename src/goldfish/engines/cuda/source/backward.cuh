// A layer's adjoint recursion backward: each block takes a tile of one replica's rows through the whole sequence, alone.
//
// The adjoint of a sample is mantissa · 2^exponent. The exponent follows the mantissa's norm one step later, for the norm
// takes a barrier to add up; a power of two changes no digit, so neither does the delay. Squares are summed in double.

typedef Product<OWN, GATES * H, BACKWARD_SLICES, BACKWARD_REGISTERS, BACKWARD_SHARED, BACKWARD_THREADS> Backward;

constexpr int NORMS = STATES > 1 ? 3 : 1;     // of dL/dh; of e = ∂L/∂c at fixed h; of the total dL/dc
// A row's units are dealt to SPAN lanes of each block, so that LANES of one warp add up a part of its norm.
constexpr int LANES = OWN > 16 ? 32 : OWN > 8 ? 16 : OWN > 4 ? 8 : OWN > 2 ? 4 : OWN > 1 ? 2 : 1;
constexpr int OWN_PARTS = (OWN + LANES - 1) / LANES, SPAN = OWN_PARTS * LANES, PARTS = CLUSTER * OWN_PARTS;
static_assert(Backward::BYTES + 8 * SOURCES * NORMS * ROWS * PARTS + 4 * ROWS == BACKWARD_MEMORY, "plan.py lays out as much");
constexpr int NOTHING = -(1 << 28);           // the exponent of a row of zeros
constexpr int REACH = 60;                     // an exponent so far below that of a term which arrives gives way to it
constexpr int CALM = 40;                      // squared norms in 2^±CALM need no new exponent

// What a (row, unit) pair of one step reads from memory.
struct Read {
    real gates[GATES], extra, before, direct;
    int from, top;  // the exponents of `direct`: that of its unit, and that of the row's largest number
};

// The largest exponent in a row of H numbers, or NOTHING.
__device__ __forceinline__ int row_top(const real *from, int top) {
    for (int unit = 0; unit < H; ++unit) {
        const real x = from[unit];
        const int e = x != ZERO ? exponent_of(x) : NOTHING;
        top = e > top ? e : top;
    }
    return top;
}

// The three norms of a row, from their parts.
__device__ __forceinline__ double whole(const double *parts, int norm, int row) {
    const double *from = parts + (norm * ROWS + row) * PARTS;
    double sum = from[0];
#pragma unroll
    for (int i = 1; i < PARTS; ++i) sum = sum + from[i];
    return sum;
}

// matrix: W_hhᵀ (R, H, G·H), gates in the order of d's columns. gates, extra, outputs: as `forward` left them. direct:
// what reaches h_t from above, strided, as mantissas of 2^direct_exponent (R, T, B), or null for 2^0. final, initial:
// (R, B, H), those of c may be null. d: dL/d(gates), (R, T, B, COLUMNS·H); mantissas: the same without 2^exponent, or
// null. squares: (NORMS, R, T, B); exponent: (R, T, B).
extern "C" __global__ void IN_CLUSTERS __launch_bounds__(BACKWARD_THREADS, BACKWARD_BLOCKS)
    backward(const real *matrix, const real *gates, const real *extra, const real *outputs, const real *before_h,
             const real *before_c, const real *direct, const int *direct_exponent, const real *final_h,
             const real *final_c, real *initial_h, real *initial_c, real *d, real *mantissas, double *squares,
             int *exponent, long long direct_r, long long direct_t, long long direct_b, int R, int T, int B) {
    extern __shared__ Four memory[];
    constexpr int ITEMS = (ROWS * SPAN + BACKWARD_THREADS - 1) / BACKWARD_THREADS;
    const int tiles = (B + ROWS - 1) / ROWS, tile = blockIdx.x / CLUSTER, rank = blockIdx.x % CLUSTER;
    const int replica = tile / tiles, first = tile % tiles * ROWS, first_unit = rank * OWN;
    const int rows = B - first < ROWS ? B - first : ROWS;
    real *const sources = reinterpret_cast<real *>(memory + Backward::KEPT), *const sums = sources + SOURCES * Backward::SOURCE;
    double *const parts = reinterpret_cast<double *>(sums + Backward::SUMS);  // behind all that is read 16 bytes at a time
    int *const final_top = reinterpret_cast<int *>(parts + SOURCES * NORMS * ROWS * PARTS);
    const Backward product(matrix + (long long)replica * GATES * H * H, memory, first_unit);
    const long long start = (long long)replica * T * B + first, state = (long long)replica * B + first;

    for (int i = threadIdx.x; i < SOURCES * Backward::SOURCE; i += BACKWARD_THREADS) sources[i] = ZERO;
    // `exponent` first takes where each row of `direct` stands; a step reads that before it writes its own. The blocks of
    // a cluster write the same.
    for (int i = threadIdx.x; i < T * rows; i += BACKWARD_THREADS) {
        const int t = i / rows, row = i % rows;
        const int top = row_top(direct + replica * direct_r + t * direct_t + (first + row) * direct_b, NOTHING);
        const int from = direct_exponent ? direct_exponent[start + (long long)t * B + row] : 0;
        exponent[start + (long long)t * B + row] = top == NOTHING ? NOTHING : top + from;
    }
    for (int row = threadIdx.x; row < rows; row += BACKWARD_THREADS) {
        const int top = row_top(final_h + (state + row) * H, NOTHING);
        final_top[row] = STATES > 1 ? row_top(final_c + (state + row) * H, top) : top;
    }
    wait_for_tile();

    int row[ITEMS], unit[ITEMS], own_unit[ITEMS], power_of[ITEMS];
    bool mine[ITEMS], empty[ITEMS];
    real carry[ITEMS], e[ITEMS];
    Read coming[ITEMS];
    Local local[ITEMS];
#pragma unroll
    for (int n = 0; n < ITEMS; ++n) {
        const int item = threadIdx.x + n * BACKWARD_THREADS;
        row[n] = item / SPAN;
        own_unit[n] = item % SPAN;
        unit[n] = first_unit + own_unit[n];
        mine[n] = row[n] < rows && own_unit[n] < OWN && unit[n] < H;
        carry[n] = e[n] = ZERO;
        power_of[n] = 0;
        empty[n] = true;
        if (mine[n]) {
            const long long at = (state + row[n]) * H + unit[n];
            empty[n] = final_top[row[n]] == NOTHING;
            power_of[n] = empty[n] ? 0 : final_top[row[n]];
            const Scale down(-power_of[n]);
            carry[n] = down(final_h[at]);
            if (STATES > 1) e[n] = down(final_c[at]);
        }
    }
    const auto read = [&](int n, int t) {
        Read saved = {};
        saved.top = NOTHING;
        if (!mine[n] || t < 0) return saved;
        const long long at = start + (long long)t * B + row[n];
#pragma unroll
        for (int g = 0; g < GATES; ++g) saved.gates[g] = gates[(at * GATES + g) * H + unit[n]];
        if (EXTRA) {
            const real *before = STATES > 1 ? extra : outputs, *initial = STATES > 1 ? before_c : before_h;
            saved.extra = extra[at * H + unit[n]];
            saved.before = t ? before[(at - B) * H + unit[n]] : initial[(state + row[n]) * H + unit[n]];
        }
        saved.direct = direct[replica * direct_r + t * direct_t + (first + row[n]) * direct_b + unit[n]];
        saved.from = direct_exponent ? direct_exponent[at] : 0;
        saved.top = exponent[at];
        return saved;
    };
#pragma unroll
    for (int n = 0; n < ITEMS; ++n) {
        coming[n] = read(n, T - 1);
        local[n].prepare(coming[n].gates, coming[n].extra, coming[n].before);
    }
    wait_for_tile();  // the first step writes its exponent where all have just read
    double square[ITEMS][NORMS] = {};
    real direct_now[ITEMS];
    int from_now[ITEMS], top_now[ITEMS];
    for (int t = T - 1;; --t) {
        const int turn = (t + 1) % SOURCES;  // of this step; the other is that of the step before
        real *const source = sources + turn * Backward::SOURCE;
        double *const part = parts + turn * NORMS * ROWS * PARTS;
        const double *const arrived = parts + (SOURCES - 1 - turn) * NORMS * ROWS * PARTS;
#pragma unroll
        for (int n = 0; n < ITEMS; ++n) {
            direct_now[n] = coming[n].direct;
            from_now[n] = coming[n].from;
            top_now[n] = coming[n].top;
            coming[n] = read(n, t - 1);  // needed a step later: its way from memory is hidden
        }
        // the adjoints arrive
#pragma unroll
        for (int n = 0; n < ITEMS; ++n) {
            if (!mine[n]) continue;
            real dh = carry[n];
            if (t < T - 1) {
                const double of_h = whole(arrived, 0, row[n]);
                const double of_e = STATES > 1 ? whole(arrived, NORMS > 1 ? 1 : 0, row[n]) : 0;
                const double joint = STATES > 1 ? of_h + of_e : of_h;
                if (unit[n] == 0) {
                    const long long at = start + (long long)(t + 1) * B + row[n], all = (long long)R * T * B;
                    squares[at] = of_h;
                    if (STATES > 1) {
                        squares[all + at] = whole(arrived, NORMS > 2 ? 2 : 0, row[n]);
                        squares[2 * all + at] = joint;
                    }
                }
                dh = dh + Backward::total(sums, row[n], own_unit[n]);
                empty[n] = joint == 0;
                const int size = exponent_of_square(joint);
                if (!empty[n] && (size > CALM || size < -CALM) && size < 1024) {  // 1024: of infinity and NaN
                    const int shift = size / 2;
                    const Scale down(-shift);
                    dh = down(dh);
                    e[n] = down(e[n]);
                    power_of[n] += shift;
                }
            }
            if (t < 0) {
                const Scale up(power_of[n]);
                initial_h[(state + row[n]) * H + unit[n]] = up(dh);
                if (STATES > 1) initial_c[(state + row[n]) * H + unit[n]] = up(e[n]);
                continue;
            }
            if (top_now[n] != NOTHING && (empty[n] || top_now[n] - power_of[n] > REACH)) {
                const Scale down(power_of[n] - top_now[n]);
                dh = down(dh);
                e[n] = down(e[n]);
                power_of[n] = top_now[n];
            }
            dh = dh + Scale(from_now[n] - power_of[n])(direct_now[n]);
            real column[COLUMNS];
            const real of_e = e[n];
            const real dc = adjoint(local[n], dh, e[n], carry[n], column);
            const Scale up(power_of[n]);
            const long long at = start + (long long)t * B + row[n];
            square[n][0] = (double)dh * (double)dh;
            if (STATES > 1) {
                square[n][NORMS > 1 ? 1 : 0] = (double)of_e * (double)of_e;
                square[n][NORMS > 2 ? 2 : 0] = (double)dc * (double)dc;
            }
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) {
                if (k < GATES) tell(source + row[n] * Backward::WIDTH + k * H + unit[n], column[k]);
                d[(at * COLUMNS + k) * H + unit[n]] = up(column[k]);
                if (mantissas) mantissas[(at * COLUMNS + k) * H + unit[n]] = column[k];
            }
            if (unit[n] == 0) exponent[at] = power_of[n];
        }
        if (t < 0) break;
        if (CLUSTER == 1) wait_for_tile();  // the norms wait behind it, beside the product
#pragma unroll
        for (int n = 0; n < ITEMS; ++n)
#pragma unroll
            for (int norm = 0; norm < NORMS; ++norm) {
                const double sum = over_lanes<LANES>(square[n][norm]);  // zero where no unit is
                if (own_unit[n] % LANES == 0 && row[n] < ROWS)
                    tell(part + (norm * ROWS + row[n]) * PARTS + rank * OWN_PARTS + own_unit[n] / LANES, sum);
            }
        if (CLUSTER > 1) wait_for_tile();
        product.run(source, sums);
#pragma unroll
        for (int n = 0; n < ITEMS; ++n) local[n].prepare(coming[n].gates, coming[n].extra, coming[n].before);
        __syncthreads();
    }
}
