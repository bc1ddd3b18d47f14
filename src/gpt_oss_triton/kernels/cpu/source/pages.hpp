// The paged cache, kept in the order the products read it.
//
// Of each 16 consecutive slots (a page) one KV head holds
//   keys   [head_dim / 2][16 slots][2 dims]
//   values [8 pairs of slots][head_dim][2 slots]
#pragma once

#include "product.hpp"
#include "vectors.hpp"

constexpr int PAGE = 16;  // slots

struct AttentionShape {
  int heads, kv_heads, head_dim, block_size;
};

// One sequence's part of the batch: its tokens stand in rows [first, last) and have positions start, start + 1, …
struct Segment {
  int first, last, start;
  const int* blocks;

  int position(int row) const { return start + row - first; }
};

inline size_t page_words(const AttentionShape& s) { return static_cast<size_t>(PAGE) * s.head_dim; }  // of a KV head

inline uint16_t* page_of(const AttentionShape& s, const Segment& segment, int position, int kv_head, uint16_t* cache) {
  const int64_t slot = static_cast<int64_t>(segment.blocks[position / s.block_size]) * s.block_size + position % s.block_size;
  return cache + (slot / PAGE * s.kv_heads + kv_head) * page_words(s);
}

// x [head_dim] float32 rotated and rounded. The first half holds the first components of the pairs.
inline void rotate(const float* x, const float* cosine, const float* sine, int head_dim, uint16_t* out) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; i += LANES) {
    const __mmask16 some = _bzhi_u32(0xFFFF, std::min(LANES, half - i));
    const __m512 a = _mm512_maskz_loadu_ps(some, x + i), b = _mm512_maskz_loadu_ps(some, x + i + half);
    const __m512 c = _mm512_maskz_loadu_ps(some, cosine + i), d = _mm512_maskz_loadu_ps(some, sine + i);
    _mm256_mask_storeu_epi16(out + i, some, to_bf16(_mm512_fmsub_ps(a, c, _mm512_mul_ps(b, d))));
    _mm256_mask_storeu_epi16(out + i + half, some, to_bf16(_mm512_fmadd_ps(b, c, _mm512_mul_ps(a, d))));
  }
}

inline void store_key(const AttentionShape& s, const uint16_t* key, int slot, uint16_t* page) {
  const uint32_t* pairs = reinterpret_cast<const uint32_t*>(key);
  uint32_t* to = reinterpret_cast<uint32_t*>(page);
  for (int i = 0; i < s.head_dim / 2; ++i) to[i * PAGE + slot] = pairs[i];
}

inline void store_value(const AttentionShape& s, const float* value, int slot, uint16_t* page) {
  uint16_t* to = page + static_cast<size_t>(slot / 2) * s.head_dim * 2 + slot % 2;
  alignas(32) uint16_t rounded[16];
  for (int i = 0; i < s.head_dim; i += 16) {
    _mm256_store_si256((__m256i*)rounded, to_bf16(_mm512_loadu_ps(value + i)));
    for (int j = 0; j < 16; ++j) to[(i + j) * 2] = rounded[j];
  }
}
