// One token of each row: the likeliest, or a draw from what the row's cuts leave of softmax(logits / temperature).
#pragma once

#include <cmath>
#include <limits>

#include "team.hpp"
#include "vectors.hpp"

constexpr int STRETCH = 1024;  // logits whose probabilities are summed at once
constexpr int MAX_TOP = 20;

// How a row is drawn. Temperature 0: the likeliest token, without cuts, its log-probabilities those of temperature 1.
struct Rule {
  double uniform;  // in [0, 1)
  float temperature, top_p, min_p;
  int top_k;  // 0: off
  int top;    // log-probabilities wanted beside the drawn token's; -1: none at all
};

struct Drawn {
  int64_t token;  // -1: the row holds what is no number
  double logprob;
  double top_logprobs[MAX_TOP];
  int64_t top_tokens[MAX_TOP];
  int64_t top_count;
};

// What is kept of a row: the logits above `threshold` and the first `ties` of those equal to it, unless their
// probability is below `floor` times the likeliest's.
struct Cut {
  float threshold = -std::numeric_limits<float>::infinity();
  int ties = std::numeric_limits<int>::max();
  float floor = 0;
  // The smaller of two sets of best logits: one holds the other.
  void narrow(const Cut& other) {
    if (other.threshold > threshold)
      threshold = other.threshold, ties = other.ties;
    else if (other.threshold == threshold)
      ties = std::min(ties, other.ties);
  }
};

inline __mmask16 lanes(int count) { return _bzhi_u32(0xFFFF, std::max(0, std::min(16, count))); }

// Of one row: logits relative to the largest, and what has been cut off.
class Row {
 public:
  Row(const float* logits, int count, float temperature)
      : logits_(logits), count_(count), inverse_(temperature > 0 ? 1 / temperature : 1.0f) {
    __m512 top = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    int i = 0;
    for (; i + 16 <= count; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(logits + i));
    largest_ = _mm512_reduce_max_ps(top);
    for (; i < count; ++i) largest_ = std::max(largest_, logits[i]);
    sum_up();
  }

  // No NaN and no infinity in it but -inf, which is a token that cannot be drawn.
  bool sound() const { return std::isfinite(largest_) && std::isfinite(total_); }

  int best() const {
    int at = 0;
    while (at + 1 < count_ && logits_[at] != largest_) ++at;
    return at;
  }

  void apply(const Rule& rule) {
    cut_.floor = rule.min_p;
    if (rule.top_k > 0 && rule.top_k < count_) {
      double mass = 0;
      cut_.narrow(find([&](int64_t kept, double) { return kept >= rule.top_k; },
                       [&](int64_t kept, double, double) { return static_cast<double>(rule.top_k - kept); }, &mass));
      if (rule.top_p < 1) cut_mass(rule.top_p * mass);
    } else if (rule.top_p < 1) {
      cut_mass(rule.top_p * total_);
    }
    sum_up();
  }

  // The first index at which the cumulative sum of what is kept passes `uniform` (in [0, 1)) times its total.
  int draw(double uniform) const {
    double left = uniform * total_;
    size_t stretch = 0;
    while (stretch < sums_.size() && left >= sums_[stretch].mass) left -= sums_[stretch++].mass;
    if (stretch == sums_.size()) return best();  // rounding put the target past the end: then the likeliest will do
    int ties = sums_[stretch].ties;
    const int first = static_cast<int>(stretch) * STRETCH;
    for (int i = first; i < std::min(count_, first + STRETCH); i += 16) {
      alignas(64) float weights[16];
      _mm512_store_ps(weights, kept_weights(i, ties));
      for (int lane = 0; lane < 16; ++lane) {
        if (left < weights[lane]) return i + lane;
        left -= weights[lane];
      }
    }
    return best();
  }

  double logprob(int64_t index) const {
    return static_cast<double>(logits_[index] - largest_) * inverse_ - std::log(total_);
  }

  // The `wanted` likeliest of those that can be drawn, best first.
  void list(int wanted, Drawn& out) const {
    Cut cut = find([&](int64_t kept, double) { return kept >= wanted; },
                   [&](int64_t kept, double, double) { return static_cast<double>(wanted - kept); });
    cut.floor = cut_.floor;
    cut.narrow(cut_);
    int ties = cut.ties;
    std::vector<int> found;
    for (int i = 0; i < count_; i += 16)
      for (__mmask16 some = kept(i, cut, ties); some; some &= some - 1) found.push_back(i + __builtin_ctz(some));
    std::sort(found.begin(), found.end(), [&](int a, int b) { return logits_[a] > logits_[b] || (logits_[a] == logits_[b] && a < b); });
    out.top_count = 0;
    for (int index : found) {
      if (out.top_count == wanted || logits_[index] == -std::numeric_limits<float>::infinity()) break;
      out.top_tokens[out.top_count] = index;
      out.top_logprobs[out.top_count++] = logprob(index);
    }
  }

 private:
  struct Stretch {
    double mass;
    int ties;  // that may still be kept where it begins
  };

  __m512 weights(__m512 logits) const {
    return exponential(_mm512_mul_ps(_mm512_sub_ps(logits, _mm512_set1_ps(largest_)), _mm512_set1_ps(inverse_)));
  }

  // Which of the 16 logits at `i` a cut keeps; takes those equal to its threshold off `ties`.
  __mmask16 kept(int i, const Cut& cut, int& ties) const {
    const __mmask16 some = lanes(count_ - i);
    const __m512 x = _mm512_maskz_loadu_ps(some, logits_ + i), threshold = _mm512_set1_ps(cut.threshold);
    __mmask16 keep = _mm512_mask_cmp_ps_mask(some, x, threshold, _CMP_NLE_UQ);  // NaN is kept: the sum must show it
    if (__mmask16 equal = _mm512_mask_cmp_ps_mask(some, x, threshold, _CMP_EQ_OQ)) {
      equal = _pdep_u32(_bzhi_u32(0xFFFF, std::min(16, ties)), equal);
      ties -= __builtin_popcount(equal);
      keep |= equal;
    }
    if (cut.floor > 0) keep = _mm512_mask_cmp_ps_mask(keep, weights(x), _mm512_set1_ps(cut.floor), _CMP_NLT_UQ);
    return keep;
  }

  // The weights of the 16 logits at `i`, 0 for those that are cut off.
  __m512 kept_weights(int i, int& ties) const {
    const __mmask16 keep = kept(i, cut_, ties);
    return _mm512_maskz_mov_ps(keep, weights(_mm512_maskz_loadu_ps(keep, logits_ + i)));
  }

  void sum_up() {
    sums_.clear();
    total_ = 0;
    int ties = cut_.ties;
    for (int first = 0; first < count_; first += STRETCH) {
      const int before = ties;
      __m512 sum = _mm512_setzero_ps();
      for (int i = first; i < std::min(count_, first + STRETCH); i += 16) sum = _mm512_add_ps(sum, kept_weights(i, ties));
      sums_.push_back({_mm512_reduce_add_ps(sum), before});
      total_ += sums_.back().mass;
    }
  }

  void cut_mass(double target) {
    cut_.narrow(find([&](int64_t, double mass) { return mass >= target; },
                     [&](int64_t, double mass, double each) { return each > 0 ? std::ceil((target - mass) / each) : 1e9; }));
  }

  // The smallest set of best logits that is `enough`, which is asked with a set's size and mass. Where a run of equal
  // logits makes the difference, `missing` says how many of them, given what is above them and the mass of each.
  //
  // Instead of a sort: whatever is in question is parted at the middle of its range, and one side drops out. Most
  // logits do so in the first pass or two. `mass`: of the set found.
  template <class Enough, class Missing>
  Cut find(Enough enough, Missing missing, double* mass = nullptr) const {
    float *open = scratch(0), *upper = scratch(1), *lower = scratch(2);
    int size = 0;
    for (int i = 0; i < count_; i += 16) {  // what cannot be drawn has no place in a range
      const __m512 x = _mm512_maskz_loadu_ps(lanes(count_ - i), logits_ + i);
      const __mmask16 finite = _mm512_mask_cmp_ps_mask(lanes(count_ - i), x, _mm512_set1_ps(-std::numeric_limits<float>::max()), _CMP_GE_OQ);
      _mm512_storeu_ps(open + size, _mm512_maskz_compress_ps(finite, x));
      size += __builtin_popcount(finite);
    }
    int64_t above = 0;
    double mass_above = 0;
    for (;;) {
      const auto [low, high] = range(open, size);
      if (low == high) {
        alignas(64) float each[16];
        _mm512_store_ps(each, weights(_mm512_set1_ps(low)));
        Cut cut;
        cut.threshold = low;
        cut.ties = static_cast<int>(std::max(1.0, std::min<double>(size, missing(above, mass_above, each[0]))));
        if (mass) *mass = mass_above + cut.ties * static_cast<double>(each[0]);
        return cut;
      }
      float pivot = low / 2 + high / 2;
      if (!(pivot > low && pivot <= high)) pivot = high;  // neighbours: nothing lies between them
      double part = 0;
      const int many = partition(open, size, pivot, upper, lower, &part);
      if (enough(above + many, mass_above + part)) {
        std::swap(open, upper);
        size = many;
      } else {
        above += many;
        mass_above += part;
        std::swap(open, lower);
        size -= many;
      }
    }
  }

  // Room for the row and a vector, kept from row to row.
  float* scratch(int which) const {
    static thread_local std::vector<float> memory[3];
    memory[which].resize(count_ + 16);
    return memory[which].data();
  }

  static std::pair<float, float> range(const float* x, int size) {
    __m512 low = _mm512_set1_ps(x[0]), high = low;
    for (int i = 0; i < size; i += 16) {
      const __mmask16 some = lanes(size - i);
      const __m512 v = _mm512_maskz_loadu_ps(some, x + i);
      low = _mm512_mask_min_ps(low, some, low, v);
      high = _mm512_mask_max_ps(high, some, high, v);
    }
    return {_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high)};
  }

  // Those of `x` that reach the pivot to `upper`, the others to `lower`; how many the first are, and their mass.
  int partition(const float* x, int size, float pivot, float* upper, float* lower, double* mass) const {
    int many = 0;
    for (int first = 0; first < size; first += STRETCH) {
      __m512 sum = _mm512_setzero_ps();
      for (int i = first; i < std::min(size, first + STRETCH); i += 16) {
        const __mmask16 some = lanes(size - i);
        const __m512 v = _mm512_maskz_loadu_ps(some, x + i);
        const __mmask16 over = _mm512_mask_cmp_ps_mask(some, v, _mm512_set1_ps(pivot), _CMP_GE_OQ);
        if (over) sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(over, weights(v)));
        _mm512_storeu_ps(upper + many, _mm512_maskz_compress_ps(over, v));
        _mm512_storeu_ps(lower + (i - many), _mm512_maskz_compress_ps(some & ~over, v));
        many += __builtin_popcount(over);
      }
      *mass += _mm512_reduce_add_ps(sum);
    }
    return many;
  }

  const float* logits_;
  const int count_;
  const float inverse_;
  float largest_;
  Cut cut_;
  double total_;
  std::vector<Stretch> sums_;
};

inline void draw_row(const float* logits, int count, const Rule& rule, Drawn& out) {
  Row row(logits, count, rule.temperature);
  out.token = -1;
  if (!row.sound()) return;
  const bool greedy = rule.temperature == 0;
  if (!greedy && (rule.top_k > 0 || rule.top_p < 1 || rule.min_p > 0)) row.apply(rule);
  out.token = greedy ? row.best() : row.draw(rule.uniform);
  if (rule.top >= 0) out.logprob = row.logprob(out.token);
  if (rule.top > 0) row.list(std::min(rule.top, MAX_TOP), out);
}

// logits [rows][count].
inline void draw(Team& team, const float* logits, int rows, int count, const Rule* rules, Drawn* out) {
  team.run([&](int) {
    for (int row; (row = team.next()) < rows;) draw_row(logits + static_cast<size_t>(row) * count, count, rules[row], out[row]);
  });
}

// -inf wherever `allowed` [ceil(count / 32)] has no bit.
inline void forbid(float* logits, int count, const uint32_t* allowed) {
  const __m512 never = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int i = 0; i < count; i += 16)
    _mm512_mask_storeu_ps(logits + i, lanes(count - i) & ~static_cast<__mmask16>(allowed[i / 32] >> (i % 32)), never);
}
