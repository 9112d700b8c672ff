// SPDX-License-Identifier: MIT
#include "pavise/core/sha256.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

TEST_CASE("SHA-256 of FIPS 180-4's examples") {
  const auto sha = [](std::string_view text) { return pavise::Sha256().add(text.data(), text.size()); };
  CHECK(sha("").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").hex() ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha(std::string(1'000'000, 'a')).hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  const auto digest = sha("abc").digest();
  CHECK(digest[0] == 0xBA);
  CHECK(digest[31] == 0xAD);
}

}  // namespace
