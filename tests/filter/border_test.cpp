// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/border.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

namespace defend = pavise::defend;
using Places = std::vector<std::int64_t>;

TEST_CASE("borders: what numpy.pad does, several images away too") {
  // numpy.pad(range(4), (6, 5), 'symmetric') and 'reflect'; of 1 and 2 elements too
  CHECK(defend::border_places(4, 6, 5, defend::Border::reflect) == Places{2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0});
  CHECK(defend::border_places(4, 6, 5, defend::Border::reflect_101) ==
        Places{0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2});
  CHECK(defend::border_places(2, 3, 3, defend::Border::reflect) == Places{1, 1, 0, 0, 1, 1, 0, 0});
  CHECK(defend::border_places(2, 3, 3, defend::Border::reflect_101) == Places{1, 0, 1, 0, 1, 0, 1, 0});
  for (const auto border : {defend::Border::reflect, defend::Border::reflect_101}) {
    CHECK(defend::border_places(1, 2, 3, border) == Places(6, 0));
  }
}
