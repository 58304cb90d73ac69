/* A CUDA runtime whose device is the host: copies are done at once.
 * Compiled with -DVERSION=12080 (a parameter for the copy that failed), 13000 (none)
 * or earlier (no batches of copies), and its driver's version as -DDRIVER. */
#include <stddef.h>
#include <string.h>

int cudaRuntimeGetVersion(int *version) {
    *version = VERSION;
    return 0;
}

int cudaDriverGetVersion(int *version) {
    *version = DRIVER;
    return 0;
}

int calls = 0;

int cudaMemcpyAsync(void *target, const void *source, size_t size, int kind,
                    void *stream) {
    calls++;
    if (kind != 1 || stream == NULL) return 1;
    memcpy(target, source, size);
    return 0;
}

struct attributes {
    int order, source[2], target[2];
    unsigned flags;
};

static int copied(void **targets, void **sources, size_t *sizes, size_t count,
                  struct attributes *order, size_t *first, size_t kinds,
                  void *stream) {
    calls++;
    if (kinds != 1 || *first != 0 || order->order != 1 || stream == NULL) return 1;
    for (size_t i = 0; i < count; i++) memcpy(targets[i], sources[i], sizes[i]);
    return 0;
}

#if VERSION >= 13000
int cudaMemcpyBatchAsync(void **targets, void **sources, size_t *sizes, size_t count,
                         struct attributes *order, size_t *first, size_t kinds,
                         void *stream) {
    return copied(targets, sources, sizes, count, order, first, kinds, stream);
}
#elif VERSION >= 12080
int cudaMemcpyBatchAsync(void **targets, void **sources, size_t *sizes, size_t count,
                         struct attributes *order, size_t *first, size_t kinds,
                         size_t *failed, void *stream) {
    *failed = 0;
    return copied(targets, sources, sizes, count, order, first, kinds, stream);
}
#endif
