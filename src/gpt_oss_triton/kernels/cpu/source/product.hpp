// The matrix product behind everything: a panel of rows times a tile of weight columns.
//
//   panel  [steps][rows] of 4 bytes: for each step the next two bfloat16 (or four 8-bit) inputs of every row
//   tile   [steps][32 columns] of 4 bytes: the same inputs' weights, 128 bytes a step, read once from front to back
//
// A row's sum is formed in the same order whichever rows share its panel, so results do not depend on the batch.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

constexpr int MAX_ROWS = 12;  // 12 rows x 2 vectors of sums, 2 of weights, 1 of inputs: 27 of the 32 registers
constexpr int COLUMNS = 32;   // of a tile
constexpr int LANES = 16;     // 4-byte lanes of a vector

struct Bf16 {  // 2 products a lane, summed in float32
  using Sum = __m512;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum dot(Sum sum, __m512i weights, __m512i inputs) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)inputs);
  }
};

struct Int8 {  // 4 products a lane of unsigned inputs and signed weights, summed in int32
  using Sum = __m512i;
  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum dot(Sum sum, __m512i weights, __m512i inputs) { return _mm512_dpbusd_epi32(sum, inputs, weights); }
};

// The sums of R rows and V vectors of columns, in registers.
template <class Type, int R, int V>
struct Sums {
  typename Type::Sum sum[R][V];

  __attribute__((always_inline)) void clear() {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = Type::zero();
  }

  // From and to [R][`row`] of 16 lanes.
  __attribute__((always_inline)) void load(const typename Type::Sum* from, ptrdiff_t row) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = from[r * row + v];
  }
  __attribute__((always_inline)) void store(typename Type::Sum* to, ptrdiff_t row) const {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) to[r * row + v] = sum[r][v];
  }

  // Weights of step s and vector v lie at weights[v] + s * stride. Inputs of step s and row r lie at
  // inputs[s * step + r * row]. With `Ahead`, the weights `ahead` bytes further on are called from memory meanwhile:
  // the processor's own prefetching ends with a page.
  template <bool Ahead>
  __attribute__((always_inline)) void add(const uint32_t* inputs, ptrdiff_t step, ptrdiff_t row,
                                          const uint8_t* const (&weights)[V], ptrdiff_t stride, int steps, ptrdiff_t ahead = 0) {
    for (int s = 0; s < steps; ++s) {
      __m512i w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        w[v] = _mm512_loadu_si512(weights[v] + s * stride);
        if (Ahead) _mm_prefetch((const char*)weights[v] + s * stride + ahead, _MM_HINT_T0);
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512i x = _mm512_set1_epi32(static_cast<int>(inputs[s * step + r * row]));
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[r][v] = Type::dot(sum[r][v], w[v], x);
      }
    }
  }
};

// Calls `body.template operator()<rows>()` with `rows` (1 … MAX_ROWS) as a constant.
template <class Body, int... N>
inline void with_rows(int rows, Body&& body, std::integer_sequence<int, N...>) {
  (void)((rows == N + 1 ? (body(std::integral_constant<int, N + 1>{}), true) : false) || ...);
}
template <class Body>
inline void with_rows(int rows, Body&& body) {
  with_rows(rows, body, std::make_integer_sequence<int, MAX_ROWS>{});
}

// sums [rows][32] = panel x tile. `ahead`: bytes to the tile that comes next, 0 when this one is not from memory.
template <class Type>
inline void panel_times_tile(const uint32_t* panel, int rows, const uint8_t* tile, int steps, typename Type::Sum* sums,
                             ptrdiff_t ahead) {
  with_rows(rows, [&](auto count) {
    constexpr int R = decltype(count)::value;
    const uint8_t* const weights[2] = {tile, tile + 64};
    Sums<Type, R, 2> own;
    own.clear();
    if (ahead) own.template add<true>(panel, R, 1, weights, 128, steps, ahead);
    else own.template add<false>(panel, R, 1, weights, 128, steps);
    own.store(sums, 2);
  });
}

// `count` rows cut into panels of nearly equal height.
struct Panels {
  explicit Panels(int count) : count(count), number((count + MAX_ROWS - 1) / MAX_ROWS) {}
  int first(int panel) const { return static_cast<int>(static_cast<int64_t>(count) * panel / number); }
  int rows(int panel) const { return first(panel + 1) - first(panel); }
  int count, number;
};
