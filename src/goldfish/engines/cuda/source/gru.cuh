// r, z = σ(…), n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), h_t = (1 - z) n + z h_{t-1}, gate order r, z, n.
// Adjoint: dL/dh_{t-1} = direct_{t-1} + z dh + W_hhᵀ [dr, dz, r dn]. Saved: the gates, and W_hn h_{t-1} + b_hn.

constexpr int GATES = 3, STATES = 1, COLUMNS = 4;  // of dL/d(gates): r dn, dr, dz, dn
constexpr bool EXTRA = true;

__device__ __forceinline__ real step(const real (&sums)[GATES], real (&gates)[GATES], real bias, real &own, real &extra) {
    real slope;
    gates[0] = sigmoid(gates[0] + sums[0]);
    gates[1] = sigmoid(gates[1] + sums[1]);
    extra = sums[2] + bias;
    gates[2] = tangent(fused(gates[0], extra, gates[2]), slope);
    own = fused(gates[1], own - gates[2], gates[2]);
    return own;
}

struct Local {
    real keep;             // z
    real of_h[COLUMNS];    // d(h_t)/d(pre-activation), column by column
    __device__ __forceinline__ void prepare(const real (&gates)[GATES], real wh, real before) {
        const real r = gates[0], z = gates[1], n = gates[2];
        keep = z;
        of_h[3] = (ONE - z) * fused(-n, n, ONE);
        of_h[0] = of_h[3] * r;
        of_h[1] = of_h[3] * wh * (r * (ONE - r));
        of_h[2] = (before - n) * (z * (ONE - z));
    }
};

// W_hh takes columns 0 to 2, gate order n, r, z; W_ih takes 1 to 3, gate order r, z, n: each is one slice.
__device__ __forceinline__ real adjoint(const Local &local, real dh, real &e, real &carry, real (&d)[COLUMNS]) {
#pragma unroll
    for (int column = 0; column < COLUMNS; ++column) d[column] = dh * local.of_h[column];
    carry = dh * local.keep;
    return ZERO;
}
