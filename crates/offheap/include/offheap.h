/*
 * offheap.h: allocator domains for C.
 *
 * Three domains, as in PEP 445 ("Add new APIs to customize Python memory allocators"): `raw` for anything, `mem` for
 * buffers (it is the default pool), `object` for small control blocks of up to 512 bytes. One can allocate from each,
 * and replace its allocator while other threads allocate: a block goes back to the allocator that made it.
 *
 * Every function may be called from any thread. The functions are those of the Rust crate `offheap` with the feature
 * `c-abi`; the Node addon exports them, too. See docs/domains.md.
 */
#ifndef OFFHEAP_H
#define OFFHEAP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CPython's letters: what debug reports show. */
typedef enum offheap_domain {
  OFFHEAP_DOMAIN_RAW = 'r',
  OFFHEAP_DOMAIN_MEM = 'm',
  OFFHEAP_DOMAIN_OBJECT = 'o'
} offheap_domain;

/*
 * An allocator. The functions do what the C library's of the same name do, with `ctx` in front, and may be called from
 * any thread; `malloc` returns memory aligned to 16 bytes, or NULL. The struct is copied; `ctx` must stay valid for as
 * long as the process may free a block of the allocator.
 */
typedef struct offheap_allocator {
  void *ctx;
  void *(*malloc)(void *ctx, size_t size);
  void *(*calloc)(void *ctx, size_t count, size_t size);
  void *(*realloc)(void *ctx, void *ptr, size_t new_size);
  void (*free)(void *ctx, void *ptr);
} offheap_allocator;

/* Where the arenas (256 KiB) of small objects come from. `free` is given the size that `alloc` was asked for. */
typedef struct offheap_arena_allocator {
  void *ctx;
  void *(*alloc)(void *ctx, size_t size);
  void (*free)(void *ctx, void *ptr, size_t size);
} offheap_arena_allocator;

/*
 * Allocation from a domain. Blocks are aligned to 16 bytes; of zero bytes there is a block, too. NULL when memory cannot
 * be had; `realloc` then leaves the block as it was. `free(NULL)` does nothing. A pointer that is no live block of the
 * domain is reported on stderr (or as the debug hooks say) and left alone.
 */
void *offheap_raw_malloc(size_t size);
void *offheap_raw_calloc(size_t count, size_t size);
void *offheap_raw_realloc(void *ptr, size_t new_size);
void offheap_raw_free(void *ptr);

void *offheap_mem_malloc(size_t size);
void *offheap_mem_calloc(size_t count, size_t size);
void *offheap_mem_realloc(void *ptr, size_t new_size);
void offheap_mem_free(void *ptr);

void *offheap_object_malloc(size_t size);
void *offheap_object_calloc(size_t count, size_t size);
void *offheap_object_realloc(void *ptr, size_t new_size);
void offheap_object_free(void *ptr);

/*
 * A domain's allocator (PyMem_GetAllocator, PyMem_SetAllocator). What `get` gave can be called, to pass requests on, and
 * can be set again, to restore. Both return 0, or -1 for a domain that is none, a NULL pointer, or an allocator that
 * cannot be set.
 */
int offheap_get_allocator(offheap_domain domain, offheap_allocator *allocator);
int offheap_set_allocator(offheap_domain domain, const offheap_allocator *allocator);

/* The arena allocator (PyObject_GetArenaAllocator, PyObject_SetArenaAllocator). 0, or -1 for NULL. */
int offheap_get_arena_allocator(offheap_arena_allocator *allocator);
int offheap_set_arena_allocator(const offheap_arena_allocator *allocator);

/*
 * Puts debug hooks over all three domains (PyMem_SetupDebugHooks): to be called again after an allocator was replaced; a
 * domain that has them is left alone. 0, or -1 when they cannot be installed.
 */
int offheap_setup_debug_hooks(void);

#ifdef __cplusplus
}
#endif

#endif
