// SPDX-License-Identifier: MIT
#include "pavise/core/error.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "pavise/core/shape.hpp"

using pavise::concat;

TEST_CASE("errors: every kind is an Error and a std::runtime_error, and none is another") {
  CHECK_THROWS_AS(throw pavise::ShapeError("x"), pavise::Error);
  CHECK_THROWS_AS(throw pavise::ValueError("x"), pavise::Error);
  CHECK_THROWS_AS(throw pavise::DeviceError("x"), pavise::Error);
  CHECK_THROWS_AS(throw pavise::IoError("x"), pavise::Error);
  CHECK_THROWS_AS(throw pavise::IoError("x"), std::runtime_error);
  CHECK_FALSE(std::is_base_of_v<pavise::ShapeError, pavise::ValueError>);
  CHECK_FALSE(std::is_base_of_v<pavise::ValueError, pavise::ShapeError>);
}

TEST_CASE("concat: text, characters, numbers, truth, shapes") {
  CHECK(concat() == "");
  CHECK(concat("conv2d: weight ", pavise::Shape{16, 3, 5, 5}, " expects ", 3, " input channels, got ",
               pavise::Shape{1, 28, 28}) == "conv2d: weight (16,3,5,5) expects 3 input channels, got (1,28,28)");
  CHECK(concat(std::string("a"), std::string_view("b"), 'c') == "abc");
  CHECK(concat(true, ' ', false) == "true false");
  CHECK(concat(std::numeric_limits<std::int64_t>::min()) == "-9223372036854775808");
  CHECK(concat(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
}

TEST_CASE("concat: the shortest decimal form that reads back as the same number") {
  CHECK(concat(0.1) == "0.1");
  CHECK(concat(0.1f) == "0.1");
  CHECK(concat(1.0) == "1");
  CHECK(concat(-2.5e-7) == "-2.5e-07");
  CHECK(concat(1.0 / 3) == "0.3333333333333333");
  CHECK(concat(std::numeric_limits<double>::infinity()) == "inf");
  CHECK(concat(-std::numeric_limits<float>::infinity()) == "-inf");
  CHECK(concat(std::numeric_limits<double>::quiet_NaN()) == "nan");
  CHECK(concat(std::numeric_limits<double>::denorm_min()) == "5e-324");
  CHECK(std::stod(concat(-std::numeric_limits<double>::max())) == -std::numeric_limits<double>::max());
}

TEST_CASE("require: throws the asked-for kind, and only where the condition fails") {
  CHECK_NOTHROW(pavise::require(true, "never"));
  CHECK_THROWS_WITH_AS(pavise::require(false, "pgd: steps ", 0, ", expected 1 or more"),
                       "pgd: steps 0, expected 1 or more", pavise::ValueError);
  CHECK_THROWS_WITH_AS(pavise::require<pavise::IoError>(false, "model.bin: ", 12, " bytes"), "model.bin: 12 bytes",
                       pavise::IoError);
}

namespace {

struct Counted {
  int* calls;
  std::string to_string() const {
    ++*calls;
    return "counted";
  }
};

}  // namespace

TEST_CASE("require: formats nothing where the condition holds") {
  int calls = 0;
  pavise::require(true, Counted{&calls});
  CHECK(calls == 0);
  CHECK_THROWS_WITH(pavise::require(false, Counted{&calls}), "counted");
  CHECK(calls == 1);
}

TEST_CASE("join: names for a message") {
  CHECK(pavise::join(std::vector<std::string>{"fgsm", "bim", "pgd"}) == "fgsm, bim, pgd");
  CHECK(pavise::join(std::array<std::string_view, 2>{"a", "b"}, " or ") == "a or b");
  CHECK(pavise::join(std::vector<std::string>{}) == "");
  CHECK(pavise::join(std::vector<const char*>{"one"}) == "one");
}
