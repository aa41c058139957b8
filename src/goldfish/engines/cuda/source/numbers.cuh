// Numbers: exp, tanh and σ from IEEE operations alone, and powers of two.
//
// Every rounding is written out (fma is a function here, contraction is switched off), so that these kernels give the
// same bits from every compiler, on a GPU as on a CPU, and whatever the size of a tile.

#if DOUBLE
typedef double real;
typedef unsigned long long bits_of_real;
__device__ __forceinline__ real fused(real a, real b, real c) { return fma(a, b, c); }
__device__ __forceinline__ bits_of_real bits(real x) { return (bits_of_real)__double_as_longlong(x); }
__device__ __forceinline__ real number(bits_of_real x) { return __longlong_as_double((long long)x); }
constexpr int MANTISSA = 52, BIAS = 1023, DEGREE = 13;
constexpr real ROUNDER = 6755399441055744.0, EXP_BOUND = 708.0;  // 1.5 · 2^52
constexpr real LOG2_E = 1.4426950408889634, LN2_HIGH = 0.6931471805599453, LN2_LOW = 2.3190468138462996e-17;
#else
typedef float real;
typedef unsigned int bits_of_real;
__device__ __forceinline__ real fused(real a, real b, real c) { return fmaf(a, b, c); }
__device__ __forceinline__ bits_of_real bits(real x) { return __float_as_uint(x); }
__device__ __forceinline__ real number(bits_of_real x) { return __uint_as_float(x); }
constexpr int MANTISSA = 23, BIAS = 127, DEGREE = 7;
constexpr real ROUNDER = 12582912.0f, EXP_BOUND = 87.0f;  // 1.5 · 2^23
constexpr real LOG2_E = 1.44269504f, LN2_HIGH = 0.693147182f, LN2_LOW = -1.90465421e-9f;
#endif

constexpr real ONE = 1, TWO = 2, FOUR = 4, ZERO = 0;
constexpr int EXPONENTS = 2 * BIAS + 1;  // the mask of an exponent's bits

struct alignas(16) Four {
    real x, y, z, w;
};

__device__ constexpr real reciprocal_factorial(int k) { return k == 0 ? ONE : reciprocal_factorial(k - 1) / k; }

// e^r - 1 = r + r²/2 + r³/6 + … by Horner's rule, |r| ≤ ln2/2: the remainder is 5e-9 of r in float32, 4e-18 in float64.
template <int K>
__device__ __forceinline__ real series(real r, real value) {
    if constexpr (K == 1)
        return fused(value * r, r, r);
    else
        return series<K - 1>(r, fused(value, r, reciprocal_factorial(K)));
}

// e^x = s (1 + p): s = 2^n, p = e^r - 1; |x| ≤ EXP_BOUND. A NaN comes out in p.
__device__ __forceinline__ void split(real x, real &p, real &s) {
    const real shifted = fused(x, LOG2_E, ROUNDER), n = shifted - ROUNDER;
    const real r = fused(n, -LN2_LOW, fused(n, -LN2_HIGH, x));
    p = series<DEGREE - 1>(r, reciprocal_factorial(DEGREE));
    s = number((bits(shifted) << MANTISSA) + bits(ONE));  // n stands in the lowest bits of `shifted`
}

// σ(x) = 1 / (1 + e^-x)
__device__ __forceinline__ real sigmoid(real x) {
    real p, s;
    split(x > EXP_BOUND ? -EXP_BOUND : x < -EXP_BOUND ? EXP_BOUND : -x, p, s);
    return ONE / (ONE + fused(s, p, s));
}

// tanh x, and 1 - tanh² x, which keeps its digits where tanh has come to one.
// With m = e^{2|x|} - 1 and q = 1 / (m + 2): tanh |x| = m q, and 1 - tanh² = 4 q (1 - q).
__device__ __forceinline__ real tangent(real x, real &slope) {
    const real size = x < ZERO ? -x : x, half = EXP_BOUND / 2;
    real p, s;
    split(TWO * (size > half ? half : size), p, s);
    const real m = fused(s, p, s - ONE), q = ONE / (m + TWO);
    slope = FOUR * fused(-q, q, q);
    const real magnitude = m * q;
    return x < ZERO ? -magnitude : magnitude;
}

// 2^n, or the nearest that is a normal number
__device__ __forceinline__ real power(int n) {
    n = n < 1 - BIAS ? 1 - BIAS : n > BIAS ? BIAS : n;
    return number((bits_of_real)(n + BIAS) << MANTISSA);
}

// x · 2^n, in two steps: 2^n itself may be no number of this type
struct Scale {
    real first, second;
    __device__ __forceinline__ Scale(int n) : first(power(n / 2)), second(power(n - n / 2)) {}
    __device__ __forceinline__ real operator()(real x) const { return x * first * second; }
};

// e with |x| in [2^(e-1), 2^e), for a normal number
__device__ __forceinline__ int exponent_of(real x) { return (int)((bits(x) >> MANTISSA) & EXPONENTS) - BIAS + 1; }

// the same for a double
__device__ __forceinline__ int exponent_of_square(double x) {
    return (int)(((unsigned long long)__double_as_longlong(x) >> 52) & 2047) - 1022;
}

// The sum over LANES neighbouring lanes of a warp, a power of two, by halves: every one of them gets it. All lanes take part.
template <int LANES>
__device__ __forceinline__ double over_lanes(double x) {
#pragma unroll
    for (int apart = LANES / 2; apart > 0; apart /= 2) x = x + __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}
