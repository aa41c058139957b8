// h_t = φ(W_ih x_t + b + W_hh h_{t-1}); dL/da_t = φ'(a_t) dL/dh_t. Saved: φ'(a_t), in place of W_ih x_t + b.

constexpr int GATES = 1, STATES = 1, COLUMNS = 1;  // COLUMNS: of dL/d(gates), in units of H
constexpr bool EXTRA = false;                      // whether a further number is saved for each unit and step

// sums: W_hh h_{t-1} by gate; own: c_{t-1} of an LSTM, h_{t-1} of a GRU, not used here.
__device__ __forceinline__ real step(const real (&sums)[GATES], real (&gates)[GATES], real bias, real &own, real &extra) {
    const real a = gates[0] + sums[0];
#if NONLINEARITY == 0  // the identity
    gates[0] = ONE;
    return a;
#elif NONLINEARITY == 1
    return tangent(a, gates[0]);
#elif NONLINEARITY == 3
    const real after = sigmoid(a);
    gates[0] = after * sigmoid(-a);
    return after;
#else
    const bool negative = a <= ZERO;  // a NaN is not, and stays
    gates[0] = negative ? ZERO : ONE;
    return negative ? ZERO : a;
#endif
}

// What a step of the recursion needs besides the adjoint, taken before it arrives.
struct Local {
    real slope;
    __device__ __forceinline__ void prepare(const real (&gates)[GATES], real extra, real before) { slope = gates[0]; }
};

// d: dL/d(gates). carry: the part of dL/dh_{t-1} that does not pass W_hh. e: ∂L/∂c_t at fixed h_t of an LSTM, then of
// t-1. Returns the total dL/dc_t of an LSTM.
__device__ __forceinline__ real adjoint(const Local &local, real dh, real &e, real &carry, real (&d)[COLUMNS]) {
    d[0] = dh * local.slope;
    carry = ZERO;
    return ZERO;
}
