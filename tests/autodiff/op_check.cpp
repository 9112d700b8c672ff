// SPDX-License-Identifier: MIT
#include "autodiff/op_check.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <set>
#include <span>

#include "autodiff/op_run.hpp"
#include "core/thread_team.hpp"
#include "pavise/core/hash.hpp"
#include "pavise/core/parallel.hpp"

namespace op_table {

namespace {

using pavise::concat;

std::vector<std::uint32_t> first_images(std::uint32_t n) {
  std::vector<std::uint32_t> out(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    out[i] = i;
  }
  return out;
}

std::vector<Operation> operations(const Case& c, const std::vector<std::uint32_t>& images) {
  std::vector<Operation> batch;
  for (const auto image : images) {
    Operation o;
    o.image = image;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      o.x.push_back(draw(c.inputs[i], i, image));
    }
    for (std::size_t i = 0; i < c.parameters.size(); ++i) {
      o.p.push_back(draw(c.parameters[i], c.inputs.size() + i, 0));
    }
    batch.push_back(std::move(o));
  }
  return batch;
}

template <class T>
double weighted_sum(const Run<T>& r, const std::vector<std::uint32_t>& images, std::size_t n) {
  const auto weight = draw({.shape = {static_cast<std::int64_t>(r.value[n].size())}}, 99, images[n]);
  double sum = 0;
  for (std::size_t e = 0; e < r.value[n].size(); ++e) {
    sum += weight[e] * r.value[n][e];
  }
  return sum;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Whether image `n` of a and image `m` of b have the same values and input gradients.
template <class T>
std::string compare_images(const Case& c, const Run<T>& a, std::size_t n, const Run<T>& b, std::size_t m) {
  if (!same_bits(a.value[n], b.value[m])) {
    return "the values";
  }
  for (std::size_t k = 0; k < std::min(c.inputs.size(), a.gradient.size()); ++k) {
    if (!c.inputs[k].constant && !same_bits(a.gradient[k][n], b.gradient[k][m])) {
      return concat("the gradient of input ", k);
    }
  }
  return {};
}

template <class T>
std::string compare_runs(const Run<T>& a, const Run<T>& b) {
  for (std::size_t n = 0; n < a.value.size(); ++n) {
    if (!same_bits(a.value[n], b.value[n])) {
      return concat("the values of image ", n);
    }
  }
  for (std::size_t k = 0; k < a.gradient.size(); ++k) {
    for (std::size_t n = 0; n < a.gradient[k].size(); ++n) {
      if (!same_bits(a.gradient[k][n], b.gradient[k][n])) {
        return concat("the gradient of operand ", k, ", image ", n);
      }
    }
  }
  return {};
}

template <class T>
std::string compare_gradients(const char* what, const Run<T>& a, double factor, const Run<T>& b) {
  for (std::size_t k = 0; k < a.gradient.size(); ++k) {
    for (std::size_t n = 0; n < a.gradient[k].size(); ++n) {
      for (std::size_t e = 0; e < a.gradient[k][n].size(); ++e) {
        const double x = factor * static_cast<double>(a.gradient[k][n][e]);
        const double y = static_cast<double>(b.gradient[k][n][e]);
        if (!(std::abs(x - y) <= 1e-11 * (1 + std::abs(x)))) {
          return concat(what, ": gradient of operand ", k, ", image ", n, ", element ", e, ": ", y, ", expected ", x);
        }
      }
    }
  }
  return {};
}

}  // namespace

template <class T>
std::string check_forward(const Case& c) {
  const double tolerance = std::is_same_v<T, float> ? c.tolerance : c.tolerance * 1e-7;
  for (const int lanes : {16, 1}) {
    const auto images = first_images(lanes == 16 ? 18 : 2);
    const auto expected = c.reference(operations(c, images));
    const auto got = run<T>(c, {.images = images, .lanes = lanes, .differentiate = false});
    for (std::size_t n = 0; n < images.size(); ++n) {
      if (expected[n].size() != got.value[n].size()) {
        return concat("forward: ", got.value[n].size(), " elements, expected ", expected[n].size());
      }
      for (std::size_t e = 0; e < expected[n].size(); ++e) {
        const double v = static_cast<double>(got.value[n][e]);
        if (!(std::abs(v - expected[n][e]) <= tolerance * (1 + std::abs(expected[n][e])))) {
          return concat("forward, ", lanes, " lanes, image ", n, ", element ", e, ": ", v, ", expected ",
                        expected[n][e]);
        }
      }
    }
  }
  return {};
}

std::string check_gradient(const Case& c, std::int64_t limit) {
  const auto images = first_images(3);
  const double h = 1e-5;
  const auto analytic = run<double>(c, {.images = images});
  const bool empty = analytic.value[0].empty();  // then all derivatives are 0
  for (std::size_t k = 0; k < c.inputs.size() + c.parameters.size(); ++k) {
    const bool is_input = k < c.inputs.size();
    const Operand& operand = is_input ? c.inputs[k] : c.parameters[k - c.inputs.size()];
    const std::int64_t size = operand.shape.numel();
    if (operand.constant || operand.buffer || size == 0) {
      continue;
    }
    if (analytic.gradient.size() <= k) {
      return concat("gradient of operand ", k, ": nothing was recorded");
    }
    bool all_zero = true;
    for (const auto& image : analytic.gradient[k]) {
      for (const double g : image) {
        all_zero = all_zero && g == 0;
      }
    }
    if (all_zero && !operand.flat && !empty) {
      return concat("gradient of operand ", k, ": all zero");
    }
    const std::int64_t stride = std::max<std::int64_t>(1, size / limit);
    for (std::int64_t e = 0; e < size; e += stride) {
      for (std::int64_t moved = c.across && is_input ? 0 : -1; moved < (c.across && is_input ? 3 : 0); ++moved) {
        const auto at = [&](double by) {
          return run<double>(c, {.images = images, .differentiate = false, .nudge = {k, e, moved, by}});
        };
        const auto plus = at(h);
        const auto minus = at(-h);
        double total = 0;
        for (std::size_t n = 0; n < images.size(); ++n) {
          const double numeric = (weighted_sum(plus, images, n) - weighted_sum(minus, images, n)) / (2 * h);
          total += numeric;
          if (is_input && !c.across) {
            const double g = analytic.gradient[k][n][static_cast<std::size_t>(e)];
            if (!(std::abs(g - numeric) <= c.gradient_tolerance * (1 + std::abs(numeric)))) {
              return concat("gradient of input ", k, ", image ", n, ", element ", e, ": ", g, ", differences give ",
                            numeric);
            }
          }
        }
        if (!is_input || c.across) {
          const double g =
              analytic.gradient[k][is_input ? static_cast<std::size_t>(moved) : 0][static_cast<std::size_t>(e)];
          if (!(std::abs(g - total) <= c.gradient_tolerance * (1 + std::abs(total)))) {
            return concat("gradient of operand ", k, ", image ", moved, ", element ", e, ": ", g, ", differences give ",
                          total);
          }
        }
      }
    }
  }
  return {};
}

std::string check_float_gradient(const Case& c) {
  const auto images = first_images(18);
  const auto exact = run<double>(c, {.images = images});
  const auto got = run<float>(c, {.images = images});
  for (std::size_t k = 0; k < exact.gradient.size(); ++k) {
    double largest = 1;
    for (const auto& image : exact.gradient[k]) {
      for (const double g : image) {
        largest = std::max(largest, std::abs(g));
      }
    }
    for (std::size_t n = 0; n < exact.gradient[k].size(); ++n) {
      for (std::size_t e = 0; e < exact.gradient[k][n].size(); ++e) {
        const double g = static_cast<double>(got.gradient[k][n][e]);
        if (!(std::abs(g - exact.gradient[k][n][e]) <= 10 * c.tolerance * largest)) {
          return concat("float gradient of operand ", k, ", image ", n, ", element ", e, ": ", g, ", in double ",
                        exact.gradient[k][n][e]);
        }
      }
    }
  }
  return {};
}

template <class T>
std::string check_lanes(const Case& c) {
  if (c.across) {
    return {};
  }
  const auto alone = run<T>(c, {.images = {7}, .lanes = 1});
  const auto everywhere = run<T>(c, {.images = std::vector<std::uint32_t>(16, 7)});
  for (std::size_t lane = 0; lane < 16; ++lane) {
    if (const auto what = compare_images(c, everywhere, lane, alone, 0); !what.empty()) {
      return concat("lanes: ", what, " in lane ", lane, " are not those of the image alone");
    }
  }
  auto images = first_images(19);
  images[18] = 7;
  const auto among = run<T>(c, {.images = images});
  for (const std::size_t place : {std::size_t{7}, std::size_t{18}}) {
    if (const auto what = compare_images(c, among, place, alone, 0); !what.empty()) {
      return concat("lanes: ", what, " at place ", place, " of a batch are not those of the image alone");
    }
  }
  return {};
}

template <class T>
std::string check_instruction_sets(const Case& c) {
  using pavise::kernels::Isa;
  const Isa before = pavise::kernels::isa();
  std::string wrong;
  for (const int lanes : {16, 1}) {
    const Setting setting{.images = first_images(lanes == 16 ? 19 : 2), .lanes = lanes};
    pavise::kernels::set_isa(Isa::portable);
    const auto portable = run<T>(c, setting);
    for (const Isa isa : {Isa::avx2, Isa::avx512}) {
      pavise::kernels::set_isa(isa);
      const auto other = run<T>(c, setting);
      if (const auto what = compare_runs(portable, other); !what.empty() && wrong.empty()) {
        wrong = concat("instruction sets: ", what, " with ", lanes, " lanes differs between portable and ",
                       pavise::kernels::isa_name(pavise::kernels::isa()));
      }
    }
  }
  pavise::kernels::set_isa(before);
  return wrong;
}

template <class T>
std::string check_team(const Case& c) {
  constexpr int kRanks = 3;
  const Setting setting{.images = first_images(37)};
  const auto one = run<T>(c, setting);
  std::vector<std::string> wrong(kRanks);
  thread_team::run(kRanks, [&](pavise::Communicator& team) {
    const auto first = static_cast<std::size_t>(16 * team.rank());
    Setting part = setting;
    part.shared = {.team = &team, .images_of_all = 37};
    part.images.assign(setting.images.begin() + static_cast<std::ptrdiff_t>(first),
                       setting.images.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(37, first + 16)));
    const auto own = run<T>(c, part);
    const auto slice = [&](const std::vector<std::vector<T>>& all) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), first));
      return std::vector<std::vector<T>>(from,
                                         from + std::min<std::ptrdiff_t>(all.end() - from, std::ssize(part.images)));
    };
    Run<T> expected{.shape = one.shape, .value = slice(one.value), .gradient = own.gradient};
    for (std::size_t k = 0; k < one.gradient.size(); ++k) {
      if (k < c.inputs.size()) {
        expected.gradient[k] = slice(one.gradient[k]);
      } else if (team.last()) {  // it has the gradients of parameters
        expected.gradient[k] = one.gradient[k];
      }
    }
    if (const auto what = compare_runs(expected, own); !what.empty()) {
      wrong[static_cast<std::size_t>(team.rank())] = concat("team: rank ", team.rank(), ": ", what, " differs");
    }
  });
  for (const auto& what : wrong) {
    if (!what.empty()) {
      return what;
    }
  }
  return {};
}

std::uint64_t bits(const Case& c) {
  pavise::Hash hash;
  for (const int lanes : {16, 1}) {
    const auto r = run<float>(c, {.images = first_images(lanes == 16 ? 19 : 2), .lanes = lanes});
    const auto add = [&](const std::vector<std::vector<float>>& all) {
      for (const auto& values : all) {
        hash.numbers(std::span<const float>(values));
      }
    };
    add(r.value);
    for (const auto& gradient : r.gradient) {
      add(gradient);
    }
  }
  return hash.value();
}

template <class T>
std::string check_threads(const Case& c) {
  const int before = pavise::thread_count();
  const Setting setting{.images = first_images(37)};
  std::string wrong;
  pavise::set_thread_count(1);
  const auto one = run<T>(c, setting);
  for (const int threads : {2, 3}) {
    pavise::set_thread_count(threads);
    if (const auto what = compare_runs(one, run<T>(c, setting)); !what.empty() && wrong.empty()) {
      wrong = concat("threads: ", what, " differs between 1 and ", threads);
    }
  }
  pavise::set_thread_count(before);
  return wrong;
}

std::string check_graph(const Case& c) {
  const auto images = first_images(3);
  const auto plain = run<double>(c, {.images = images, .behind_relu = true});
  const auto fused = run<double>(c, {.images = images, .behind_relu = true, .fused = true});
  if (auto wrong = compare_gradients("behind a fused ReLU", plain, 1, fused); !wrong.empty()) {
    return wrong;
  }
  const auto once = run<double>(c, {.images = images});
  const auto twice = run<double>(c, {.images = images, .twice = true});
  return compare_gradients("applied twice", once, 2, twice);
}

std::string first_wrong(const Case& c, std::initializer_list<std::function<std::string()>> checks) {
  for (const auto& check : checks) {
    if (auto wrong = check(); !wrong.empty()) {
      return concat(c.name, ": ", wrong);
    }
  }
  return {};
}

std::string check_all(const Case& c) {
  return first_wrong(c, {
                            [&] { return check_forward<float>(c); },
                            [&] { return check_forward<double>(c); },
                            [&] { return check_gradient(c); },
                            [&] { return check_float_gradient(c); },
                            [&] { return check_graph(c); },
                            [&] { return check_lanes<float>(c); },
                            [&] { return check_lanes<double>(c); },
                            [&] { return check_instruction_sets<float>(c); },
                            [&] { return check_instruction_sets<double>(c); },
                            [&] { return check_team<float>(c); },
                            [&] { return check_team<double>(c); },
                            [&] { return check_threads<float>(c); },
                            [&] { return check_threads<double>(c); },
                        });
}

std::string check_forward_and_bits(const Case& c) {
  std::printf("bits %016llx %s\n", static_cast<unsigned long long>(bits(c)), c.name.c_str());
  return first_wrong(c, {
                            [&] { return check_forward<float>(c); },
                            [&] { return check_forward<double>(c); },
                            [&] { return check_lanes<float>(c); },
                            [&] { return check_threads<float>(c); },
                        });
}

void check_names(const std::vector<Case>& rows) {
  static std::set<std::string> names;
  for (const auto& row : rows) {
    CHECK_MESSAGE(names.insert(row.name).second, "two rows are called " << row.name);
  }
}

void check_rows(const std::vector<Case>& rows) {
  check_names(rows);
  for (const auto& row : rows) {
    const bool print = std::getenv("PAVISE_PRINT_BITS") != nullptr;
    const std::string wrong = print ? check_forward_and_bits(row) : check_all(row);
    CHECK_MESSAGE(wrong.empty(), wrong);
  }
}

template std::string check_forward<float>(const Case&);
template std::string check_forward<double>(const Case&);
template std::string check_lanes<float>(const Case&);
template std::string check_lanes<double>(const Case&);
template std::string check_instruction_sets<float>(const Case&);
template std::string check_instruction_sets<double>(const Case&);
template std::string check_team<float>(const Case&);
template std::string check_team<double>(const Case&);
template std::string check_threads<float>(const Case&);
template std::string check_threads<double>(const Case&);

}  // namespace op_table
