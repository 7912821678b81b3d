/*
 * PEP 445, use case 3: hooks on every allocator. Each calls the allocator that was there before.
 */
#include <offheap.h>

static struct {
  offheap_allocator raw;
  offheap_allocator mem;
  offheap_allocator object;
} before;

static size_t mallocs;
static size_t frees;

static void *hook_malloc(void *ctx, size_t size) {
  offheap_allocator *alloc = (offheap_allocator *)ctx;
  void *ptr;

  mallocs++;
  ptr = alloc->malloc(alloc->ctx, size);
  /* ... */
  return ptr;
}

static void *hook_calloc(void *ctx, size_t count, size_t size) {
  offheap_allocator *alloc = (offheap_allocator *)ctx;

  mallocs++;
  return alloc->calloc(alloc->ctx, count, size);
}

static void *hook_realloc(void *ctx, void *ptr, size_t new_size) {
  offheap_allocator *alloc = (offheap_allocator *)ctx;

  return alloc->realloc(alloc->ctx, ptr, new_size);
}

static void hook_free(void *ctx, void *ptr) {
  offheap_allocator *alloc = (offheap_allocator *)ctx;

  frees++;
  alloc->free(alloc->ctx, ptr);
}

static int hook(offheap_domain domain, offheap_allocator *saved) {
  offheap_allocator alloc = {saved, hook_malloc, hook_calloc, hook_realloc, hook_free};

  return offheap_get_allocator(domain, saved) || offheap_set_allocator(domain, &alloc);
}

int setup_hooks(void) {
  static int installed = 0;

  if (installed) return 0;
  installed = 1;
  return hook(OFFHEAP_DOMAIN_RAW, &before.raw) || hook(OFFHEAP_DOMAIN_MEM, &before.mem) ||
         hook(OFFHEAP_DOMAIN_OBJECT, &before.object);
}

int remove_hooks(void) {
  return offheap_set_allocator(OFFHEAP_DOMAIN_RAW, &before.raw) ||
         offheap_set_allocator(OFFHEAP_DOMAIN_MEM, &before.mem) ||
         offheap_set_allocator(OFFHEAP_DOMAIN_OBJECT, &before.object);
}

size_t use_case_3_mallocs(void) { return mallocs; }
size_t use_case_3_frees(void) { return frees; }
