// Mixture of experts: each expert's weights are read once a step, MXFP4 ones as they are packed.
#pragma once

#include <cmath>

#include "linear.hpp"

// An MXFP4 tile of 32 columns holds, for each block of 32 inputs,
//   codes  [2 halves of 16 columns][4][16 columns][2] words of four 4-bit codes: nibble i of word (j, column, odd) is
//          input 8 j + 2 i + odd, so one shift and one table look-up make a vector that a product can use
//   scales [32 columns] bytes
constexpr int MX_BLOCK = 32;
constexpr size_t MX_CODES = COLUMNS * MX_BLOCK / 2, MX_BYTES = MX_CODES + COLUMNS;

inline void pack_mxfp4_tile(const uint8_t* codes, const uint8_t* scales, int inputs, const int (&rows)[COLUMNS], uint8_t* out) {
  const int blocks = inputs / MX_BLOCK;
  for (int b = 0; b < blocks; ++b, out += MX_BYTES) {
    uint16_t* words = reinterpret_cast<uint16_t*>(out);
    for (int c = 0; c < COLUMNS; ++c) {
      const uint8_t* block = codes + (static_cast<size_t>(std::max(rows[c], 0)) * blocks + b) * (MX_BLOCK / 2);
      for (int j = 0; j < 4; ++j)
        for (int odd = 0; odd < 2; ++odd) {
          unsigned word = 0;
          for (int i = 0; i < 4; ++i) word |= static_cast<unsigned>(block[4 * j + i] >> (4 * odd) & 15) << (4 * i);
          words[((c / 16 * 4 + j) * 16 + c % 16) * 2 + odd] = rows[c] < 0 ? 0 : static_cast<uint16_t>(word);
        }
      out[MX_CODES + c] = rows[c] < 0 ? 127 : scales[static_cast<size_t>(rows[c]) * blocks + b];
    }
  }
}

// A tile's weights as bfloat16, exactly: E2M1 looked up, the scale added to its exponent. The packed weights `ahead`
// bytes further on are called from memory meanwhile.
inline void expand_mxfp4_tile(const uint8_t* packed, int inputs, uint8_t* tile, ptrdiff_t ahead) {
  alignas(64) static const uint16_t E2M1[32] = {
      0x0000, 0x3F00, 0x3F80, 0x3FC0, 0x4000, 0x4040, 0x4080, 0x40C0, 0x8000, 0xBF00, 0xBF80,
      0xBFC0, 0xC000, 0xC040, 0xC080, 0xC0C0,  // and again: a look-up uses five bits, of which the last is the next code's
      0x0000, 0x3F00, 0x3F80, 0x3FC0, 0x4000, 0x4040, 0x4080, 0x40C0, 0x8000, 0xBF00, 0xBF80,
      0xBFC0, 0xC000, 0xC040, 0xC080, 0xC0C0};
  const __m512i table = _mm512_load_si512(E2M1), number = _mm512_set1_epi16(0x7FFF);
  for (int b = 0; b < inputs / MX_BLOCK; ++b, packed += MX_BYTES, tile += MX_BLOCK / 2 * 128) {
    for (size_t line = 0; line <= MX_BYTES; line += 64) _mm_prefetch((const char*)packed + ahead + line, _MM_HINT_T0);
    for (int half = 0; half < 2; ++half) {
      const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(packed + MX_CODES + 16 * half)));
      __m512i power = _mm512_slli_epi32(_mm512_sub_epi32(bytes, _mm512_set1_epi32(127)), 7);
      power = _mm512_or_si512(_mm512_and_si512(power, _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32(power, 16));
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i words = _mm512_loadu_si512(packed + half * MX_CODES / 2 + j * 64);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m512i value = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4 * i), table);
          const __m512i scaled = _mm512_mask_add_epi16(value, _mm512_test_epi16_mask(value, number), value, power);
          _mm512_storeu_si512(tile + ((4 * j + i) * 2 + half) * 64, scaled);
        }
      }
    }
  }
}

// The weights of all experts in one of the two matrices.
struct ExpertMatrix {
  const uint8_t* packed;
  const float* bias;  // [experts][tiles * 32], in the columns' order
  int inputs, tiles;
  bool mxfp4;

  size_t tile_bytes() const { return mxfp4 ? inputs / MX_BLOCK * MX_BYTES : inputs / 2 * 128; }
  size_t scratch_bytes() const { return static_cast<size_t>(inputs) / 2 * 128; }

  // The tile in bfloat16, in `scratch` if it had to be expanded. `next` tiles on lies the caller's next one.
  const uint8_t* tile(int expert, int t, uint8_t* scratch, int next) const {
    const uint8_t* at = packed + (static_cast<size_t>(expert) * tiles + t) * tile_bytes();
    if (!mxfp4) return at;
    expand_mxfp4_tile(at, inputs, scratch, static_cast<ptrdiff_t>(next * tile_bytes()));
    return scratch;
  }
};

struct Mixture {
  int hidden, intermediate, experts, per_token;
  const float* norm;
  float eps;
  const float* router;  // [experts][hidden]
  const float* router_bias;
  ExpertMatrix gate_up;  // a tile's first 16 columns are gates, the others the same units' ups
  ExpertMatrix down;
  float alpha, limit;
};

struct Routed {
  int row;
  float share;
};

// The best experts of one token and their softmax, best first; of equals the first.
inline void route(const Mixture& m, const uint16_t* x, int* chosen, float* shares) {
  constexpr int MOST = 1024;
  alignas(64) float logits[MOST];
  for (int e = 0; e < m.experts; ++e) {
    __m512 sum = _mm512_setzero_ps();
    for (int k = 0; k < m.hidden; k += 16)
      sum = _mm512_fmadd_ps(load_bf16(x + k), _mm512_loadu_ps(m.router + static_cast<size_t>(e) * m.hidden + k), sum);
    logits[e] = _mm512_reduce_add_ps(sum) + m.router_bias[e];
  }
  float total = 0;
  for (int n = 0; n < m.per_token; ++n) {
    int best = 0;
    for (int e = 1; e < m.experts; ++e)
      if (logits[e] > logits[best]) best = e;
    chosen[n] = best;
    shares[n] = n == 0 ? logits[best] : std::exp(logits[best] - shares[0]);
    if (n > 0) total += shares[n];
    logits[best] = -std::numeric_limits<float>::infinity();
  }
  shares[0] = 1;
  for (int n = 0; n < m.per_token; ++n) shares[n] /= 1 + total;
}

// gate and up [rows][16 + 16] -> bfloat16 [rows][16] in the next product's panel, from step `step` on.
inline void swiglu(const Mixture& m, const float* sums, const float* bias, int rows, int step, uint32_t* panel) {
  const __m512 one = _mm512_set1_ps(1.0f), limit = _mm512_set1_ps(m.limit);
  for (int r = 0; r < rows; ++r) {
    __m512 gate = _mm512_add_ps(_mm512_loadu_ps(sums + r * COLUMNS), _mm512_loadu_ps(bias));
    __m512 up = _mm512_add_ps(_mm512_loadu_ps(sums + r * COLUMNS + 16), _mm512_loadu_ps(bias + 16));
    gate = _mm512_min_ps(limit, gate);
    up = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), _mm512_min_ps(limit, up));
    const __m512 opened = _mm512_div_ps(gate, _mm512_add_ps(one, exponential(_mm512_mul_ps(gate, _mm512_set1_ps(-m.alpha)))));
    alignas(32) uint32_t pairs[8];
    _mm256_store_si256((__m256i*)pairs, to_bf16(_mm512_mul_ps(_mm512_add_ps(up, one), opened)));
    for (int i = 0; i < 8; ++i) panel[static_cast<size_t>(step + i) * rows + r] = pairs[i];
  }
}

// x [rows][hidden] float32: what the experts make of its norm is added to it. Every row's experts are added in
// ascending order, whichever rows share the batch.
inline void mixture(Team& team, const Mixture& m, float* x, int rows) {
  static Scratch<uint16_t> normed_memory;
  static Scratch<uint32_t> outer_memory, inner_memory;
  static Scratch<int> chosen_memory;
  static Scratch<float> share_memory;
  static std::vector<std::vector<Routed>> by_expert;
  struct Panel {
    int expert, first, rows, offset;  // rows of its expert; rows before it in all panels
  };
  static std::vector<Panel> panels;
  static std::vector<int> first_panel;  // of each expert that has any, and the end
  const int picks = rows * m.per_token, hidden_steps = m.hidden / 2, inner_steps = m.intermediate / 2;
  uint16_t* normed = normed_memory.get(static_cast<size_t>(rows) * m.hidden);
  uint32_t* outer = outer_memory.get(static_cast<size_t>(picks) * hidden_steps);
  uint32_t* inner = inner_memory.get(static_cast<size_t>(picks) * inner_steps);
  int* chosen = chosen_memory.get(picks);
  float* shares = share_memory.get(picks);
  by_expert.resize(m.experts);

  team.run([&](int member) {
    static thread_local Scratch<uint8_t> tile_memory;
    uint8_t* scratch = tile_memory.get(std::max(m.gate_up.scratch_bytes(), m.down.scratch_bytes()));
    alignas(64) float sums[MAX_ROWS * COLUMNS];

    for (int row; (row = team.next()) < rows;) {
      uint16_t* own = normed + static_cast<size_t>(row) * m.hidden;
      round_row(x + static_cast<size_t>(row) * m.hidden, m.norm, m.hidden, m.eps, own);
      route(m, own, chosen + row * m.per_token, shares + row * m.per_token);
    }
    team.barrier();

    if (member == 0) {
      for (auto& list : by_expert) list.clear();
      for (int n = 0; n < picks; ++n) by_expert[chosen[n]].push_back({n / m.per_token, shares[n]});
      panels.clear();
      first_panel.clear();
      int offset = 0;
      for (int e = 0; e < m.experts; ++e) {
        if (by_expert[e].empty()) continue;
        first_panel.push_back(static_cast<int>(panels.size()));
        const Panels cut(static_cast<int>(by_expert[e].size()));
        for (int p = 0; p < cut.number; ++p) panels.push_back({e, cut.first(p), cut.rows(p), offset + cut.first(p)});
        offset += cut.count;
      }
      first_panel.push_back(static_cast<int>(panels.size()));
    }
    team.barrier();

    for (size_t n; (n = team.next()) < panels.size();) {
      const Panel& p = panels[n];
      for (int r = 0; r < p.rows; ++r)
        put_row(normed + static_cast<size_t>(by_expert[p.expert][p.first + r].row) * m.hidden, hidden_steps, r, p.rows,
                outer + static_cast<size_t>(p.offset) * hidden_steps);
    }
    team.barrier();

    const int active = static_cast<int>(first_panel.size()) - 1;
    for (int task; (task = team.next()) < active * m.gate_up.tiles;) {
      const int a = task / m.gate_up.tiles, t = task % m.gate_up.tiles, expert = panels[first_panel[a]].expert;
      const uint8_t* tile = m.gate_up.tile(expert, t, scratch, team.size());
      const float* bias = m.gate_up.bias + (static_cast<size_t>(expert) * m.gate_up.tiles + t) * COLUMNS;
      for (int n = first_panel[a]; n < first_panel[a + 1]; ++n) {
        const Panel& p = panels[n];
        panel_times_tile<Bf16>(outer + static_cast<size_t>(p.offset) * hidden_steps, p.rows, tile, hidden_steps, (__m512*)sums, 0);
        swiglu(m, sums, bias, p.rows, t * 8, inner + static_cast<size_t>(p.offset) * inner_steps);
      }
    }
    team.barrier();

    // One member adds all experts' results to its columns: no two write the same place.
    for (int t; (t = team.next()) < m.down.tiles;) {
      const int width = std::min(COLUMNS, m.hidden - t * COLUMNS);
      for (int a = 0; a < active; ++a) {
        const int expert = panels[first_panel[a]].expert;
        const uint8_t* tile = m.down.tile(expert, t, scratch, m.down.tiles);
        const float* bias = m.down.bias + (static_cast<size_t>(expert) * m.down.tiles + t) * COLUMNS;
        for (int n = first_panel[a]; n < first_panel[a + 1]; ++n) {
          const Panel& p = panels[n];
          panel_times_tile<Bf16>(inner + static_cast<size_t>(p.offset) * inner_steps, p.rows, tile, inner_steps, (__m512*)sums, 0);
          for (int r = 0; r < p.rows; ++r) {
            const Routed& routed = by_expert[expert][p.first + r];
            float* to = x + static_cast<size_t>(routed.row) * m.hidden + t * COLUMNS;
            for (int c = 0; c < width; ++c) to[c] += routed.share * (sums[r * COLUMNS + c] + bias[c]);
          }
        }
      }
    }
  });
}
