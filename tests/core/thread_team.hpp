// SPDX-License-Identifier: MIT
// Ranks that are threads of one process: what is tested of processes that work together runs everywhere.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "pavise/core/communicator.hpp"

namespace thread_team {

/// What was sent and not yet received, in order, for each pair of ranks.
class Mail {
 public:
  void put(int from, int to, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    boxes_[{from, to}].emplace_back(bytes.begin(), bytes.end());
    arrived_.notify_all();
  }
  void take(int from, int to, std::span<std::byte> bytes) {
    std::unique_lock lock(mutex_);
    auto& box = boxes_[{from, to}];
    arrived_.wait(lock, [&] { return !box.empty() || lost_; });
    if (box.empty()) {
      throw std::runtime_error("a rank is lost");
    }
    if (box.front().size() != bytes.size()) {
      throw std::logic_error("a rank receives another number of bytes than was sent");
    }
    if (!bytes.empty()) {
      std::memcpy(bytes.data(), box.front().data(), bytes.size());
    }
    box.pop_front();
  }
  void lose() {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    arrived_.notify_all();
  }
  bool empty() const {
    for (const auto& [key, box] : boxes_) {
      if (!box.empty()) {
        return false;
      }
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes_;
  bool lost_ = false;
};

class Rank : public pavise::Communicator {
 public:
  Rank(Mail& mail, int rank, int size) : mail_(mail), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void send(std::span<const std::byte> bytes, int to) override { mail_.put(rank_, to, bytes); }
  void receive(std::span<std::byte> bytes, int from) override { mail_.take(from, rank_, bytes); }
  void broadcast(std::span<std::byte> bytes, int from) override {
    for (int to = 0; rank_ == from && to < size_; ++to) {
      if (to != from) {
        send(bytes, to);
      }
    }
    if (rank_ != from) {
      receive(bytes, from);
    }
  }

 private:
  Mail& mail_;
  int rank_, size_;
};

/// Calls work(team) on `size` ranks at once. The first exception of a rank ends the others and is thrown again.
template <class Work>
void run(int size, const Work& work) {
  Mail mail;
  std::exception_ptr error;
  std::mutex first;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      Rank own(mail, rank, size);
      try {
        work(own);
      } catch (...) {
        {
          const std::lock_guard lock(first);
          error = error ? error : std::current_exception();
        }
        mail.lose();
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  if (error) {
    std::rethrow_exception(error);
  }
  if (!mail.empty()) {
    throw std::logic_error("something was sent and never received");
  }
}

}  // namespace thread_team
