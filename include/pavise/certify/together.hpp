// SPDX-License-Identifier: MIT
// Certification by several processes. Opt-in: includes nlohmann-json.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pavise/certify/certificate_fields.hpp"
#include "pavise/core/communicator.hpp"

namespace pavise::certify {

/// Images that each process certifies in a round, before the first one gets the certificates: so many are lost, times the
/// number of processes, where a job dies.
inline constexpr std::int64_t kRoundImages = 32;

/// Certificates of kind C for the images 0 to n - 1, in order: emit(certificate). make(begin, end, own), in order, calls
/// own(certificate) for each of the images [begin, end). With a team the images of a round are shared, and emit is called
/// by the first rank alone; the certificates are the same.
template <class C, class Make, class Emit>
void certify_together(Communicator* team, std::int64_t n, const Make& make, const Emit& emit) {
  if (team == nullptr) {
    make(0, n, emit);
    return;
  }
  const std::int64_t round = kRoundImages * team->size();
  for (std::int64_t first = 0; first < n; first += round) {
    const auto [begin, end] = share_of(std::min(round, n - first), team->rank(), team->size());
    std::string lines;
    make(first + begin, first + end, [&](const C& certificate) { lines += to_line(certificate) + "\n"; });
    const std::vector<char> all = gather(*team, std::span<const char>(lines.data(), lines.size()));
    for (auto at = all.begin(); team->first() && at != all.end();) {
      const auto stop = std::find(at, all.end(), '\n');
      emit(parse_line<C>(std::string(at, stop)));
      at = stop + 1;
    }
  }
}

}  // namespace pavise::certify
