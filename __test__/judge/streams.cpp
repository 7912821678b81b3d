// Arrow C++ itself for ArrowDeviceArrayStream, which pyarrow does not show: as C functions over addresses, 0 for success. An error is
// what error() says.
#include <arrow/api.h>
#include <arrow/c/bridge.h>
#include <cstdint>
#include <string>

static std::string message;

static int failed(const arrow::Status &status) {
  message = status.ToString();
  return status.ok() ? 0 : 1;
}

extern "C" {
const char *error() { return message.c_str(); }

int64_t allocated() { return arrow::default_memory_pool()->bytes_allocated(); }

/// Imports a stream, and gives how many arrays it had and the sum of its doubles; everything is released again.
int consume(uintptr_t address, int64_t *chunks, double *sum) {
  auto imported = arrow::ImportDeviceChunkedArray(reinterpret_cast<ArrowDeviceArrayStream *>(address));
  if (!imported.ok()) return failed(imported.status());
  auto valid = (*imported)->ValidateFull();
  if (!valid.ok()) return failed(valid);
  *chunks = (*imported)->num_chunks();
  *sum = 0;
  for (const auto &chunk : (*imported)->chunks()) {
    const auto &doubles = static_cast<const arrow::DoubleArray &>(*chunk);
    for (int64_t i = 0; i < doubles.length(); i++) *sum += doubles.Value(i);
  }
  return 0;
}

/// Exports arrays of 1, 2, ... doubles, each of its own number; of strings with `strings`.
int produce(uintptr_t address, int64_t chunks, int strings) {
  arrow::ArrayVector arrays;
  for (int64_t n = 1; n <= chunks; n++) {
    std::shared_ptr<arrow::Array> array;
    arrow::DoubleBuilder doubles;
    arrow::StringBuilder texts;
    for (int64_t i = 0; i < n; i++) {
      auto status = strings ? texts.Append("text") : doubles.Append(static_cast<double>(n));
      if (!status.ok()) return failed(status);
    }
    auto status = strings ? texts.Finish(&array) : doubles.Finish(&array);
    if (!status.ok()) return failed(status);
    arrays.push_back(array);
  }
  auto made = arrow::ChunkedArray::Make(arrays, strings ? arrow::utf8() : arrow::float64());
  if (!made.ok()) return failed(made.status());
  return failed(arrow::ExportDeviceChunkedArray(*made, arrow::DeviceAllocationType::kCPU, reinterpret_cast<ArrowDeviceArrayStream *>(address)));
}
}
