/* Bytes that a process has from malloc and its relatives: preload it, then ask now() and peak().
 *
 *   gcc -O2 -shared -fPIC count_malloc.c -o count_malloc.so
 *   LD_PRELOAD=./count_malloc.so python ...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_long live, highest;

static void *taken(void *p) {
    if (p) {
        long now = atomic_fetch_add(&live, (long)malloc_usable_size(p)) + (long)malloc_usable_size(p);
        long top = atomic_load(&highest);
        while (now > top && !atomic_compare_exchange_weak(&highest, &top, now)) {}
    }
    return p;
}

void *malloc(size_t n) { return taken(__libc_malloc(n)); }
void *calloc(size_t n, size_t m) { return taken(__libc_calloc(n, m)); }
void *memalign(size_t a, size_t n) { return taken(__libc_memalign(a, n)); }
void *aligned_alloc(size_t a, size_t n) { return taken(__libc_memalign(a, n)); }

int posix_memalign(void **out, size_t a, size_t n) {
    *out = taken(__libc_memalign(a, n));
    return *out || !n ? 0 : ENOMEM;
}

void free(void *p) {
    if (p) atomic_fetch_sub(&live, (long)malloc_usable_size(p));
    __libc_free(p);
}

void *realloc(void *p, size_t n) {
    if (p) atomic_fetch_sub(&live, (long)malloc_usable_size(p));
    return taken(__libc_realloc(p, n));
}

long malloc_now(void) { return atomic_load(&live); }
long malloc_peak(void) { return atomic_load(&highest); }
void malloc_reset(void) { atomic_store(&highest, atomic_load(&live)); }
