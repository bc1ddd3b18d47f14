// Draws from softmax(logits / temperature) by inverting its cumulative sum in the vocabulary's order.
#pragma once

#include "team.hpp"
#include "vectors.hpp"

constexpr int STRETCH = 1024;  // logits whose probabilities are summed at once

// exp((logits - largest) / temperature) of up to 16 logits, 0 for the others.
inline __m512 weights_of(const float* logits, int count, float largest, float inverse_temperature) {
  const __mmask16 some = _bzhi_u32(0xFFFF, std::min(16, count));
  const __m512 below = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, logits), _mm512_set1_ps(largest));
  return _mm512_maskz_mov_ps(some, exponential(_mm512_mul_ps(below, _mm512_set1_ps(inverse_temperature))));
}

// One row: the first index at which the cumulative sum passes `uniform` (in [0, 1)) times the total.
inline int64_t draw_row(const float* logits, int count, float temperature, double uniform, std::vector<double>& sums) {
  __m512 top = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  int best = 0, i = 0;
  for (; i + 16 <= count; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(logits + i));
  float largest = _mm512_reduce_max_ps(top);
  for (; i < count; ++i) largest = std::max(largest, logits[i]);
  while (best + 1 < count && logits[best] != largest) ++best;

  sums.clear();
  double total = 0;
  for (int first = 0; first < count; first += STRETCH) {
    __m512 sum = _mm512_setzero_ps();
    for (int j = first; j < std::min(count, first + STRETCH); j += 16)
      sum = _mm512_add_ps(sum, weights_of(logits + j, count - j, largest, 1 / temperature));
    sums.push_back(_mm512_reduce_add_ps(sum));
    total += sums.back();
  }
  double left = uniform * total;
  size_t stretch = 0;
  while (stretch < sums.size() && left >= sums[stretch]) left -= sums[stretch++];
  for (int first = static_cast<int>(stretch) * STRETCH; first < std::min<int>(count, (stretch + 1) * STRETCH); first += 16) {
    alignas(64) float weights[16];
    _mm512_store_ps(weights, weights_of(logits + first, count - first, largest, 1 / temperature));
    for (int lane = 0; lane < 16; ++lane) {
      if (left < weights[lane]) return first + lane;
      left -= weights[lane];
    }
  }
  return best;  // rounding put the target past the end: then the likeliest will do
}

// logits [rows][count]; a row that holds what is no number gets any index.
inline void draw(Team& team, const float* logits, int rows, int count, const float* temperatures, const double* uniforms, int64_t* out) {
  team.run([&](int) {
    static thread_local std::vector<double> sums;
    for (int row; (row = team.next()) < rows;)
      out[row] = draw_row(logits + static_cast<size_t>(row) * count, count, temperatures[row], uniforms[row], sums);
  });
}
