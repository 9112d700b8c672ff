// SPDX-License-Identifier: MIT
// Wrong operations, which the checks of the table of operations must find out.
#include "autodiff/op_check.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "autodiff/op_table.hpp"
#include "pavise/core/parallel.hpp"

namespace {

using namespace op_table;

/// Twice the input, with a backward pass that multiplies by `slope`.
Case doubled(std::string name, double slope) {
  return make(
      std::move(name), {{{2, 3}}}, {},
      [slope](auto& o) {
        using T = std::decay_t<decltype(*o.x[0].data())>;
        return pavise::pointwise(
            "doubled", o.x[0],
            [](auto x, auto y) {
              for (std::size_t i = 0; i < x.size(); ++i) {
                y[i] = 2 * x[i];
              }
            },
            [slope](auto x, auto, auto dy, auto dx) {
              for (std::size_t i = 0; i < x.size(); ++i) {
                dx[i] += static_cast<T>(slope) * dy[i];
              }
            });
      },
      [](const Operation& o) {
        Values y = o.x[0];
        for (auto& v : y) {
          v *= 2;
        }
        return y;
      });
}

bool found(const std::string& wrong, const char* by) { return wrong.find(by) != std::string::npos; }

}  // namespace

TEST_CASE("operation table: a right operation of the user's own passes, a wrong one does not") {
  CHECK(check_all(doubled("right", 2)) == "");
  CHECK(found(check_all(doubled("slightly wrong", 2.00001)), "differences give"));
  CHECK(found(check_all(doubled("the wrong sign", -2)), "differences give"));
  CHECK(found(check_all(doubled("zeros", 0)), "all zero"));

  Case wrong_value = doubled("another forward", 2);
  wrong_value.reference = [](const std::vector<Operation>& batch) {
    return std::vector<Values>(batch.size(), Values(6, 2.0));
  };
  CHECK(found(check_all(wrong_value), "forward"));
}

TEST_CASE("operation table: a lane that reads its neighbour is found out") {
  Case c = doubled("neighbour", 2);
  c.run_float = [](Operands<float>& o) {
    return pavise::pointwise(
        "neighbour", o.x[0],
        [](auto x, auto y) {
          for (std::size_t i = 0; i < x.size(); ++i) {
            y[i] = 2 * x[i] + (i + 1 < x.size() ? 1e-9f * x[i + 1] : 0.0f) * 100;
          }
        },
        [](auto, auto, auto dy, auto dx) {
          for (std::size_t i = 0; i < dy.size(); ++i) {
            dx[i] += 2 * dy[i];
          }
        });
  };
  CHECK(found(check_lanes<float>(c), "lane"));
}

TEST_CASE("operation table: a result that depends on the instruction set or the threads is found out") {
  const auto shifted = [](auto shift) {
    Case c = doubled("shifted", 2);
    c.run_double = [shift](Operands<double>& o) {
      return pavise::pointwise(
          "shifted", o.x[0],
          [shift](auto x, auto y) {
            for (std::size_t i = 0; i < x.size(); ++i) {
              y[i] = 2 * x[i] + 1e-15 * shift();
            }
          },
          [](auto, auto, auto dy, auto dx) {
            for (std::size_t i = 0; i < dy.size(); ++i) {
              dx[i] += 2 * dy[i];
            }
          });
    };
    return c;
  };
  if (pavise::kernels::best_isa() != pavise::kernels::Isa::portable) {
    CHECK(found(check_instruction_sets<double>(shifted([] { return static_cast<int>(pavise::kernels::isa()); })),
                "instruction sets"));
  }
#ifdef _OPENMP
  CHECK(found(check_threads<double>(shifted([] { return omp_get_num_threads(); })), "threads"));
#endif
}

TEST_CASE("operation table: a mask of a fused ReLU that is promised and not applied is found out") {
  Case c = doubled("forgets the mask", 2);
  c.run_double = [](Operands<double>& o) {
    const auto x = o.x[0];
    auto y = o.tape.result("forgetful", x.shape(), {x});
    const std::int64_t n = o.tape.groups() * x.size() * o.tape.lanes();
    for (std::int64_t i = 0; i < n; ++i) {
      y.data()[i] = 2 * x.data()[i];
    }
    o.tape.on_backward(y, [=](Tape<double>& t) {
      const auto target = t.target(x, true);
      for (std::int64_t i = 0; i < n; ++i) {
        target.data[i] = 2 * t.gradient(y)[i] + (target.accumulate ? target.data[i] : 0);
      }
    });
    return y;
  };
  CHECK(found(check_graph(c), "fused ReLU"));
  c.run_double = [](Operands<double>& o) {
    const auto x = o.x[0];
    auto y = o.tape.result("overwrites", x.shape(), {x});
    const std::int64_t n = o.tape.groups() * x.size() * o.tape.lanes();
    for (std::int64_t i = 0; i < n; ++i) {
      y.data()[i] = 2 * x.data()[i];
    }
    o.tape.on_backward(y, [=](Tape<double>& t) {
      const auto target = t.target(x);
      for (std::int64_t i = 0; i < n; ++i) {
        target.data[i] = 2 * t.gradient(y)[i];
      }
    });
    return y;
  };
  CHECK(found(check_graph(c), "twice"));
}
