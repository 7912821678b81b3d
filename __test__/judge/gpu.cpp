// Arrow C++ over memory of a GPU: it imports what we export, waits for our event as the C Device interface says, and reads; and it exports
// memory that its own stream still writes. The driver is the one that offheap/cuda has loaded, by its path.
#include <arrow/api.h>
#include <arrow/c/bridge.h>
#include <arrow/device.h>
#include <dlfcn.h>
#include <cstdint>
#include <string>

using arrow::Result;
using arrow::Status;
using Handle = void *;

static std::string message;
static Handle context;
static int64_t alive, waits;
static struct {
  int (*cuDevicePrimaryCtxRetain)(Handle *, int);
  int (*cuCtxSetCurrent)(Handle);
  int (*cuMemAlloc_v2)(uint64_t *, size_t);
  int (*cuMemFree_v2)(uint64_t);
  int (*cuMemsetD8Async)(uint64_t, uint8_t, size_t, Handle);
  int (*cuMemcpyDtoH_v2)(void *, uint64_t, size_t);
  int (*cuStreamCreate)(Handle *, unsigned);
  int (*cuStreamDestroy_v2)(Handle);
  int (*cuEventCreate)(Handle *, unsigned);
  int (*cuEventRecord)(Handle, Handle);
  int (*cuEventSynchronize)(Handle);
  int (*cuEventDestroy_v2)(Handle);
} cu;

static Status did(int code, const char *what) {
  return code == 0 ? Status::OK() : Status::IOError(what, " returned ", code);
}

static int failed(const Status &status) {
  message = status.ToString();
  return status.ok() ? 0 : 1;
}

/// The address of a driver's event, as `ArrowDeviceArray.sync_event` has it.
struct Event : arrow::Device::SyncEvent {
  Event(void *raw, release_fn_t release) : SyncEvent(raw, release) {}
  Status Wait() override {
    waits++;
    cu.cuCtxSetCurrent(context);
    return did(cu.cuEventSynchronize(*static_cast<Handle *>(get_raw())), "cuEventSynchronize");
  }
  Status Record(const arrow::Device::Stream &) override { return Status::NotImplemented("record"); }
};

struct Gpu : arrow::Device {
  const char *type_name() const override { return "gpu"; }
  std::string ToString() const override { return "gpu"; }
  bool Equals(const Device &other) const override { return other.device_type() == device_type(); }
  int64_t device_id() const override { return 0; }
  arrow::DeviceAllocationType device_type() const override { return arrow::DeviceAllocationType::kCUDA; }
  std::shared_ptr<arrow::MemoryManager> default_memory_manager() override;
};

struct Manager : arrow::MemoryManager {
  explicit Manager(std::shared_ptr<arrow::Device> device) : MemoryManager(device) {}
  Result<std::shared_ptr<arrow::io::RandomAccessFile>> GetBufferReader(std::shared_ptr<arrow::Buffer>) override {
    return Status::NotImplemented("reader");
  }
  Result<std::shared_ptr<arrow::io::OutputStream>> GetBufferWriter(std::shared_ptr<arrow::Buffer>) override {
    return Status::NotImplemented("writer");
  }
  Result<std::unique_ptr<arrow::Buffer>> AllocateBuffer(int64_t) override { return Status::NotImplemented("allocate"); }
  Result<std::shared_ptr<arrow::Device::SyncEvent>> WrapDeviceSyncEvent(void *event, arrow::Device::SyncEvent::release_fn_t release) override {
    return std::make_shared<Event>(event, release);
  }
};

std::shared_ptr<arrow::MemoryManager> Gpu::default_memory_manager() { return std::make_shared<Manager>(std::make_shared<Gpu>()); }

struct Memory : arrow::Buffer {
  Memory(uint64_t address, int64_t size) : Buffer(reinterpret_cast<uint8_t *>(address), size, Gpu().default_memory_manager()) { alive++; }
  ~Memory() override {
    alive--;
    cu.cuCtxSetCurrent(context);
    cu.cuMemFree_v2(address());
  }
};

static Result<std::shared_ptr<arrow::MemoryManager>> mapper(ArrowDeviceType type, int64_t id) {
  if (type != ARROW_DEVICE_CUDA || id != 0) return Status::Invalid("device ", type, ":", id);
  return Gpu().default_memory_manager();
}

static Status take(uintptr_t array, uintptr_t schema, int64_t *length, uint8_t *ends) {
  ARROW_ASSIGN_OR_RAISE(auto taken, arrow::ImportDeviceArray(reinterpret_cast<ArrowDeviceArray *>(array), reinterpret_cast<ArrowSchema *>(schema), mapper));
  *length = taken->length();
  auto values = taken->data()->buffers[1];
  auto event = values->device_sync_event();
  if (!event) return Status::Invalid("there is no event");
  ARROW_RETURN_NOT_OK(event->Wait());
  auto first = values->address() + taken->offset();
  ARROW_RETURN_NOT_OK(did(cu.cuMemcpyDtoH_v2(ends, first, 1), "cuMemcpyDtoH"));
  return did(cu.cuMemcpyDtoH_v2(ends + 1, first + *length - 1, 1), "cuMemcpyDtoH");
}

static Status make(uintptr_t array, uintptr_t schema, int64_t length, uint8_t byte) {
  uint64_t address;
  Handle stream;
  ARROW_RETURN_NOT_OK(did(cu.cuCtxSetCurrent(context), "cuCtxSetCurrent"));
  ARROW_RETURN_NOT_OK(did(cu.cuMemAlloc_v2(&address, length), "cuMemAlloc"));
  auto memory = std::make_shared<Memory>(address, length);
  ARROW_RETURN_NOT_OK(did(cu.cuStreamCreate(&stream, 1), "cuStreamCreate"));
  auto event = new Handle;
  ARROW_RETURN_NOT_OK(did(cu.cuEventCreate(event, 2), "cuEventCreate"));
  auto sync = std::make_shared<Event>(event, [](void *raw) {
    cu.cuCtxSetCurrent(context);
    cu.cuEventDestroy_v2(*static_cast<Handle *>(raw));
    delete static_cast<Handle *>(raw);
  });
  ARROW_RETURN_NOT_OK(did(cu.cuMemsetD8Async(address, byte, length, stream), "cuMemsetD8Async"));
  ARROW_RETURN_NOT_OK(did(cu.cuEventRecord(*event, stream), "cuEventRecord"));
  ARROW_RETURN_NOT_OK(did(cu.cuStreamDestroy_v2(stream), "cuStreamDestroy"));
  auto made = arrow::MakeArray(arrow::ArrayData::Make(arrow::uint8(), length, {nullptr, memory}, 0));
  return arrow::ExportDeviceArray(*made, sync, reinterpret_cast<ArrowDeviceArray *>(array), reinterpret_cast<ArrowSchema *>(schema));
}

extern "C" {
const char *gpu_error() { return message.c_str(); }

int64_t gpu_alive() { return alive; }

int64_t gpu_waits() { return waits; }

int gpu_start(const char *driver) {
  auto library = dlopen(driver, RTLD_NOW);
  if (!library) return failed(Status::Invalid(dlerror()));
#define FIND(name) \
  if (!(*reinterpret_cast<void **>(&cu.name) = dlsym(library, #name))) return failed(Status::Invalid("no symbol " #name));
  FIND(cuDevicePrimaryCtxRetain) FIND(cuCtxSetCurrent) FIND(cuMemAlloc_v2) FIND(cuMemFree_v2) FIND(cuMemsetD8Async)
  FIND(cuMemcpyDtoH_v2) FIND(cuStreamCreate) FIND(cuStreamDestroy_v2) FIND(cuEventCreate) FIND(cuEventRecord)
  FIND(cuEventSynchronize) FIND(cuEventDestroy_v2)
  return failed(did(cu.cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain"));
}

int gpu_take(uintptr_t array, uintptr_t schema, int64_t *length, uint8_t *ends) { return failed(take(array, schema, length, ends)); }

int gpu_make(uintptr_t array, uintptr_t schema, int64_t length, uint8_t byte) { return failed(make(array, schema, length, byte)); }
}
