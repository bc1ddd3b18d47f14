// Attention with sinks straight from the paged cache.
//
// The cache is kept in the order the products read it. Of each 16 consecutive slots (a page) one KV head holds
//   keys   [head_dim / 2][16 slots][2 dims]
//   values [8 pairs of slots][head_dim][2 slots]
// A query sees its keys in steps of 64 aligned positions, whatever chunk it came in, so how a prompt was cut and
// who shares the batch changes no bit of the result.
#pragma once

#include <cmath>
#include <limits>

#include "product.hpp"
#include "team.hpp"
#include "vectors.hpp"

constexpr int PAGE = 16;       // slots
constexpr int STEP_PAGES = 4;  // of a step
constexpr int STEP_KEYS = PAGE * STEP_PAGES;

struct AttentionShape {
  int heads, kv_heads, head_dim, block_size;
};

// One sequence's part of the batch: its tokens stand in rows [first, last) and have positions start, start + 1, …
struct Segment {
  int first, last, start;
  const int* blocks;
};

inline size_t page_words(const AttentionShape& s) { return static_cast<size_t>(PAGE) * s.head_dim; }  // of a KV head

inline void call_from_memory(const void* at, size_t bytes) {
  for (size_t line = 0; line < bytes; line += 64) _mm_prefetch((const char*)at + line, _MM_HINT_T0);
}

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

// One query position of one KV head's group of R heads, softmax kept online: after each step `sums` / `total` is the
// attention over the keys seen so far.
template <int R>
struct Query {
  static constexpr float NONE = -std::numeric_limits<float>::infinity();
  static constexpr int MAX_VECTORS = 16;

  // The keys of one step: whole pages, of which the query sees [low, high).
  struct Step {
    int first, pages, low, high;
    const uint8_t *keys[STEP_PAGES], *values[STEP_PAGES];

    __mmask16 seen(int page) const {
      const int begin = first + page * PAGE;
      return _bzhi_u32(0xFFFF, std::clamp(high - begin, 0, PAGE)) & ~_bzhi_u32(0xFFFF, std::clamp(low - begin, 0, PAGE));
    }
  };

  // The sink is one more key without a value, and seen first.
  Query(int head_dim, const float* sinks) : vectors(head_dim / LANES) {
    for (int i = 0; i < R * vectors; ++i) sums[i] = _mm512_setzero_ps();
    for (int r = 0; r < R; ++r) largest[r] = sinks[r], total[r] = 1.0f;
  }

  // `q`: a panel [head_dim / 2][R].
  void see(const Step& step, const uint32_t* q, float scale) {
    score(step, q);
    for (int r = 0; r < R; ++r) weigh(step, r, scale);
    for (int p = 0; p < step.pages; ++p) add_values(step, p);
  }

  void finish(float* out) const {  // [R][head_dim]
    for (int i = 0; i < R * vectors; ++i)
      _mm512_storeu_ps(out + i * LANES, _mm512_mul_ps(sums[i], _mm512_set1_ps(1.0f / total[i / vectors])));
  }

 private:
  void score(const Step& step, const uint32_t* q) {
    const int pairs = vectors * LANES / 2;
    int p = 0;
    for (; p + 1 < step.pages; p += 2) {
      const uint8_t* const two[2] = {step.keys[p], step.keys[p + 1]};
      multiply<Bf16, R, 2, false>(q, R, 1, two, 64, pairs, (__m512*)&scores[0][p * PAGE], STEP_PAGES, false);
    }
    if (p < step.pages) {
      const uint8_t* const one[1] = {step.keys[p]};
      multiply<Bf16, R, 1, false>(q, R, 1, one, 64, pairs, (__m512*)&scores[0][p * PAGE], STEP_PAGES, false);
    }
  }

  void weigh(const Step& step, int r, float scale) {
    __m512 score[STEP_PAGES], top = _mm512_set1_ps(NONE);
    for (int p = 0; p < step.pages; ++p) {
      score[p] = _mm512_mask_mul_ps(_mm512_set1_ps(NONE), step.seen(p), _mm512_load_ps(&scores[r][p * PAGE]), _mm512_set1_ps(scale));
      top = _mm512_max_ps(top, score[p]);
    }
    const float now = std::max(largest[r], _mm512_reduce_max_ps(top));
    __m512 sum = _mm512_setzero_ps();
    for (int p = 0; p < step.pages; ++p) {
      const __m512 weight = exponential(_mm512_sub_ps(score[p], _mm512_set1_ps(now)));
      sum = _mm512_add_ps(sum, weight);
      _mm256_store_si256((__m256i*)&weights[r][p * PAGE], to_bf16(weight));
    }
    if (now > largest[r]) {
      const float fade = std::exp(largest[r] - now);
      total[r] *= fade;
      largest[r] = now;
      for (int v = 0; v < vectors; ++v) sums[r * vectors + v] = _mm512_mul_ps(sums[r * vectors + v], _mm512_set1_ps(fade));
    }
    total[r] += _mm512_reduce_add_ps(sum);
  }

  void add_values(const Step& step, int p) {
    const uint32_t* pairs = (const uint32_t*)&weights[0][p * PAGE];
    const uint8_t* page = step.values[p];
    alignas(64) uint8_t clean[PAGE * MAX_VECTORS * LANES * 2];
    if (const __mmask16 seen = step.seen(p); seen != 0xFFFF) {
      keep_seen(seen, page, clean);
      page = clean;
    }
    int v = 0;
    for (; v + 1 < vectors; v += 2) {
      const uint8_t* const two[2] = {page + v * 64, page + v * 64 + 64};
      multiply<Bf16, R, 2, false>(pairs, 1, STEP_KEYS / 2, two, vectors * 64, PAGE / 2, sums + v, vectors, true);
    }
    if (v < vectors) {
      const uint8_t* const one[1] = {page + v * 64};
      multiply<Bf16, R, 1, false>(pairs, 1, STEP_KEYS / 2, one, vectors * 64, PAGE / 2, sums + v, vectors, true);
    }
  }

  // Unseen slots hold what others left there, perhaps no numbers, and zero times that is no number either.
  void keep_seen(unsigned seen, const uint8_t* page, uint8_t* clean) const {
    for (int pair = 0; pair < PAGE / 2; ++pair, seen >>= 2) {
      const __m512i keep = _mm512_set1_epi32(static_cast<int>((seen & 1 ? 0xFFFFu : 0) | (seen & 2 ? 0xFFFF0000u : 0)));
      for (int v = 0; v < vectors; ++v, page += 64, clean += 64)
        _mm512_store_si512(clean, _mm512_and_si512(keep, _mm512_loadu_si512(page)));
    }
  }

  const int vectors;
  alignas(64) __m512 sums[R * MAX_VECTORS];
  alignas(64) float scores[R][STEP_KEYS];
  alignas(64) uint16_t weights[R][STEP_KEYS];
  float largest[R], total[R];
};

// A query, a panel [head_dim / 2][R], over the keys at positions [low, high) -> out [R][head_dim] float32.
template <int R>
inline void attend(const AttentionShape& s, const Segment& segment, int kv_head, const uint32_t* q, int low, int high,
                   uint16_t* keys, uint16_t* values, const float* sinks, float scale, float* out) {
  Query<R> query(s.head_dim, sinks);
  for (int begin = low / STEP_KEYS * STEP_KEYS; begin < high; begin += STEP_KEYS) {
    typename Query<R>::Step step;
    step.first = std::max(low, begin) / PAGE * PAGE;
    step.low = low;
    step.high = std::min(high, begin + STEP_KEYS);
    step.pages = (step.high - step.first + PAGE - 1) / PAGE;
    for (int p = 0; p < step.pages; ++p) {
      step.keys[p] = (const uint8_t*)page_of(s, segment, step.first + p * PAGE, kv_head, keys);
      step.values[p] = (const uint8_t*)page_of(s, segment, step.first + p * PAGE, kv_head, values);
    }
    for (int next = begin + STEP_KEYS; next < std::min(high, begin + 2 * STEP_KEYS); next += PAGE) {
      call_from_memory(page_of(s, segment, next, kv_head, keys), page_words(s) * 2);
      call_from_memory(page_of(s, segment, next, kv_head, values), page_words(s) * 2);
    }
    query.see(step, q, scale);
  }
  query.finish(out);
}

// qkv [rows][heads + 2 kv_heads][head_dim] float32, query, key and value heads; cosine and sine [rows][head_dim / 2].
// Writes all rows' keys and values, then attends for the `asked` rows -> out [asked][heads][head_dim] float32.
inline void attention(Team& team, const AttentionShape& s, const float* qkv, const float* cosine, const float* sine,
                      const Segment* segments, int segment_count, const int* asked, int asked_count, int window,
                      const float* sinks, float scale, uint16_t* keys, uint16_t* values, float* out) {
  const int group = s.heads / s.kv_heads, half = s.head_dim / 2, all_heads = s.heads + 2 * s.kv_heads;
  const int rows = segments[segment_count - 1].last;
  static std::vector<int> owner;
  owner.resize(rows);
  for (int n = 0; n < segment_count; ++n) std::fill(owner.begin() + segments[n].first, owner.begin() + segments[n].last, n);
  // Consecutive queries of one KV head stay together: in a prompt they read the same keys.
  const int together = std::clamp(asked_count / (4 * team.size()), 1, 16), runs = (asked_count + together - 1) / together;
  team.run([&](int) {
    alignas(64) uint16_t rotated[256];
    for (int row; (row = team.next()) < rows;) {
      const Segment& segment = segments[owner[row]];
      const int position = segment.start + row - segment.first;
      const float* own = qkv + static_cast<size_t>(row) * all_heads * s.head_dim;
      for (int h = 0; h < s.kv_heads; ++h) {
        rotate(own + (s.heads + h) * s.head_dim, cosine + row * half, sine + row * half, s.head_dim, rotated);
        store_key(s, rotated, position % PAGE, page_of(s, segment, position, h, keys));
        store_value(s, own + (s.heads + s.kv_heads + h) * s.head_dim, position % PAGE, page_of(s, segment, position, h, values));
      }
    }
    team.barrier();
    alignas(64) uint32_t q[MAX_ROWS * 128];
    for (int task; (task = team.next()) < runs * s.kv_heads;) {
      const int h = task % s.kv_heads, first = task / s.kv_heads * together;
      for (int n = first; n < std::min(first + together, asked_count); ++n) {
        const int row = asked[n];
        const Segment& segment = segments[owner[row]];
        const int position = segment.start + row - segment.first;
        const float* own = qkv + (static_cast<size_t>(row) * all_heads + h * group) * s.head_dim;
        for (int r = 0; r < group; ++r) {
          rotate(own + r * s.head_dim, cosine + row * half, sine + row * half, s.head_dim, rotated);
          put_row(rotated, half, r, group, q);
        }
        const int low = window > 0 ? std::max(0, position - window + 1) : 0;
        with_rows(group, [&](auto count) {
          attend<decltype(count)::value>(s, segment, h, q, low, position + 1, keys, values, sinks + h * group, scale,
                                               out + (static_cast<size_t>(n) * s.heads + h * group) * s.head_dim);
        });
      }
    }
  });
}
