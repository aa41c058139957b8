// Runs CUDA kernels on the CPU, one cluster of blocks after another: a CUDA thread is a fibre that yields where it waits.
//
// Between two barriers the fibres run in an order drawn from a seed, lanes apart, now and then a warp or a block of a
// cluster stands still, and shared memory starts as NaN. An asynchronous copy makes its target NaN when it is asked for and lands when it is waited for; the lanes of a
// shuffle meet. So a missing barrier, a forgotten initialisation, a buffer taken too early and a write beyond the block's
// share show up as other bits or as an error. Compiled with -ffp-contract=off every operation rounds as IEEE says, as it
// does on the GPU with contraction off. Under -fsanitize=address,undefined every access is checked as well.
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx;

static inline unsigned __float_as_uint(float x) { unsigned b; std::memcpy(&b, &x, 4); return b; }
static inline float __uint_as_float(unsigned b) { float x; std::memcpy(&x, &b, 4); return x; }
static inline long long __double_as_longlong(double x) { long long b; std::memcpy(&b, &x, 8); return b; }
static inline double __longlong_as_double(long long b) { double x; std::memcpy(&x, &b, 8); return x; }

namespace emulator {
constexpr unsigned WARP = 32;
constexpr size_t STACK = 64 * 1024, OFFSET = 16;  // a block's shared memory stands on 16 bytes, no more
#ifdef __SANITIZE_ADDRESS__
constexpr size_t EDGE = 0;  // the sanitizer guards it
#else
constexpr size_t EDGE = 16 * 1024;
#endif
enum Error { NONE, DIVERGED, BEYOND_SHARED, UNALIGNED_COPY, COPY_NOT_WAITED_FOR };
enum Place { NOWHERE, AT_WARP, AT_BLOCK, AT_CLUSTER };  // where a fibre waits

struct Copy {
    void *into;
    const void *from;
    size_t bytes, taken;
    unsigned group;
};

struct Fibre {
    ucontext_t first;
    jmp_buf here;
    std::vector<char> stack = std::vector<char>(STACK);
    unsigned thread, block;
    bool started, done;
    Place place;
    unsigned met;  // shuffles so far
    unsigned committed;
    std::vector<Copy> copies;
};
struct Block {
    char *whole = nullptr, *memory = nullptr;
    std::vector<double> lanes[2];  // what a shuffle passes on, of even and of odd ones
};
static std::vector<Fibre> fibres;
static std::vector<Block> blocks;
static jmp_buf scheduler;
static Fibre *current;
static Error fault;
static std::function<void()> kernel;
static Index first_block;

static void wait(Place place) {
    current->place = place;
    if (!_setjmp(current->here)) _longjmp(scheduler, 1);
}

static void body() {
    kernel();
    current->done = true;
    if (!current->copies.empty()) fault = COPY_NOT_WAITED_FOR;
    _longjmp(scheduler, 1);
}

static void resume(Fibre &fibre) {
    current = &fibre;
    threadIdx = {fibre.thread, 0, 0};
    blockIdx = {first_block.x + fibre.block, first_block.y, first_block.z};
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

// Whether all `count` fibres from `first` on wait at a place; they go on, then.
static bool release(size_t first, size_t count, Place place) {
    for (size_t i = first; i < first + count; ++i)
        if (fibres[i].done || fibres[i].place != place) return false;
    for (size_t i = first; i < first + count; ++i) fibres[i].place = NOWHERE;
    return true;
}

// Blocks that run at once: a cluster.
static Error together(unsigned cluster, unsigned threads, uint64_t &seed, size_t shared) {
    const size_t all = (size_t)cluster * threads;
    if (fibres.size() < all) fibres.resize(all);
    blocks.resize(cluster);
    for (Block &block : blocks) {
        const size_t size = OFFSET + shared + EDGE;
        void *found = nullptr;
        if (posix_memalign(&found, 64, size)) std::abort();
        block.whole = (char *)found, block.memory = block.whole + OFFSET;
        std::memset(block.whole, 0xff, size);
        for (auto &lanes : block.lanes) lanes.assign(threads, 0);
    }
    std::vector<size_t> order(all);
    for (size_t i = 0; i < all; ++i) {
        order[i] = i;
        Fibre &fibre = fibres[i];
        fibre.thread = i % threads, fibre.block = i / threads;
        fibre.started = fibre.done = false;
        fibre.place = NOWHERE;
        fibre.met = fibre.committed = 0;
        fibre.copies.clear();
    }
    fault = NONE;
    const auto draw = [&](size_t below) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        return (seed >> 33) % below;
    };
    // a warp or a block stands still for a while, so that the others run ahead of it
    size_t asleep = 0, share = 0, nap = 0;
    for (;;) {
        if (seed)
            for (size_t i = all - 1; i > 0; --i) std::swap(order[i], order[draw(i + 1)]);
        if (seed && all > WARP && nap-- == 0) {
            share = cluster > 1 && draw(2) ? threads : WARP;
            asleep = draw(all / share) * share;
            nap = draw(24);
        }
        size_t done = 0;
        bool moved = false;
        for (size_t i : order) {
            const bool awake = i < asleep || i >= asleep + share;
            if (awake && !fibres[i].done && fibres[i].place == NOWHERE) resume(fibres[i]), moved = true;
            done += fibres[i].done;
        }
        if (done == all || fault) break;
        for (size_t i = 0; i < all; i += WARP) moved |= release(i, WARP, AT_WARP);
        for (size_t i = 0; i < all; i += threads) moved |= release(i, threads, AT_BLOCK);
        moved |= release(0, all, AT_CLUSTER);
        if (!moved && share)
            share = 0, nap = 1;  // the next pass is for all
        else if (!moved)
            fault = DIVERGED;  // some threads wait for others that left, or that wait elsewhere
    }
    for (Block &block : blocks) {
        for (size_t i = shared; i < shared + EDGE; ++i)
            if (block.memory[i] != (char)0xff && !fault) fault = BEYOND_SHARED;
        std::free(block.whole);
    }
    return fault;
}

template <auto function>
struct Emulated;
template <typename... A, void (*function)(A...)>
struct Emulated<function> {
    static int run(const unsigned *grid, unsigned cluster, unsigned threads, uint64_t seed, size_t shared, A... a) {
        kernel = [=] { function(a...); };
        for (unsigned z = 0; z < grid[2]; ++z)
            for (unsigned y = 0; y < grid[1]; ++y)
                for (unsigned x = 0; x < grid[0]; x += cluster) {
                    first_block = {x, y, z};
                    if (Error error = together(cluster, threads, seed, shared)) return error;
                }
        return NONE;
    }
};

static inline char *shared() { return blocks[current->block].memory; }
}  // namespace emulator

static inline void __syncthreads() { emulator::wait(emulator::AT_BLOCK); }

static inline double __shfl_xor_sync(unsigned, double value, int lane) {
    using namespace emulator;
    std::vector<double> &lanes = blocks[current->block].lanes[current->met++ % 2];
    lanes[current->thread] = value;
    const unsigned other = current->thread ^ lane;
    wait(AT_WARP);
    return blocks[current->block].lanes[(current->met - 1) % 2][other];
}

// As in hardware.cuh, which stands for the GPU's own.

template <int BYTES>
static inline void copy_async(void *into, const void *from, bool there) {
    using namespace emulator;
    if ((uintptr_t)into % BYTES || (uintptr_t)from % BYTES) fault = UNALIGNED_COPY;
    std::memset(into, 0xff, BYTES);
    current->copies.push_back({into, from, BYTES, there ? BYTES : 0u, current->committed});
}

static inline void commit_copies() { ++emulator::current->committed; }

// All groups but the last PENDING ones have landed.
template <int PENDING>
static inline void await_copies() {
    using namespace emulator;
    std::vector<Copy> left;
    for (const Copy &copy : current->copies) {
        if (copy.group + PENDING >= current->committed) {
            left.push_back(copy);
            continue;
        }
        std::memset(copy.into, 0, copy.bytes);
        std::memcpy(copy.into, copy.from, copy.taken);
    }
    current->copies.swap(left);
}

static inline void wait_for_cluster() { emulator::wait(emulator::AT_CLUSTER); }

// The place in another block's shared memory that stands there where `here` stands in this one's.
template <typename T>
static inline void store_at(T *here, unsigned rank, T value) {
    using namespace emulator;
    if (rank >= blocks.size()) std::abort();
    T *there = (T *)(blocks[rank].memory + ((char *)here - blocks[current->block].memory));
    *there = value;
}
