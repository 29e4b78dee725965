// Running native code without the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "types/poll.h"

namespace paretrim {

// Releases the GIL for its lifetime, so that other Python threads can run.
//
// Unlike nanobind's gil_scoped_release, this survives interpreter shutdown. Python then ends a thread that wants the GIL back by
// unwinding it, and the unwinding aborts the program at the first C++ destructor or `catch`. Such a thread blocks here until the
// process exits instead, as threads do in Python 3.14.
class LockRelease {
 public:
  LockRelease() : state_(PyEval_SaveThread()) {}
  ~LockRelease() { lock_again(); }
  LockRelease(const LockRelease&) = delete;
  LockRelease& operator=(const LockRelease&) = delete;

  // Runs work() with the GIL held.
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

// Holds the GIL for its lifetime, in a thread that may be none of Python's. Like LockRelease, it survives interpreter shutdown.
class LockHold {
 public:
  LockHold() : state_(held()) {}
  ~LockHold() { PyGILState_Release(state_); }
  LockHold(const LockHold&) = delete;
  LockHold& operator=(const LockHold&) = delete;

 private:
  static PyGILState_STATE held() {
    try {
      return PyGILState_Ensure();
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

  PyGILState_STATE state_;
};

// Runs work(poll) without the GIL. If a signal handler raises (Ctrl-C), the work stops at its next poll and the Python exception
// propagates. Handlers run only in Python's main thread.
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
