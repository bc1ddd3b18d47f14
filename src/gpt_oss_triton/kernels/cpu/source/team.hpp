// The threads that compute a step together.
//
// Not OpenMP: between two of a step's operations Python needs a few microseconds, which is worth waiting for
// awake, and after a step the cores belong to the rest of the server. OpenMP's waiting knows only one policy.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

class Team {
 public:
  // The one team of this process, the caller included, held until the end of the caller's operation.
  class Turn {
   public:
    explicit Turn(int threads) : lock_(the_team().callers_), team(the_team()) { team.resize(threads); }

   private:
    static Team& the_team() {
      static Team* team = new Team();  // never destroyed: at exit its threads may still sleep in it
      return *team;
    }
    std::lock_guard<std::mutex> lock_;

   public:
    Team& team;
  };

  // `work(member)` on every member at once; returns when all are done.
  void run(const std::function<void(int)>& work) {
    next_.store(0, std::memory_order_relaxed);
    if (size_ > 1) {
      work_ = &work;
      pending_.store(size_ - 1, std::memory_order_relaxed);
      {
        std::lock_guard<std::mutex> lock(sleep_);
        generation_.fetch_add(1, std::memory_order_release);
      }
      if (sleepers_.load() > 0) wake_.notify_all();
    }
    work(0);
    wait_until([this] { return pending_.load(std::memory_order_acquire) == 0 || size_ == 1; });
  }

  // All members meet here; the counter behind `next` starts again.
  void barrier() {
    if (size_ == 1) {
      next_.store(0, std::memory_order_relaxed);
      return;
    }
    const unsigned round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      next_.store(0, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_release);
    } else {
      wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
    }
  }

  // The next piece of work that no member has taken since the last barrier.
  int next() { return next_.fetch_add(1, std::memory_order_relaxed); }

  int size() const { return size_; }

 private:
  // A core that waits longer than SPINS pauses (tens of microseconds) may be wanted by another process, and is offered
  // to it again and again. To be woken from sleep takes a good part of a millisecond on a virtual machine, so between
  // two operations or two steps nobody sleeps; after AWAKE the server is taken to be idle.
  static constexpr int SPINS = 2000;
  static constexpr std::chrono::microseconds AWAKE{2000};

  // Whether `done` came true, which it need not with a limit.
  template <class Condition>
  static bool wait_until(Condition done, bool limited = false) {
    for (int spins = 0; spins < SPINS; ++spins) {
      if (done()) return true;
      _mm_pause();
    }
    const auto end = std::chrono::steady_clock::now() + AWAKE;
    while (!done()) {
      if (limited && std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  void resize(int threads) {
    if (threads == size_) return;
    stop();
    size_ = threads;
    for (int member = 1; member < threads; ++member)
      workers_.emplace_back([this, member, seen = generation_.load()] { serve(member, seen); });
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(sleep_);
      work_ = nullptr;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

  void serve(int member, unsigned seen) {
    for (;;) {
      const auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
      if (!wait_until(called, true)) {
        std::unique_lock<std::mutex> lock(sleep_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, called);
        sleepers_.fetch_sub(1);
      }
      ++seen;
      if (work_ == nullptr) return;
      (*work_)(member);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  int size_ = 1;
  std::vector<std::thread> workers_;
  std::mutex callers_, sleep_;
  std::condition_variable wake_;
  const std::function<void(int)>* work_ = nullptr;
  alignas(64) std::atomic<unsigned> generation_{0};
  alignas(64) std::atomic<int> pending_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> round_{0};
  alignas(64) std::atomic<int> next_{0};
  std::atomic<int> sleepers_{0};
};

// Memory that keeps its size from call to call, aligned to cache lines.
template <class T>
class Scratch {
 public:
  T* get(size_t count) {
    if (count > capacity_) {
      capacity_ = count + count / 4;
      memory_.reset(static_cast<T*>(std::aligned_alloc(64, (capacity_ * sizeof(T) + 63) / 64 * 64)));
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> memory_;
  size_t capacity_ = 0;
};
