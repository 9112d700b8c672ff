// SPDX-License-Identifier: MIT
#pragma once

namespace pavise::kernels {

/// Sums over the groups of a pass that several processes take in turn: each goes on with the sums of the one before, lane
/// by lane, so that they come about in the order, and with the bits, of a single process that has all groups. Without
/// `lanes` all groups are here.
template <class T>
struct RunningSums {
  T* lanes = nullptr;  ///< [result][16]
  bool first = true;   ///< nothing is there to go on with
  bool last = true;    ///< the sums are complete after this, and are added to the results
};

}  // namespace pavise::kernels
