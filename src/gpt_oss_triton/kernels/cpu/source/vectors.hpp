// Small vector functions: bfloat16, exponential, norm.
#pragma once

#include <immintrin.h>

#include <cstdint>

inline __m512 load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}

inline __m256i to_bf16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

// e^x, relative error below 2e-7; 0 below -87 and for -inf. x <= 88.
inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);  // in this order, or NaN would be lost
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);  // minimax polynomial of Cephes' expf
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(p, n);
}

// 2^x, relative error below 3e-6; 0 for -inf.
inline __m512 power_of_two(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);  // x less its floor, by which scalef goes
  __m512 p = _mm512_set1_ps(1.353416792e-2f);                   // minimax polynomial of the relative error over [0, 1]
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.201146061e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.414427569e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.930038345e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.000002593f));
  return _mm512_scalef_ps(p, x);
}

// What rms_norm multiplies a row by, before the weight.
inline float inverse_rms(const float* x, int n, float eps) {
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < n; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  return 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / n + eps);
}

// A row [n] to bfloat16, normed when there is a `norm` [n].
inline void round_row(const float* x, const float* norm, int n, float eps, uint16_t* out) {
  const __m512 scale = _mm512_set1_ps(norm ? inverse_rms(x, n, eps) : 1.0f);
  for (int i = 0; i < n; i += 16) {
    __m512 v = _mm512_loadu_ps(x + i);
    if (norm) v = _mm512_mul_ps(_mm512_mul_ps(v, scale), _mm512_loadu_ps(norm + i));
    _mm256_storeu_si256((__m256i*)(out + i), to_bf16(v));
  }
}

// Row `r` of a panel of `rows`, from `steps` pairs of bfloat16 (or groups of four bytes).
inline void put_row(const void* row, int steps, int r, int rows, uint32_t* panel) {
  const uint32_t* from = static_cast<const uint32_t*>(row);
  for (int s = 0; s < steps; ++s) panel[static_cast<size_t>(s) * rows + r] = from[s];
}
