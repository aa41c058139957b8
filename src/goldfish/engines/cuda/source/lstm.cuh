// i, f, o = σ(…), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh c_t, gate order i, f, g, o.
// Adjoint: dc = e_t + o (1 - tanh² c_t) dh with e_t = f_{t+1} dc_{t+1}. Saved: the gates, in place of W_ih x_t + b, and c.

constexpr int GATES = 4, STATES = 2, COLUMNS = 4;
constexpr bool EXTRA = true;

__device__ __forceinline__ real step(const real (&sums)[GATES], real (&gates)[GATES], real bias, real &own, real &extra) {
    real slope;
    gates[0] = sigmoid(gates[0] + sums[0]);
    gates[1] = sigmoid(gates[1] + sums[1]);
    gates[2] = tangent(gates[2] + sums[2], slope);
    gates[3] = sigmoid(gates[3] + sums[3]);
    own = fused(gates[1], own, gates[0] * gates[2]);
    extra = own;
    return gates[3] * tangent(own, slope);
}

struct Local {
    real to_c, forget;     // o (1 - tanh² c), f
    real of_c[3], of_h;    // d(c)/d(pre-activation) of i, f, g; d(h)/d(that) of o
    __device__ __forceinline__ void prepare(const real (&gates)[GATES], real c, real before) {
        real slope;
        const real i = gates[0], g = gates[2], o = gates[3], tanh_c = tangent(c, slope);
        forget = gates[1];
        to_c = o * slope;
        of_c[0] = g * (i * (ONE - i));
        of_c[1] = before * (forget * (ONE - forget));
        of_c[2] = i * fused(-g, g, ONE);
        of_h = tanh_c * (o * (ONE - o));
    }
};

__device__ __forceinline__ real adjoint(const Local &local, real dh, real &e, real &carry, real (&d)[COLUMNS]) {
    const real dc = fused(dh, local.to_c, e);
    d[0] = dc * local.of_c[0];
    d[1] = dc * local.of_c[1];
    d[2] = dc * local.of_c[2];
    d[3] = dh * local.of_h;
    carry = ZERO;
    e = dc * local.forget;
    return dc;
}
