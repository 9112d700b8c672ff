// SPDX-License-Identifier: MIT
#include "pavise/certify/sha256.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "pavise/nn/models.hpp"

namespace {

namespace pc = pavise::certify;

TEST_CASE("SHA-256 of FIPS 180-4's examples") {
  const auto hash = [](std::string_view text) { return pc::Sha256().add(text.data(), text.size()).hex(); };
  CHECK(hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hash(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  auto model = pavise::nn::lenet({.seed = 1});
  const std::string before = pc::model_hash(model);
  CHECK(before == pc::model_hash(pavise::nn::lenet({.seed = 1})));
  CHECK(before != pc::model_hash(pavise::nn::lenet({.seed = 2})));
  model.parameters().parameters().front().edit()[0] += 1.0f;
  CHECK(before != pc::model_hash(model));
}

}  // namespace
