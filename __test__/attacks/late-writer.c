// A Node addon that works on a view where offheap cannot see it. No headers are needed: Node-API is a C ABI, and these
// are its declarations.
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_ref__ *napi_ref;
typedef struct napi_async_work__ *napi_async_work;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
int napi_get_typedarray_info(napi_env, napi_value, int *, size_t *, void **, napi_value *, size_t *);
int napi_get_value_int32(napi_env, napi_value, int32_t *);
int napi_create_int32(napi_env, int32_t, napi_value *);
int napi_create_reference(napi_env, napi_value, uint32_t, napi_ref *);
int napi_get_reference_value(napi_env, napi_ref, napi_value *);
int napi_delete_reference(napi_env, napi_ref);
int napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
int napi_create_async_work(napi_env, napi_value, napi_value, void (*)(napi_env, void *), void (*)(napi_env, int, void *), void *, napi_async_work *);
int napi_queue_async_work(napi_env, napi_async_work);
int napi_delete_async_work(napi_env, napi_async_work);
int napi_get_undefined(napi_env, napi_value *);
int napi_call_function(napi_env, napi_value, napi_value, size_t, const napi_value *, napi_value *);
int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
int napi_set_named_property(napi_env, napi_value, const char *, napi_value);

/** What is worked on: the view is kept alive, as a well-behaved addon does. */
typedef struct {
  uint8_t *bytes;
  size_t length;
  int32_t wait_ms;
  napi_ref view, callback;
  napi_async_work work;
  pthread_t thread;
} Job;

static Job *job_of(napi_env env, const napi_value *arguments) {
  Job *job = calloc(1, sizeof *job);
  int type;
  napi_value buffer;
  size_t offset;
  napi_get_typedarray_info(env, arguments[0], &type, &job->length, (void **)&job->bytes, &buffer, &offset);
  napi_get_value_int32(env, arguments[1], &job->wait_ms);
  napi_create_reference(env, arguments[0], 1, &job->view);
  return job;
}

static void late_write(Job *job) {
  usleep(1000u * (unsigned)job->wait_ms);
  memset(job->bytes, 0x52, job->length);
}

static void execute(napi_env env, void *data) {
  (void)env;
  late_write(data);
}

static void complete(napi_env env, int status, void *data) {
  (void)status;
  Job *job = data;
  napi_value callback, undefined;
  napi_get_reference_value(env, job->callback, &callback);
  napi_get_undefined(env, &undefined);
  napi_delete_reference(env, job->callback);
  napi_delete_reference(env, job->view);
  napi_delete_async_work(env, job->work);
  free(job);
  napi_call_function(env, undefined, callback, 0, NULL, NULL);
}

/** queueWork(view, ms, callback) */
static napi_value queue_work(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3], name;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Job *job = job_of(env, arguments);
  napi_create_reference(env, arguments[2], 1, &job->callback);
  napi_create_string_utf8(env, "late-writer", 11, &name);
  napi_create_async_work(env, NULL, name, execute, complete, job, &job->work);
  napi_queue_async_work(env, job->work);
  return NULL;
}

static Job *jobs[64];

static void *run(void *data) {
  late_write(data);
  return NULL;
}

/** startThread(view, ms): a number for joinThread */
static napi_value start_thread(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], number;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  int32_t index = 0;
  while (jobs[index] != NULL) index += 1;
  jobs[index] = job_of(env, arguments);
  pthread_create(&jobs[index]->thread, NULL, run, jobs[index]);
  napi_create_int32(env, index, &number);
  return number;
}

/** joinThread(number) */
static napi_value join_thread(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  int32_t index = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_int32(env, arguments[0], &index);
  pthread_join(jobs[index]->thread, NULL);
  napi_delete_reference(env, jobs[index]->view);
  free(jobs[index]);
  jobs[index] = NULL;
  return NULL;
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  napi_create_function(env, name, strlen(name), function, NULL, &value);
  napi_set_named_property(env, exports, name, value);
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "queueWork", queue_work);
  add(env, exports, "startThread", start_thread);
  add(env, exports, "joinThread", join_thread);
  return exports;
}
