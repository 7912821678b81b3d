/* The other side of an exchange, in C. With OFFICIAL_HEADERS, over the headers of Arrow itself. */
#ifdef OFFICIAL_HEADERS
#include <arrow/c/abi.h>
#include <arrow/c/dlpack_abi.h>
#else
#include "structs.h"
#endif
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define S(type) sizeof(type)
#define O(type, member) offsetof(type, member)
#define A struct ArrowArray
#define C struct ArrowSchema
#define D struct ArrowDeviceArray
#define T struct ArrowDeviceArrayStream
#define V DLManagedTensorVersioned
#define L DLManagedTensor

const size_t peer_layout[] = {
  S(C), O(C, format), O(C, name), O(C, metadata), O(C, flags), O(C, n_children), O(C, children),
  O(C, dictionary), O(C, release), O(C, private_data),
  S(A), O(A, length), O(A, null_count), O(A, offset), O(A, n_buffers), O(A, n_children), O(A, buffers),
  O(A, children), O(A, dictionary), O(A, release), O(A, private_data),
  S(D), O(D, array), O(D, device_id), O(D, device_type), O(D, sync_event), O(D, reserved),
  S(T), O(T, device_type), O(T, get_schema), O(T, get_next), O(T, get_last_error), O(T, release),
  O(T, private_data),
  S(DLPackVersion), O(DLPackVersion, major), O(DLPackVersion, minor),
  S(DLDevice), O(DLDevice, device_type), O(DLDevice, device_id),
  S(DLDataType), O(DLDataType, code), O(DLDataType, bits), O(DLDataType, lanes),
  S(DLTensor), O(DLTensor, data), O(DLTensor, device), O(DLTensor, ndim), O(DLTensor, dtype),
  O(DLTensor, shape), O(DLTensor, strides), O(DLTensor, byte_offset),
  S(L), O(L, dl_tensor), O(L, manager_ctx), O(L, deleter),
  S(V), O(V, version), O(V, manager_ctx), O(V, deleter), O(V, flags), O(V, dl_tensor),
};
const size_t peer_layout_count = sizeof peer_layout / sizeof *peer_layout;

static int released;
int peer_released(void) { return released; }

/* Consumes an array of doubles: moves it, as the interface says, sums it, releases it. */
double peer_sum_array(D *source, C *schema) {
  D moved = *source;
  double sum = 0;
  source->array.release = NULL;
  if (strcmp(schema->format, "g") == 0 && moved.device_type == 1 && moved.sync_event == NULL &&
      moved.array.n_buffers == 2 && moved.array.null_count == 0) {
    const double *values = (const double *)moved.array.buffers[1] + moved.array.offset;
    for (int64_t i = 0; i < moved.array.length; i++) sum += values[i];
  } else {
    sum = -1;
  }
  moved.array.release(&moved.array);
  schema->release(schema);
  return moved.array.release == NULL && schema->release == NULL ? sum : -2;
}

/* Consumes a two-dimensional tensor of doubles. */
double peer_sum_tensor(V *tensor) {
  DLTensor *t = &tensor->dl_tensor;
  double sum = 0;
  if (tensor->version.major != 1 || t->ndim != 2 || t->dtype.code != 2 || t->dtype.bits != 64) {
    sum = -1;
  } else {
    const double *values = (const double *)((const char *)t->data + t->byte_offset);
    for (int64_t i = 0; i < t->shape[0]; i++)
      for (int64_t j = 0; j < t->shape[1]; j++) sum += values[i * t->strides[0] + j * t->strides[1]];
  }
  tensor->deleter(tensor);
  return sum;
}

static void release_array(A *array) {
  free((void *)array->buffers[1]);
  free((void *)array->buffers);
  array->release = NULL;
  released++;
}

static void release_schema(C *schema) {
  schema->release = NULL;
  released++;
}

/* Makes 0, 1, 2, ... */
void peer_make_array(int64_t length, D *array, C *schema) {
  int32_t *values = malloc(length * sizeof *values);
  const void **buffers = malloc(2 * sizeof *buffers);
  for (int64_t i = 0; i < length; i++) values[i] = (int32_t)i;
  buffers[0] = NULL;
  buffers[1] = values;
  memset(array, 0, sizeof *array);
  memset(schema, 0, sizeof *schema);
  array->array.length = length;
  array->array.n_buffers = 2;
  array->array.buffers = buffers;
  array->array.release = release_array;
  array->device_id = -1;
  array->device_type = 1;
  schema->format = "i";
  schema->release = release_schema;
}

static void delete(V *tensor) {
  free(tensor->dl_tensor.data);
  free(tensor->dl_tensor.shape);
  free(tensor);
  released++;
}

V *peer_make_tensor(int64_t length) {
  V *tensor = calloc(1, sizeof *tensor);
  int32_t *values = malloc(length * sizeof *values);
  for (int64_t i = 0; i < length; i++) values[i] = (int32_t)i;
  tensor->version.major = 1;
  tensor->deleter = delete;
  tensor->dl_tensor.data = values;
  tensor->dl_tensor.device.device_type = 1;
  tensor->dl_tensor.ndim = 1;
  tensor->dl_tensor.dtype.bits = 32;
  tensor->dl_tensor.dtype.lanes = 1;
  tensor->dl_tensor.shape = malloc(sizeof(int64_t));
  tensor->dl_tensor.shape[0] = length;
  return tensor;
}

/* Consumes a stream of arrays of doubles, at most `most` of them: the sum, or less than zero when something is not as it must be. */
double peer_sum_stream(T *source, int64_t most) {
  T moved = *source;
  double sum = 0;
  C schema;
  source->release = NULL;
  if (moved.get_schema(&moved, &schema) != 0 || strcmp(schema.format, "g") != 0) return -1;
  schema.release(&schema);
  for (int64_t i = 0; i < most; i++) {
    D array;
    if (moved.get_next(&moved, &array) != 0) {
      sum = moved.get_last_error(&moved) == NULL ? -2 : -3;
      break;
    }
    if (array.array.release == NULL) break;
    const double *values = (const double *)array.array.buffers[1] + array.array.offset;
    for (int64_t j = 0; j < array.array.length; j++) sum += values[j];
    array.array.release(&array.array);
  }
  moved.release(&moved);
  if (moved.release != NULL || moved.get_next(&moved, NULL) == 0 || moved.get_schema(&moved, NULL) == 0) return -4;
  return sum;
}

static int stream_schema(T *stream, C *schema) {
  D unused;
  (void)stream;
  peer_make_array(0, &unused, schema);
  unused.array.release(&unused.array);
  released--;
  return 0;
}

/* Arrays of 1, 2, ... elements; the fourth fails, once. */
static int stream_next(T *stream, D *array) {
  int64_t *state = stream->private_data;
  C schema;
  if (++*state == 4) return 5;
  if (*state > 5) {
    memset(array, 0, sizeof *array);
    return 0;
  }
  peer_make_array(*state, array, &schema);
  if (*state == 3) array->device_type = 8;
  return 0;
}

static const char *stream_error(T *stream) {
  (void)stream;
  return "the fourth fails";
}

static void stream_release(T *stream) {
  free(stream->private_data);
  stream->release = NULL;
  released++;
}

void peer_make_stream(T *stream) {
  stream->device_type = 1;
  stream->get_schema = stream_schema;
  stream->get_next = stream_next;
  stream->get_last_error = stream_error;
  stream->release = stream_release;
  stream->private_data = calloc(1, sizeof(int64_t));
}
