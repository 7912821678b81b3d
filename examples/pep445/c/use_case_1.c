/*
 * PEP 445, use case 1: replace the allocators of `raw` and `mem`, keep the small-object allocator, and give it arenas of
 * one's own. Wastes 2 bytes per allocation and 10 bytes per arena.
 */
#include <offheap.h>
#include <stdlib.h>

static int alloc_padding = 2;
static int arena_padding = 10;
static size_t live_blocks;
static size_t live_arenas;

static void *my_malloc(void *ctx, size_t size) {
  int padding = *(int *)ctx;
  void *block = malloc(size + padding);
  live_blocks += block != NULL;
  return block;
}

static void *my_calloc(void *ctx, size_t count, size_t size) {
  int padding = *(int *)ctx;
  void *block = calloc(1, count * size + padding);
  live_blocks += block != NULL;
  return block;
}

static void *my_realloc(void *ctx, void *ptr, size_t new_size) {
  int padding = *(int *)ctx;
  return realloc(ptr, new_size + padding);
}

static void my_free(void *ctx, void *ptr) {
  (void)ctx;
  live_blocks -= ptr != NULL;
  free(ptr);
}

static void *my_alloc_arena(void *ctx, size_t size) {
  int padding = *(int *)ctx;
  void *arena = malloc(size + padding);
  live_arenas += arena != NULL;
  return arena;
}

static void my_free_arena(void *ctx, void *ptr, size_t size) {
  (void)ctx;
  (void)size;
  live_arenas--;
  free(ptr);
}

int setup_custom_allocators(void) {
  /* For one thread: the counters above are plain. The functions themselves may be called from any. */
  offheap_allocator alloc = {&alloc_padding, my_malloc, my_calloc, my_realloc, my_free};
  offheap_arena_allocator arena = {&arena_padding, my_alloc_arena, my_free_arena};

  return offheap_set_allocator(OFFHEAP_DOMAIN_RAW, &alloc) || offheap_set_allocator(OFFHEAP_DOMAIN_MEM, &alloc) ||
         offheap_set_arena_allocator(&arena) || offheap_setup_debug_hooks();
}

size_t use_case_1_live_blocks(void) { return live_blocks; }
size_t use_case_1_live_arenas(void) { return live_arenas; }
