// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "pavise_kernels/cpu/cpu.hpp"

/// Calls body() under each instruction set that this processor has, and takes the first one back afterwards.
template <class Body>
void each_isa(const Body& body) {
  using pavise::kernels::Isa;
  const Isa before = pavise::kernels::isa();
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (isa <= pavise::kernels::best_isa()) {
      pavise::kernels::set_isa(isa);
      INFO("instruction set ", std::string(pavise::kernels::isa_name(isa)));
      body();
    }
  }
  pavise::kernels::set_isa(before);
}
