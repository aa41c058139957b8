// What only a GPU has: copies that run beside the computation, and clusters of blocks that write to one another.

// BYTES (4, 8 or 16) of global memory into shared memory, or zeros where nothing is `there`; it lands when it is awaited.
// Both addresses are multiples of BYTES, and `from` is a valid one in either case.
template <int BYTES>
__device__ __forceinline__ void copy_async(void *into, const void *from, bool there) {
#if __CUDA_ARCH__ >= 800
    const unsigned at = (unsigned)__cvta_generic_to_shared(into);
    const int taken = there ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(taken) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(BYTES), "r"(taken)
                     : "memory");
#else  // older ones copy at once
    const unsigned *words = (const unsigned *)from;
#pragma unroll
    for (int i = 0; i < BYTES / 4; ++i) ((unsigned *)into)[i] = there ? words[i] : 0;
#endif
}

// This thread's copies since the last one of these become a group.
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all of this thread's groups but the last PENDING ones; others see them behind the next barrier.
template <int PENDING>
__device__ __forceinline__ void await_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// A number into the shared memory of a block of the cluster, where `here` stands in this one's. Others see it behind
// `wait_for_cluster`. Compute capability 9.0 has clusters; before it a cluster is one block.
__device__ __forceinline__ unsigned place_in(const void *here, unsigned rank) {
    unsigned there = (unsigned)__cvta_generic_to_shared(here);
#if __CUDA_ARCH__ >= 900
    asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(there) : "r"(rank));
#endif
    return there;
}
__device__ __forceinline__ void store_at(float *here, unsigned rank, float value) {
#if __CUDA_ARCH__ >= 900
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(place_in(here, rank)), "f"(value) : "memory");
#else
    *here = value;
#endif
}
__device__ __forceinline__ void store_at(double *here, unsigned rank, double value) {
#if __CUDA_ARCH__ >= 900
    asm volatile("st.shared::cluster.f64 [%0], %1;" ::"r"(place_in(here, rank)), "d"(value) : "memory");
#else
    *here = value;
#endif
}

// A barrier for all threads of the cluster: behind it, every block's writes to the others and to memory are seen by all.
__device__ __forceinline__ void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#else
    __syncthreads();
#endif
}
