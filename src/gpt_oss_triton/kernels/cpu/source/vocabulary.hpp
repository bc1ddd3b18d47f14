// The likeliest token of each row, exactly, at half the bytes: a screen in 8-bit integers leaves out all tokens that
// cannot be it, and the few that can are computed from the bfloat16 weights.
//
// A row of weights is w = s q + d with integers q in -127 … 127, an input x = t p + e likewise. Then
//   w·x = s t q·p + (w - d)·e + d·x,   so   |w·x - s t q·p| <= |w - d| |e| + |d| |x|   (Cauchy-Schwarz).
#pragma once

#include <cmath>

#include "linear.hpp"

// Per 32 columns: four bytes a step, and what the bound needs.
struct Screen {
  const uint8_t* tiles;      // [tiles][inputs / 4][32][4] int8
  const int32_t* offsets;    // [columns] -128 times the sum of q: inputs are stored plus 128
  const float* scales;       // [columns] s
  const float* lengths;      // [columns] |w - d|
  const float* errors;       // [columns] |d|
};

inline void pack_screen_tile(const uint16_t* weight, int inputs, int outputs, int tile, int8_t* tiles, int32_t* offsets,
                             float* scales, float* lengths, float* errors) {
  for (int c = 0; c < COLUMNS; ++c) {
    const int row = tile * COLUMNS + c;
    const uint16_t* w = weight + static_cast<size_t>(std::min(row, outputs - 1)) * inputs;
    float largest = 0;
    const auto value = [&](int k) {
      const uint32_t bits = static_cast<uint32_t>(w[k]) << 16;
      float v;
      std::memcpy(&v, &bits, 4);
      return v;
    };
    for (int k = 0; k < inputs; ++k) largest = std::max(largest, std::abs(value(k)));
    const float scale = largest > 0 ? largest / 127 : 1.0f;
    double length = 0, error = 0;
    int sum = 0;
    for (int k = 0; k < inputs; ++k) {
      const int q = static_cast<int>(std::lrint(value(k) / scale));
      tiles[((static_cast<size_t>(tile) * (inputs / 4) + k / 4) * COLUMNS + c) * 4 + k % 4] = static_cast<int8_t>(q);
      sum += q;
      length += static_cast<double>(q) * q * scale * scale;
      error += std::pow(value(k) - static_cast<double>(q) * scale, 2);
    }
    offsets[row] = -128 * sum;
    scales[row] = scale;
    lengths[row] = static_cast<float>(std::sqrt(length));
    errors[row] = static_cast<float>(std::sqrt(error));
  }
}

// The inputs of one row as the screen sees them.
struct Screened {
  float scale, length, error;  // t, |x|, |e|
  bool sound;                  // all numbers
};

inline Screened screen_row(const uint16_t* x, int inputs, uint8_t* out) {
  __m512 largest = _mm512_setzero_ps(), squares = largest, errors = largest;
  const __m512 sign = _mm512_set1_ps(-0.0f);
  for (int k = 0; k < inputs; k += 16) {
    const __m512 v = load_bf16(x + k);
    largest = _mm512_max_ps(largest, _mm512_andnot_ps(sign, v));
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  const float length = std::sqrt(_mm512_reduce_add_ps(squares)), top = _mm512_reduce_max_ps(largest);
  const float scale = top > 0 ? top / 127 : 1.0f;
  const __m512 inverse = _mm512_set1_ps(1 / scale);
  for (int k = 0; k < inputs; k += 16) {
    const __m512 v = load_bf16(x + k);
    __m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
    const __m512 e = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(p), _mm512_set1_ps(scale), v);
    errors = _mm512_fmadd_ps(e, e, errors);
    p = _mm512_add_epi32(p, _mm512_set1_epi32(128));
    _mm_storeu_si128((__m128i*)(out + k), _mm512_cvtepi32_epi8(p));
  }
  return {scale, length, std::sqrt(_mm512_reduce_add_ps(errors)), std::isfinite(length)};
}

// One logit from the bfloat16 tiles, summed in float32.
inline float exact_logit(const uint8_t* tiles, int steps, int column, const uint16_t* x) {
  const uint8_t* at = tiles + static_cast<size_t>(column / COLUMNS) * steps * 128 + column % COLUMNS * 4;
  const __m512i stride = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(128));
  __m512 sum = _mm512_setzero_ps();
  for (int s = 0; s < steps; s += 16)
    sum = Bf16::dot(sum, _mm512_i32gather_epi32(stride, at + static_cast<size_t>(s) * 128, 1), _mm512_loadu_si512(x + 2 * s));
  return _mm512_reduce_add_ps(sum);
}

struct Candidate {
  int column;
  float upper;
};

// x [rows][inputs] float32 -> the likeliest column of each row (of equals the first), -1 for one that is no numbers.
inline void likeliest(Team& team, const float* x, int rows, int inputs, const float* norm, float eps, const uint8_t* tiles,
                      const Screen& screen, int outputs, int64_t* out) {
  constexpr int TOGETHER = 8;  // tiles of a task
  static Scratch<uint16_t> rounded_memory;
  static Scratch<uint8_t> row_memory;
  static Scratch<uint32_t> panel_memory;
  static std::vector<Screened> screened;
  // Of each member and row: candidates so far, and a bound that the best logit reaches.
  static std::vector<std::vector<Candidate>> candidates;
  static std::vector<float> floors;
  const Panels panels(rows);
  const int steps = inputs / 4, count = tiles_of(outputs);
  uint16_t* rounded = rounded_memory.get(static_cast<size_t>(rows) * inputs);
  uint8_t* bytes = row_memory.get(static_cast<size_t>(rows) * inputs);
  uint32_t* inputs_panels = panel_memory.get(static_cast<size_t>(rows) * steps);
  screened.resize(rows);
  candidates.resize(static_cast<size_t>(team.size()) * rows);
  for (auto& list : candidates) list.clear();
  floors.assign(static_cast<size_t>(team.size()) * rows, -std::numeric_limits<float>::infinity());

  team.run([&](int member) {
    for (int p; (p = team.next()) < panels.number;)
      for (int r = 0; r < panels.rows(p); ++r) {
        const size_t row = panels.first(p) + r;
        round_row(x + row * inputs, norm, inputs, eps, rounded + row * inputs);
        screened[row] = screen_row(rounded + row * inputs, inputs, bytes + row * inputs);
        put_row(bytes + row * inputs, steps, r, panels.rows(p), inputs_panels + static_cast<size_t>(panels.first(p)) * steps);
      }
    team.barrier();

    alignas(64) int32_t sums[MAX_ROWS][COLUMNS];
    std::vector<Candidate>* own = &candidates[static_cast<size_t>(member) * rows];
    float* floor = &floors[static_cast<size_t>(member) * rows];
    for (int task; (task = team.next()) * TOGETHER < count;)
      for (int t = task * TOGETHER; t < std::min(count, (task + 1) * TOGETHER); ++t)
        for (int p = 0; p < panels.number; ++p) {
          panel_times_tile<Int8>(inputs_panels + static_cast<size_t>(panels.first(p)) * steps, panels.rows(p),
                                 screen.tiles + static_cast<size_t>(t) * steps * 128, steps, (__m512i*)sums,
                                 p == 0 ? steps * 128 : 0);
          for (int r = 0; r < panels.rows(p); ++r) {
            const int row = panels.first(p) + r;
            const Screened& s = screened[row];
            for (int v = 0; v < COLUMNS; v += LANES) {
              const int column = t * COLUMNS + v;
              const __m512i sum = _mm512_add_epi32(_mm512_load_si512(&sums[r][v]), _mm512_loadu_si512(screen.offsets + column));
              const __m512 about = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(screen.scales + column)), _mm512_set1_ps(s.scale));
              __m512 error = _mm512_mul_ps(_mm512_loadu_ps(screen.errors + column), _mm512_set1_ps(s.length));
              error = _mm512_fmadd_ps(_mm512_loadu_ps(screen.lengths + column), _mm512_set1_ps(s.error), error);
              error = _mm512_mul_ps(error, _mm512_set1_ps(1.0001f));  // the bound itself is rounded
              const __m512 upper = _mm512_add_ps(about, error);
              const __mmask16 real = _bzhi_u32(0xFFFF, std::max(0, std::min(LANES, outputs - column)));
              __mmask16 hit = _mm512_mask_cmp_ps_mask(real, upper, _mm512_set1_ps(floor[row]), _CMP_GE_OQ);
              if (!hit) continue;
              floor[row] = std::max(floor[row], _mm512_mask_reduce_max_ps(real, _mm512_sub_ps(about, error)));
              alignas(64) float uppers[LANES];
              _mm512_store_ps(uppers, upper);
              for (; hit; hit &= hit - 1) {
                const int lane = __builtin_ctz(hit);
                own[row].push_back({column + lane, uppers[lane]});
              }
            }
          }
        }
    team.barrier();

    for (int row; (row = team.next()) < rows;) {
      float bound = -std::numeric_limits<float>::infinity(), best = bound;
      for (int m = 0; m < team.size(); ++m) bound = std::max(bound, floors[static_cast<size_t>(m) * rows + row]);
      int64_t found = -1;
      for (int m = 0; m < team.size() && screened[row].sound; ++m)
        for (const Candidate& c : candidates[static_cast<size_t>(m) * rows + row]) {
          if (c.upper < bound) continue;
          const float logit = exact_logit(tiles, inputs / 2, c.column, rounded + static_cast<size_t>(row) * inputs);
          if (logit > best || (logit == best && c.column < found)) best = logit, found = c.column;
        }
      out[row] = std::isfinite(best) ? found : -1;
    }
  });
}
