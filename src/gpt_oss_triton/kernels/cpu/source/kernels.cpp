// What Python calls: see kernels/cpu/library.py, which declares the same functions.

#include <limits>

#include "attention.hpp"
#include "experts.hpp"
#include "linear.hpp"
#include "sampling.hpp"
#include "vocabulary.hpp"

extern "C" {

void pack_bf16(int threads, const uint16_t* weight, int inputs, int outputs, int interleaved, uint16_t* out) {
  Team::Turn turn(threads);
  turn.team.run([&](int) {
    for (int t; (t = turn.team.next()) < tiles_of(outputs);)
      pack_bf16_tile(
          weight, inputs, t,
          [&](int tile, int column) { return column_row(tile, column, outputs, interleaved); },
          out + static_cast<size_t>(t) * inputs * COLUMNS);
  });
}

void pack_mxfp4(int threads, const uint8_t* codes, const uint8_t* scales, int inputs, int outputs, int interleaved, uint8_t* out) {
  Team::Turn turn(threads);
  turn.team.run([&](int) {
    for (int t; (t = turn.team.next()) < tiles_of(outputs);) {
      int rows[COLUMNS];
      for (int c = 0; c < COLUMNS; ++c) rows[c] = column_row(t, c, outputs, interleaved);
      pack_mxfp4_tile(codes, scales, inputs, rows, out + static_cast<size_t>(t) * (inputs / MX_BLOCK) * MX_BYTES);
    }
  });
}

void pack_screen(int threads, const uint16_t* weight, int inputs, int outputs, int8_t* tiles, int32_t* offsets, float* scales,
                 float* lengths, float* errors) {
  Team::Turn turn(threads);
  turn.team.run([&](int) {
    for (int t; (t = turn.team.next()) < tiles_of(outputs);)
      pack_screen_tile(weight, inputs, outputs, t, tiles, offsets, scales, lengths, errors);
  });
}

void embed(int threads, const int64_t* tokens, int rows, const uint16_t* table, int hidden, float* out) {
  Team::Turn turn(threads);
  turn.team.run([&](int) {
    for (int row; (row = turn.team.next()) < rows;)
      for (int i = 0; i < hidden; i += LANES)
        _mm512_storeu_ps(out + static_cast<size_t>(row) * hidden + i, load_bf16(table + tokens[row] * hidden + i));
  });
}

void linear_layer(int threads, const float* x, int rows, int inputs, const float* norm, float eps, const uint8_t* tiles,
                  const float* bias, int outputs, float* out, int add) {
  Team::Turn turn(threads);
  linear(turn.team, x, rows, inputs, norm, eps, tiles, bias, outputs, out, add != 0);
}

void attention_layer(int threads, const AttentionShape* shape, const float* qkv, const float* cosine, const float* sine,
                     const int* spans, const int* blocks, int segment_count, const int* asked, int asked_count, int window,
                     const float* sinks, float scale, uint16_t* keys, uint16_t* values, float* out) {
  Team::Turn turn(threads);
  std::vector<Segment> segments;
  for (int n = 0; n < segment_count; ++n, spans += 4) segments.push_back({spans[0], spans[1], spans[2], blocks + spans[3]});
  attention(turn.team, {*shape, qkv, cosine, sine, segments.data(), segment_count, asked, asked_count, window, sinks, scale, keys,
                        values, out});
}

void mixture_layer(int threads, const Mixture* mixture_, float* x, int rows) {
  Team::Turn turn(threads);
  mixture(turn.team, *mixture_, x, rows);
}

void draw_tokens(int threads, const float* logits, int rows, int count, const Rule* rules, Drawn* out) {
  Team::Turn turn(threads);
  draw(turn.team, logits, rows, count, rules, out);
}

void forbid_tokens(float* logits, int count, const uint32_t* allowed) { forbid(logits, count, allowed); }

void likeliest_tokens(int threads, const float* x, int rows, int inputs, const float* norm, float eps, const uint8_t* tiles,
                      const Screen* screen, int outputs, int64_t* out) {
  Team::Turn turn(threads);
  likeliest(turn.team, x, rows, inputs, norm, eps, tiles, *screen, outputs, out);
}
}
