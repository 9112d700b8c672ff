// SPDX-License-Identifier: MIT
// Standard normals for dense arrays, which have no lanes: sixteen blocks of Philox side by side. Oracle: the scalar
// generator, tests/kernels/random_test.cpp.

/// Standard normals for a dense array: 64 values for every 16 blocks; value 16 j + i of a chunk is number j of block i.
/// `first_block` is a multiple of 16, n of 64.
template <class T>
void fill_normal(Tag, T* out, std::int64_t n, std::uint64_t seed, const std::uint32_t (&counter)[4],
                 std::uint32_t first_block) {
  using U = Pack<std::uint32_t, 16>;
  alignas(64) std::uint32_t index[16];
  for (std::uint32_t i = 0; i < 16; ++i) {
    index[i] = i;
  }
  for (std::int64_t at = 0; at < n; at += 64) {
    U c[4] = {U::load(index) + U::broadcast(first_block + static_cast<std::uint32_t>(at / 4)), U::broadcast(counter[1]),
              U::broadcast(counter[2]), U::broadcast(counter[3])};
    philox<16>(c, seed);
    Pack<float, 16> value[4];
    box_muller<16>(c[0], c[1], value[0], value[1]);
    box_muller<16>(c[2], c[3], value[2], value[3]);
    for (int i = 0; i < 4; ++i) {
      value[i].store_to(out + at + 16 * i);
    }
  }
}
