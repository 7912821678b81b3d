/*
 * PEP 445, use case 2: replace the small-object allocator as well. Wastes 2 bytes per allocation.
 */
#include <offheap.h>
#include <stdlib.h>

static int padding = 2;
static size_t live_blocks;

static void *my_malloc(void *ctx, size_t size) {
  void *block = malloc(size + *(int *)ctx);
  live_blocks += block != NULL;
  return block;
}

static void *my_calloc(void *ctx, size_t count, size_t size) {
  void *block = calloc(1, count * size + *(int *)ctx);
  live_blocks += block != NULL;
  return block;
}

static void *my_realloc(void *ctx, void *ptr, size_t new_size) { return realloc(ptr, new_size + *(int *)ctx); }

static void my_free(void *ctx, void *ptr) {
  (void)ctx;
  live_blocks -= ptr != NULL;
  free(ptr);
}

int override_every_allocator(void) {
  offheap_allocator alloc = {&padding, my_malloc, my_calloc, my_realloc, my_free};

  return offheap_set_allocator(OFFHEAP_DOMAIN_RAW, &alloc) || offheap_set_allocator(OFFHEAP_DOMAIN_MEM, &alloc) ||
         offheap_set_allocator(OFFHEAP_DOMAIN_OBJECT, &alloc) || offheap_setup_debug_hooks();
}

size_t use_case_2_live_blocks(void) { return live_blocks; }
