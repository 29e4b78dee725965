// Code that runs without Python's lock.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "types/poll.h"

namespace paretrim {

// While it lives, other Python threads may run.
//
// Unlike nanobind's own class it survives the end of the interpreter: a thread that wants the lock back then is ended by Python
// through an exception that may cross no destructor and no `catch` of C++ (the program would abort). Such a thread stays here
// instead, as threads of Python 3.14 do, until the process is gone.
class LockRelease {
 public:
  LockRelease() : state_(PyEval_SaveThread()) {}
  ~LockRelease() { lock_again(); }
  LockRelease(const LockRelease&) = delete;
  LockRelease& operator=(const LockRelease&) = delete;

  // Runs work() with the lock held.
  template <typename Work>
  void locked(const Work& work) {
    lock_again();
    work();
    state_ = PyEval_SaveThread();
  }

 private:
  void lock_again() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

  PyThreadState* state_;
};

// Runs work(poll) without Python's lock. Where a signal's handler raises (Ctrl-C), the work ends at its next poll and what was
// raised goes on. Handlers run in the main thread of Python alone.
template <typename Work>
auto interruptible(const Work& work) {
  struct Interruption {};
  std::atomic<bool> stopped{false};
  {
    LockRelease release;
    const auto own = std::this_thread::get_id();
    auto next = std::chrono::steady_clock::now();
    const Poll poll = [&] {
      if (std::this_thread::get_id() == own && std::chrono::steady_clock::now() >= next) {
        release.locked([&] { stopped = PyErr_CheckSignals() != 0; });
        next = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
      }
      if (stopped) throw Interruption();
    };
    try {
      return work(poll);
    } catch (...) {
      if (!stopped) throw;
    }
  }
  throw nanobind::python_error();
}

}  // namespace paretrim
