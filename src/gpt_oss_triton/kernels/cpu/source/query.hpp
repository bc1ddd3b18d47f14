// One query position of one KV head's group of heads, with a softmax kept online.
//
// It sees its keys in steps of 64 aligned positions. Only its own range decides which of a step's pages it looks at,
// so neither its chunk nor those that share its tile change a bit of the result.
#pragma once

#include <cmath>
#include <limits>

#include "pages.hpp"

constexpr int STEP_PAGES = 4;
constexpr int STEP_KEYS = PAGE * STEP_PAGES;
constexpr int MAX_VECTORS = 16;  // of a head

// The keys from position `first`, a multiple of STEP_KEYS, on. Pages that no query sees are not set.
struct Step {
  int first;
  const uint8_t *keys[STEP_PAGES], *values[STEP_PAGES];
};

// R heads. A key's weight is 2^(score - base), with the scale of the scores making up for 2 instead of e. After each step
// `sums` / `total` is the attention over the keys seen so far.
template <int R>
class Query {
 public:
  // `q`: a panel [head_dim / 2][R]. It sees the positions [low, high). `sums`: memory for R * vectors.
  // The sink is one more key without a value, and seen first.
  Query(const uint32_t* q, int vectors, int low, int high, const float* sinks, float scale, __m512* sums)
      : low(low), high(high), q(q), sums(sums), vectors(vectors), scale(scale * LOG2_E) {
    for (int i = 0; i < R * vectors; ++i) sums[i] = _mm512_setzero_ps();
    for (int r = 0; r < R; ++r) {
      base[r] = sinks[r] * LOG2_E;
      total[r] = _mm512_maskz_mov_ps(1, _mm512_set1_ps(1.0f));
    }
  }

  void see(const Step& step) {
    const int from = std::max(low - step.first, 0), to = std::min(high - step.first, STEP_KEYS);
    if (from == 0 && to == STEP_KEYS) see_all(step);
    else if (from < to) see_some(step, from, to);
  }

  void finish(float* out) const {  // [R][head_dim]
    for (int r = 0; r < R; ++r) {
      const __m512 inverse = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total[r]));
      for (int v = 0; v < vectors; ++v)
        _mm512_storeu_ps(out + (r * vectors + v) * LANES, _mm512_mul_ps(sums[r * vectors + v], inverse));
    }
  }

  const int low, high;

 private:
  static constexpr float LOG2_E = 1.44269504f, NONE = -std::numeric_limits<float>::infinity();

  // How far scores may exceed the base. Up to there a weight is as exact and no sum overflows, and to begin anew for
  // each slightly larger score would take longer.
  static constexpr float SLACK = 8.0f;

  // Of one step. Pages that the query does not look at are not set.
  struct Work {
    alignas(64) float scores[R][STEP_KEYS];
    alignas(64) uint16_t weights[R][STEP_KEYS];
  };

  void see_all(const Step& step) {
    Work work;
    score(step, 0, STEP_PAGES, work);
    add(step, 0, STEP_PAGES, work);
  }

  // Slots [from, to). Unseen ones of their pages hold what others left there, perhaps no numbers: their scores are
  // dropped, and their values cleared, since zero times no number is no number either.
  __attribute__((noinline)) void see_some(Step step, int from, int to) {
    const int first = from / PAGE, last = (to + PAGE - 1) / PAGE;
    Work work;
    alignas(64) uint8_t cleared[STEP_PAGES][PAGE * MAX_VECTORS * LANES * 2];
    score(step, first, last, work);
    for (int p = first; p < last; ++p) {
      const unsigned seen = _bzhi_u32(0xFFFF, std::min(to - p * PAGE, PAGE)) & ~_bzhi_u32(0xFFFF, std::max(from - p * PAGE, 0));
      if (seen == 0xFFFF) continue;
      for (int r = 0; r < R; ++r) _mm512_mask_store_ps(&work.scores[r][p * PAGE], ~seen, _mm512_set1_ps(NONE));
      clear_unseen(seen, step.values[p], cleared[p]);
      step.values[p] = cleared[p];
    }
    add(step, first, last, work);
  }

  void clear_unseen(unsigned seen, const uint8_t* page, uint8_t* cleared) const {
    for (int pair = 0; pair < PAGE / 2; ++pair, seen >>= 2) {
      const __m512i keep = _mm512_set1_epi32(static_cast<int>((seen & 1 ? 0xFFFFu : 0) | (seen & 2 ? 0xFFFF0000u : 0)));
      for (int v = 0; v < vectors; ++v, page += 64, cleared += 64)
        _mm512_store_si512(cleared, _mm512_and_si512(keep, _mm512_loadu_si512(page)));
    }
  }

  // Scores of the pages [first, last), yet to be scaled.
  __attribute__((always_inline)) void score(const Step& step, int first, int last, Work& work) const {
    int p = first;
    for (; p + 1 < last; p += 2) score_pages<2>({step.keys[p], step.keys[p + 1]}, &work.scores[0][p * PAGE]);
    if (p < last) score_pages<1>({step.keys[p]}, &work.scores[0][p * PAGE]);
  }

  template <int V>
  __attribute__((always_inline)) void score_pages(const uint8_t* const (&pages)[V], float* scores) const {
    Sums<Bf16, R, V> own;
    own.clear();
    own.template add<false>(q, R, 1, pages, 64, vectors * LANES / 2);
    own.store((__m512*)scores, STEP_PAGES);
  }

  // Weights and values of the pages [first, last), once scored.
  __attribute__((always_inline)) void add(const Step& step, int first, int last, Work& work) {
    keep_base(first, last, work);
    for (int r = 0; r < R; ++r) weigh(first, last, r, work);
    int v = 0;
    for (; v + 1 < vectors; v += 2) add_values<2>(step, first, last, v, work);
    if (v < vectors) add_values<1>(step, first, last, v, work);
  }

  // Raises the base where scores exceed it too far: in a query's first steps, hardly ever later.
  __attribute__((always_inline)) void keep_base(int first, int last, const Work& work) {
    __m512 tops[R];
    unsigned exceeded = 0;
    for (int r = 0; r < R; ++r) {
      tops[r] = _mm512_load_ps(&work.scores[r][first * PAGE]);
      for (int p = first + 1; p < last; ++p) tops[r] = _mm512_max_ps(tops[r], _mm512_load_ps(&work.scores[r][p * PAGE]));
      tops[r] = _mm512_mul_ps(tops[r], _mm512_set1_ps(scale));
      exceeded |= _mm512_cmp_ps_mask(tops[r], _mm512_set1_ps(base[r] + SLACK), _CMP_GT_OQ);
    }
    if (exceeded) raise_base(tops);
  }

  __attribute__((noinline)) void raise_base(const __m512 (&tops)[R]) {
    for (int r = 0; r < R; ++r) {
      const float top = _mm512_reduce_max_ps(tops[r]);
      if (!(top > base[r] + SLACK)) continue;
      const __m512 fade = _mm512_set1_ps(std::exp2(base[r] - top));
      base[r] = top;
      total[r] = _mm512_mul_ps(total[r], fade);
      for (int v = 0; v < vectors; ++v) sums[r * vectors + v] = _mm512_mul_ps(sums[r * vectors + v], fade);
    }
  }

  __attribute__((always_inline)) void weigh(int first, int last, int r, Work& work) {
    for (int p = first; p < last; ++p) {
      const __m512 scores = _mm512_load_ps(&work.scores[r][p * PAGE]);
      const __m512 weights = power_of_two(_mm512_fmsub_ps(scores, _mm512_set1_ps(scale), _mm512_set1_ps(base[r])));
      total[r] = _mm512_add_ps(total[r], weights);
      _mm256_store_si256((__m256i*)&work.weights[r][p * PAGE], to_bf16(weights));
    }
  }

  // Of the head's vectors v, v + 1, ….
  template <int V>
  __attribute__((always_inline)) void add_values(const Step& step, int first, int last, int v, const Work& work) {
    Sums<Bf16, R, V> own;
    own.load(sums + v, vectors);
    for (int p = first; p < last; ++p) {
      const uint8_t* columns[V];
      for (int i = 0; i < V; ++i) columns[i] = step.values[p] + (v + i) * 64;
      own.template add<false>((const uint32_t*)&work.weights[0][p * PAGE], 1, STEP_KEYS / 2, columns, vectors * 64, PAGE / 2);
    }
    own.store(sums + v, vectors);
  }

  const uint32_t* const q;
  __m512* const sums;
  const int vectors;
  const float scale;
  float base[R];
  __m512 total[R];  // in 16 parts
};
