/* CPython in Node's process, as a Node-API addon: what it needs of both is declared here, so that a C compiler is all it takes.
 * run(code) executes in __main__; evaluate(expression) gives str(...) of it. Both throw what Python raised. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct env_ *napi_env;
typedef struct value_ *napi_value;
typedef struct info_ *napi_info;
typedef napi_value (*callback)(napi_env, napi_info);
int napi_create_function(napi_env, const char *, size_t, callback, void *, napi_value *);
int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
int napi_get_cb_info(napi_env, napi_info, size_t *, napi_value *, napi_value *, void **);
int napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
int napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
int napi_throw_error(napi_env, const char *, const char *);

typedef void object;
static struct {
  void (*Py_InitializeEx)(int);
  void *(*PyEval_SaveThread)(void);
  int (*PyGILState_Ensure)(void);
  void (*PyGILState_Release)(int);
  object *(*PyImport_AddModule)(const char *);
  object *(*PyModule_GetDict)(object *);
  object *(*PyRun_String)(const char *, int, object *, object *);
  object *(*PyObject_Str)(object *);
  const char *(*PyUnicode_AsUTF8)(object *);
  void (*PyErr_Fetch)(object **, object **, object **);
  void (*Py_DecRef)(object *);
} py;

enum { EVALUATE = 258, EXECUTE = 257 };

static napi_value call(napi_env env, napi_info info, int mode) {
  napi_value argument, result = NULL;
  size_t count = 1, length = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  napi_get_value_string_utf8(env, argument, NULL, 0, &length);
  char *text = malloc(length + 1), *said = NULL;
  napi_get_value_string_utf8(env, argument, text, length + 1, &length);

  int gil = py.PyGILState_Ensure();
  object *globals = py.PyModule_GetDict(py.PyImport_AddModule("__main__"));
  object *value = py.PyRun_String(text, mode, globals, globals), *error = NULL;
  if (value == NULL) {
    object *type, *trace;
    py.PyErr_Fetch(&type, &error, &trace);
    py.Py_DecRef(type);
    py.Py_DecRef(trace);
  }
  object *shown = value || error ? py.PyObject_Str(value ? value : error) : NULL;
  if (shown) said = strdup(py.PyUnicode_AsUTF8(shown));
  py.Py_DecRef(shown);
  py.Py_DecRef(error);
  py.Py_DecRef(value);
  py.PyGILState_Release(gil);

  if (value) napi_create_string_utf8(env, said ? said : "", (size_t)-1, &result);
  else napi_throw_error(env, "PYTHON", said ? said : "a Python error without a value");
  free(said);
  free(text);
  return result;
}

static napi_value run(napi_env env, napi_info info) { return call(env, info, EXECUTE); }
static napi_value evaluate(napi_env env, napi_info info) { return call(env, info, EVALUATE); }

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  const char *library = getenv("OFFHEAP_LIBPYTHON");
  /* Global: Python's own extension modules look for its symbols. */
  void *found = library ? dlopen(library, RTLD_NOW | RTLD_GLOBAL) : NULL;
  if (!found) {
    napi_throw_error(env, "PYTHON", library ? dlerror() : "OFFHEAP_LIBPYTHON is not set");
    return exports;
  }
#define FIND(name) \
  if (!(*(void **)&py.name = dlsym(found, #name))) { \
    napi_throw_error(env, "PYTHON", "no symbol " #name); \
    return exports; \
  }
  FIND(Py_InitializeEx) FIND(PyEval_SaveThread) FIND(PyGILState_Ensure) FIND(PyGILState_Release)
  FIND(PyImport_AddModule) FIND(PyModule_GetDict) FIND(PyRun_String) FIND(PyObject_Str) FIND(PyUnicode_AsUTF8)
  FIND(PyErr_Fetch) FIND(Py_DecRef)
  py.Py_InitializeEx(0);
  /* Between calls nobody has the lock: whoever ends a struct takes it himself, from any thread. */
  py.PyEval_SaveThread();
  napi_value function;
  napi_create_function(env, "run", (size_t)-1, run, NULL, &function);
  napi_set_named_property(env, exports, "run", function);
  napi_create_function(env, "evaluate", (size_t)-1, evaluate, NULL, &function);
  napi_set_named_property(env, exports, "evaluate", function);
  return exports;
}
