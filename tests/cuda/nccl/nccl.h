// SPDX-License-Identifier: MIT
// The part of NCCL's interface that kernels/pavise_nccl calls, played by threads of one process: ranks are threads, and
// device memory is the host model's. As NCCL does, it refuses a message of another length than the receiver expects, and
// a rank that is not there; it does not play streams, on which the host model does all work at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "core/thread_team.hpp"

using cudaStream_t = struct CUstream_st*;
struct ncclUniqueId {
  char internal[128];
};
enum ncclResult_t { ncclSuccess = 0, ncclInvalidArgument = 4, ncclRemoteError = 6 };
enum ncclDataType_t { ncclFloat32 = 7 };

namespace nccl_model {

/// Ranks that meet under one key.
struct Meeting {
  thread_team::Mail mail;
  std::mutex mutex;
  std::condition_variable changed;
  int joined = 0;
};

inline std::shared_ptr<Meeting> meeting(const std::string& key) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Meeting>> all;
  const std::lock_guard lock(mutex);
  auto found = all[key].lock();
  if (!found) {
    all[key] = found = std::make_shared<Meeting>();
  }
  return found;
}

inline std::atomic<int> keys{0};
inline std::atomic<int> messages{0};  ///< sent so far

}  // namespace nccl_model

struct ncclComm {
  std::shared_ptr<nccl_model::Meeting> meeting;
  int rank, size;
};
using ncclComm_t = ncclComm*;

inline const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclInvalidArgument ? "invalid argument" : status == ncclRemoteError ? "remote error" : "no error";
}
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* key) {
  *key = {};
  const std::string text = std::to_string(++nccl_model::keys);
  std::copy(text.begin(), text.end(), key->internal);
  return ncclSuccess;
}
inline ncclResult_t ncclCommInitRank(ncclComm_t* out, int size, ncclUniqueId key, int rank) {
  if (rank < 0 || rank >= size || key.internal[0] == 0) {
    return ncclInvalidArgument;
  }
  auto meeting = nccl_model::meeting(key.internal);
  std::unique_lock lock(meeting->mutex);
  ++meeting->joined;
  meeting->changed.notify_all();
  meeting->changed.wait(lock, [&] { return meeting->joined == size; });
  *out = new ncclComm{meeting, rank, size};
  return ncclSuccess;
}
inline ncclResult_t ncclCommDestroy(ncclComm_t c) {
  delete c;
  return ncclSuccess;
}
inline ncclResult_t ncclSend(const void* values, std::size_t n, ncclDataType_t, int to, ncclComm_t c, cudaStream_t) {
  if (to < 0 || to >= c->size || to == c->rank) {
    return ncclInvalidArgument;
  }
  ++nccl_model::messages;
  c->meeting->mail.put(c->rank, to, std::as_bytes(std::span(static_cast<const float*>(values), n)));
  return ncclSuccess;
}
inline ncclResult_t ncclRecv(void* values, std::size_t n, ncclDataType_t, int from, ncclComm_t c, cudaStream_t) {
  if (from < 0 || from >= c->size || from == c->rank) {
    return ncclInvalidArgument;
  }
  try {
    c->meeting->mail.take(from, c->rank, std::as_writable_bytes(std::span(static_cast<float*>(values), n)));
  } catch (const std::exception&) {
    return ncclRemoteError;
  }
  return ncclSuccess;
}
inline ncclResult_t ncclBroadcast(const void* from_values, void* values, std::size_t n, ncclDataType_t type, int from,
                                  ncclComm_t c, cudaStream_t stream) {
  if (c->rank != from) {
    return ncclRecv(values, n, type, from, c, stream);
  }
  if (from_values != values) {
    std::memcpy(values, from_values, n * sizeof(float));
  }
  for (int to = 0; to < c->size; ++to) {
    if (to != from) {
      ncclSend(values, n, type, to, c, stream);
    }
  }
  return ncclSuccess;
}
