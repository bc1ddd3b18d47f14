// Attention with sinks straight from the paged cache.
//
// The queries of a prompt go through the keys in tiles, so that a step of keys is fetched once for all of them.
#pragma once

#include <algorithm>
#include <vector>

#include "query.hpp"
#include "team.hpp"

constexpr int TILE = 16;       // queries at most: with sums of 2 KB each (8 heads of 64) they stay in the core's cache
constexpr int TASKS_EACH = 4;  // at least, for a thread, that the work is evenly shared

// See `attention`.
struct AttentionCall {
  const AttentionShape& shape;
  const float *qkv, *cosine, *sine;
  const Segment* segments;
  int segment_count;
  const int* asked;
  int asked_count, window;
  const float* sinks;
  float scale;
  uint16_t *keys, *values;
  float* out;

  const float* head(int row, int number) const {
    return qkv + (static_cast<size_t>(row) * (shape.heads + 2 * shape.kv_heads) + number) * shape.head_dim;
  }
  void rotate_head(int row, int number, uint16_t* rotated) const {
    const int half = shape.head_dim / 2;
    rotate(head(row, number), cosine + row * half, sine + row * half, shape.head_dim, rotated);
  }
  int first_seen(int position) const { return window > 0 ? std::max(0, position - window + 1) : 0; }
};

// Part of a segment: rows [first, last), or the `asked` ones of these numbers.
struct Part {
  const Segment* segment;
  int first, last;
};

// ------------------------------------------------------------------------------------------ writing

inline std::vector<Part> new_pages(const AttentionCall& call) {
  std::vector<Part> pages;
  for (int n = 0; n < call.segment_count; ++n) {
    const Segment& segment = call.segments[n];
    for (int first = segment.first, last; first < segment.last; first = last) {
      last = std::min(segment.last, first + PAGE - segment.position(first) % PAGE);
      pages.push_back({&segment, first, last});
    }
  }
  return pages;
}

inline void write_page(const AttentionCall& call, const Part& rows, int kv_head) {
  const AttentionShape& s = call.shape;
  const int position = rows.segment->position(rows.first);
  uint16_t* const keys = page_of(s, *rows.segment, position, kv_head, call.keys);
  uint16_t* const values = page_of(s, *rows.segment, position, kv_head, call.values);
  alignas(64) uint16_t rotated[MAX_VECTORS * LANES];
  for (int row = rows.first, slot = position % PAGE; row < rows.last; ++row, ++slot) {
    call.rotate_head(row, s.heads + kv_head, rotated);
    store_key(s, rotated, slot, keys);
    store_value(s, call.head(row, s.heads + s.kv_heads + kv_head), slot, values);
  }
}

// ------------------------------------------------------------------------------------------ attending

// The tiles of `asked`. Those with the most work come first, so that at the end nobody waits long for the others.
inline std::vector<Part> query_tiles(const AttentionCall& call, int threads) {
  const int most = std::clamp(call.asked_count * call.shape.kv_heads / (TASKS_EACH * threads), 1, TILE);
  std::vector<Part> tiles;
  for (int n = 0; n < call.asked_count; ++n) {
    const Segment* segment = std::upper_bound(call.segments, call.segments + call.segment_count, call.asked[n],
                                              [](int row, const Segment& s) { return row < s.last; });
    if (tiles.empty() || tiles.back().segment != segment || n - tiles.back().first == most) tiles.push_back({segment, n, n});
    ++tiles.back().last;
  }
  const auto work = [&](const Part& tile) {
    const int position = tile.segment->position(call.asked[tile.first]);
    return static_cast<int64_t>(position + 1 - call.first_seen(position)) * (tile.last - tile.first);
  };
  std::sort(tiles.begin(), tiles.end(), [&](const Part& a, const Part& b) { return work(a) > work(b); });
  return tiles;
}

// The pages of the step from position `first` on that lie in [low, high).
inline Step step_of(const AttentionCall& call, const Segment& segment, int kv_head, int first, int low, int high) {
  Step step{first, {}, {}};
  for (int p = std::max(low - first, 0) / PAGE; p < STEP_PAGES && first + p * PAGE < high; ++p) {
    step.keys[p] = (const uint8_t*)page_of(call.shape, segment, first + p * PAGE, kv_head, call.keys);
    step.values[p] = (const uint8_t*)page_of(call.shape, segment, first + p * PAGE, kv_head, call.values);
  }
  return step;
}

inline void call_from_memory(const Step& step, size_t page_bytes) {
  for (int p = 0; p < STEP_PAGES; ++p)
    for (size_t line = 0; line < page_bytes && step.keys[p]; line += 64) {
      _mm_prefetch((const char*)step.keys[p] + line, _MM_HINT_T0);
      _mm_prefetch((const char*)step.values[p] + line, _MM_HINT_T0);
    }
}

// The queries of a tile, each a group of R heads. Their panels and sums are the thread's until its next tile.
template <int R>
inline std::vector<Query<R>> queries_of(const AttentionCall& call, const Part& tile, int kv_head) {
  static thread_local Scratch<uint32_t> panels;
  static thread_local Scratch<float> memory;
  const int half = call.shape.head_dim / 2, vectors = call.shape.head_dim / LANES, count = tile.last - tile.first;
  uint32_t* panel = panels.get(static_cast<size_t>(count) * half * R);
  __m512* sums = (__m512*)memory.get(static_cast<size_t>(count) * call.shape.head_dim * R);
  alignas(64) uint16_t rotated[MAX_VECTORS * LANES];
  std::vector<Query<R>> queries;
  queries.reserve(count);
  for (int n = tile.first; n < tile.last; ++n, panel += half * R, sums += vectors * R) {
    const int row = call.asked[n], position = tile.segment->position(row);
    for (int r = 0; r < R; ++r) {
      call.rotate_head(row, kv_head * R + r, rotated);
      put_row(rotated, half, r, R, panel);
    }
    queries.emplace_back(panel, vectors, call.first_seen(position), position + 1, call.sinks + kv_head * R, call.scale, sums);
  }
  return queries;
}

template <int R>
inline void attend(const AttentionCall& call, const Part& tile, int kv_head) {
  std::vector<Query<R>> queries = queries_of<R>(call, tile, kv_head);
  int low = queries[0].low, high = queries[0].high;
  for (const Query<R>& query : queries) low = std::min(low, query.low), high = std::max(high, query.high);
  int first = low / STEP_KEYS * STEP_KEYS;
  for (Step step = step_of(call, *tile.segment, kv_head, first, low, high); first < high;) {
    const Step next = step_of(call, *tile.segment, kv_head, first += STEP_KEYS, low, high);
    call_from_memory(next, page_words(call.shape) * sizeof(uint16_t));
    for (Query<R>& query : queries) query.see(step);
    step = next;
  }
  for (int n = tile.first; n < tile.last; ++n)
    queries[n - tile.first].finish(call.out + (static_cast<size_t>(n) * call.shape.heads + kv_head * R) * call.shape.head_dim);
}

// qkv [rows][heads + 2 kv_heads][head_dim] float32, query, key and value heads; cosine and sine [rows][head_dim / 2].
// Writes all rows' keys and values, then attends for the `asked` rows -> out [asked][heads][head_dim] float32.
inline void attention(Team& team, const AttentionCall& call) {
  const int kv_heads = call.shape.kv_heads;
  const std::vector<Part> pages = new_pages(call), tiles = query_tiles(call, team.size());
  team.run([&](int) {
    for (int task; (task = team.next()) < static_cast<int>(pages.size()) * kv_heads;)
      write_page(call, pages[task / kv_heads], task % kv_heads);
    team.barrier();
    for (int task; (task = team.next()) < static_cast<int>(tiles.size()) * kv_heads;)
      with_rows(call.shape.heads / kv_heads, [&](auto group) {
        attend<decltype(group)::value>(call, tiles[task / kv_heads], task % kv_heads);
      });
  });
}
