// SPDX-License-Identifier: MIT
// Devices, memory, copies, graphs. Memory comes from the device's own pool (cudaMallocAsync), told to keep what is
// released, so that after the first pass an allocation costs no call to the system.
#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

namespace {

#ifdef __CUDACC__

/// Tells the current device's pool, once, to keep what is released to it.
void keep_memory() {
  static thread_local int told = -1;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (told == device) {
    return;
  }
  cudaMemPool_t pool{};
  check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t all = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
  told = device;
}

void* allocate(std::size_t bytes, Stream stream) {
  if (bytes == 0) {
    return nullptr;
  }
  keep_memory();
  void* p = nullptr;
  const cudaError_t status = cudaMallocAsync(&p, bytes, native(stream));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t available = 0;
    std::size_t total = 0;
    (void)cudaMemGetInfo(&available, &total);
    throw DeviceError(concat("cuda: out of memory: ", bytes, " bytes asked for, ", available, " of ", total, " free"));
  }
  check(status, "cudaMallocAsync");
  return p;
}

void copy_bytes(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, kind, native(stream)), "cudaMemcpyAsync");
}

/// Whether the current device reads the host's pages itself: then a copy from them is not staged, and whoever queued it
/// may not change them yet.
bool reads_host_pages() {
  static thread_local std::pair<int, bool> known{-1, false};
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (known.first != device) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, cudaDevAttrPageableMemoryAccessUsesHostPageTables, device),
          "cudaDeviceGetAttribute");
    known = {device, value != 0};
  }
  return known.second;
}

void fill_memory(Table& t) {
  t.device_count = [] {
    int n = 0;
    const cudaError_t status = cudaGetDeviceCount(&n);
    (void)cudaGetLastError();
    return status == cudaSuccess ? n : 0;  // no driver, too old a driver: no device
  };
  t.device_info = [](int device) {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
    DeviceInfo out{};
    std::snprintf(out.name, sizeof out.name, "%s", p.name);
    out.major = p.major;
    out.minor = p.minor;
    out.multiprocessors = p.multiProcessorCount;
    out.memory = p.totalGlobalMem;
    out.shared = p.sharedMemPerBlockOptin;
    std::copy(std::begin(p.uuid.bytes), std::end(p.uuid.bytes), std::begin(out.id));
    return out;
  };
  t.set_device = [](int device) { check(cudaSetDevice(device), "cudaSetDevice"); };
  t.current_device = [] {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    return device;
  };
  t.make_stream = [] {
    cudaStream_t s{};
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return static_cast<Stream>(s);
  };
  t.destroy_stream = [](Stream s) { check(cudaStreamDestroy(native(s)), "cudaStreamDestroy"); };
  t.synchronize = [](Stream s) { check(cudaStreamSynchronize(native(s)), "cudaStreamSynchronize"); };
  t.allocate = allocate;
  t.release = [](void* p, Stream s) {
    if (p != nullptr) {
      check(cudaFreeAsync(p, native(s)), "cudaFreeAsync");
    }
  };
  t.allocate_host = [](std::size_t bytes) {
    void* p = nullptr;
    check(cudaMallocHost(&p, bytes), "cudaMallocHost");
    return p;
  };
  t.release_host = [](void* p) { check(cudaFreeHost(p), "cudaFreeHost"); };
  t.copy_to_device = [](void* to, const void* from, std::size_t bytes, Stream s) {
    copy_bytes(to, from, bytes, cudaMemcpyHostToDevice, s);
    if (reads_host_pages()) {
      check(cudaStreamSynchronize(native(s)), "cudaStreamSynchronize");
    }
  };
  t.copy_to_host = [](void* to, const void* from, std::size_t bytes, Stream s) {
    copy_bytes(to, from, bytes, cudaMemcpyDeviceToHost, s);
  };
  t.copy = [](void* to, const void* from, std::size_t bytes, Stream s) {
    copy_bytes(to, from, bytes, cudaMemcpyDeviceToDevice, s);
  };
  t.fill_bytes = [](void* to, int value, std::size_t bytes, Stream s) {
    check(cudaMemsetAsync(to, value, bytes, native(s)), "cudaMemsetAsync");
  };
  t.begin_graph = [](Stream s) {
    check(cudaStreamBeginCapture(native(s), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  };
  t.end_graph = [](Stream s) {
    cudaGraph_t graph{};
    cudaGraphExec_t executable{};
    check(cudaStreamEndCapture(native(s), &graph), "cudaStreamEndCapture");
    const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check(made, "cudaGraphInstantiate");
    return static_cast<Graph>(executable);
  };
  t.launch_graph = [](Graph g, Stream s) {
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(g), native(s)), "cudaGraphLaunch");
  };
  t.destroy_graph = [](Graph g) {
    check(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(g)), "cudaGraphExecDestroy");
  };
}

#else

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) {
    host_model::submit([=] { std::memcpy(to, from, bytes); });
  }
}

void fill_memory(Table& t) {
  t.device_count = [] { return 1; };
  t.device_info = [](int) { return DeviceInfo{"host model", 0, 0, 4, 0, std::size_t{227} << 10, {}}; };
  t.set_device = [](int) {};
  t.current_device = [] { return 0; };
  t.make_stream = [] { return Stream{}; };
  t.destroy_stream = [](Stream) {};
  t.synchronize = [](Stream) {};
  t.allocate = [](std::size_t bytes, Stream) { return host_model::DeviceMemory::allocate(bytes); };
  t.release = [](void* p, Stream) { host_model::DeviceMemory::release(p); };
  t.allocate_host = [](std::size_t bytes) { return std::malloc(bytes); };
  t.release_host = [](void* p) { std::free(p); };
  t.copy_to_device = [](void* to, const void* from, std::size_t bytes, Stream) { copy_bytes(to, from, bytes); };
  t.copy_to_host = t.copy_to_device;
  t.copy = t.copy_to_device;
  t.fill_bytes = [](void* to, int value, std::size_t bytes, Stream) {
    host_model::submit([=] { std::memset(to, value, bytes); });
  };
  t.begin_graph = [](Stream) { host_model::recording = new host_model::Recording; };
  t.end_graph = [](Stream) { return static_cast<Graph>(std::exchange(host_model::recording, nullptr)); };
  t.launch_graph = [](Graph g, Stream) {
    for (const auto& work : *static_cast<host_model::Recording*>(g)) {
      work();
    }
  };
  t.destroy_graph = [](Graph g) { delete static_cast<host_model::Recording*>(g); };
}

#endif

}  // namespace

void fill_runtime(Table& t) { fill_memory(t); }

}  // namespace pavise::kernels::cuda
