// out = norm(x) · Wᵀ + b, with W packed once into tiles.
#pragma once

#include "product.hpp"
#include "team.hpp"
#include "vectors.hpp"

inline int tiles_of(int outputs) { return (outputs + COLUMNS - 1) / COLUMNS; }

// Which row of the weights a tile's column holds, -1 past the last. `interleaved`: the rows are gate, up, gate, up, …
// and a tile takes 16 gates, then the same units' ups.
inline int column_row(int tile, int column, int outputs, bool interleaved) {
  const int row = tile * COLUMNS + (interleaved ? column % 16 * 2 + column / 16 : column);
  return row < outputs ? row : -1;
}

// From `weight` [outputs][inputs] to tiles [outputs / 32][inputs / 2][32][2]; `row_of` is
// `column_row`.
template <class RowOf>
inline void pack_bf16_tile(const uint16_t* weight, int inputs, int tile, RowOf row_of, uint16_t* out) {
  for (int c = 0; c < COLUMNS; ++c) {
    const int row = row_of(tile, c);
    for (int k = 0; k < inputs; ++k)
      out[(static_cast<size_t>(k / 2) * COLUMNS + c) * 2 + k % 2] = row < 0 ? 0 : weight[static_cast<size_t>(row) * inputs + k];
  }
}

// x [rows][inputs] float32 as panels, normed when there is a `norm`.
inline void make_panels(Team& team, const float* x, int inputs, const float* norm, float eps, const Panels& panels, uint32_t* out) {
  static thread_local Scratch<uint16_t> rounded;
  uint16_t* row = rounded.get(inputs);
  for (int p; (p = team.next()) < panels.number;) {
    const int first = panels.first(p), rows = panels.rows(p);
    for (int r = 0; r < rows; ++r) {
      round_row(x + static_cast<size_t>(first + r) * inputs, norm, inputs, eps, row);
      put_row(row, inputs / 2, r, rows, out + static_cast<size_t>(first) * inputs / 2);
    }
  }
}

// out [rows][outputs] float32, added to what it holds when `add`.
inline void linear(Team& team, const float* x, int rows, int inputs, const float* norm, float eps, const uint8_t* tiles,
                   const float* bias, int outputs, float* out, bool add) {
  static Scratch<uint32_t> memory;
  uint32_t* inputs_panels = memory.get(static_cast<size_t>(rows) * inputs / 2);
  const Panels panels(rows);
  const int steps = inputs / 2;
  const ptrdiff_t tile_bytes = static_cast<ptrdiff_t>(steps) * 128;
  team.run([&](int) {
    make_panels(team, x, inputs, norm, eps, panels, inputs_panels);
    team.barrier();
    alignas(64) float sums[MAX_ROWS][COLUMNS];
    for (int t; (t = team.next()) < tiles_of(outputs);) {
      const int width = std::min(COLUMNS, outputs - t * COLUMNS);
      for (int p = 0; p < panels.number; ++p) {
        const int first = panels.first(p), count = panels.rows(p);
        panel_times_tile<Bf16>(inputs_panels + static_cast<size_t>(first) * steps, count,
                               tiles + static_cast<size_t>(t) * tile_bytes, steps, (__m512*)sums,
                               p == 0 ? tile_bytes * team.size() : 0);
        for (int r = 0; r < count; ++r) {
          float* to = out + static_cast<size_t>(first + r) * outputs + t * COLUMNS;
          for (int c = 0; c < width; ++c) {
            const float value = sums[r][c] + (bias ? bias[t * COLUMNS + c] : 0.0f);
            to[c] = add ? to[c] + value : value;
          }
        }
      }
    }
  });
}
