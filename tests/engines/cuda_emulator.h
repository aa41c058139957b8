// Runs CUDA kernels on the CPU, one block after another: a CUDA thread is a fibre that yields at __syncthreads.
//
// Between two barriers the fibres run in an order drawn from a seed, shared memory starts as NaN, and its end is guarded:
// a missing barrier, a forgotten initialisation and a write beyond the block's share show up as other bits or as an error.
// Compiled with -ffp-contract=off every operation rounds as IEEE says, as it does on the GPU with contraction off.
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__
#define __launch_bounds__(...)

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx;

static inline unsigned __float_as_uint(float x) { unsigned b; std::memcpy(&b, &x, 4); return b; }
static inline float __uint_as_float(unsigned b) { float x; std::memcpy(&x, &b, 4); return x; }
static inline long long __double_as_longlong(double x) { long long b; std::memcpy(&b, &x, 8); return b; }
static inline double __longlong_as_double(long long b) { double x; std::memcpy(&x, &b, 8); return x; }

namespace emulator {
constexpr size_t SHARED = 256 * 1024, STACK = 64 * 1024;
enum Error { NONE, DIVERGED, BEYOND_SHARED };

struct Fibre {
    ucontext_t first;
    jmp_buf here;
    std::vector<char> stack = std::vector<char>(STACK);
    bool started, waiting, done;
};
static std::vector<Fibre> fibres;
static jmp_buf scheduler;
static Fibre *current;
static std::function<void()> kernel;
static char *memory;  // a block's shared memory, defined behind the kernels

static void wait() {
    current->waiting = true;
    if (!_setjmp(current->here)) _longjmp(scheduler, 1);
}

static void body() {
    kernel();
    current->done = true;
    _longjmp(scheduler, 1);
}

static void resume(Fibre &fibre) {
    current = &fibre;
    fibre.waiting = false;
    if (_setjmp(scheduler)) return;
    if (fibre.started) _longjmp(fibre.here, 1);
    fibre.started = true;
    getcontext(&fibre.first);
    fibre.first.uc_stack.ss_sp = fibre.stack.data();
    fibre.first.uc_stack.ss_size = STACK;
    fibre.first.uc_link = nullptr;
    makecontext(&fibre.first, body, 0);
    setcontext(&fibre.first);
}

static Error block(unsigned threads, uint64_t &seed, size_t shared) {
    std::memset(memory, 0xff, SHARED);
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
        order[i] = i;
        fibres[i].started = fibres[i].done = fibres[i].waiting = false;
    }
    for (;;) {
        if (seed)
            for (unsigned i = threads - 1; i > 0; --i) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                std::swap(order[i], order[(seed >> 33) % (i + 1)]);
            }
        unsigned done = 0;
        for (unsigned i : order) {
            threadIdx = {i, 0, 0};
            if (!fibres[i].done) resume(fibres[i]);
            done += fibres[i].done;
        }
        if (done == threads) break;
        if (done) return DIVERGED;  // some threads left while others wait
    }
    for (size_t i = shared; i < SHARED; ++i)
        if (memory[i] != (char)0xff) return BEYOND_SHARED;
    return NONE;
}

template <auto function>
struct Emulated;
template <typename... A, void (*function)(A...)>
struct Emulated<function> {
    static int run(const unsigned *grid, unsigned threads, uint64_t seed, size_t shared, A... a) {
        if (fibres.size() < threads) fibres.resize(threads);
        kernel = [=] { function(a...); };
        for (unsigned z = 0; z < grid[2]; ++z)
            for (unsigned y = 0; y < grid[1]; ++y)
                for (unsigned x = 0; x < grid[0]; ++x) {
                    blockIdx = {x, y, z};
                    if (Error error = block(threads, seed, shared)) return error;
                }
        return NONE;
    }
};
}  // namespace emulator

static inline void __syncthreads() { emulator::wait(); }
