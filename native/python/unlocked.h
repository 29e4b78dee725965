// Code that runs without Python's lock.
#pragma once

#include <Python.h>

#include <chrono>
#include <thread>

namespace paretrim {

// While it lives, other Python threads may run.
//
// Unlike nanobind's own class it survives the end of the interpreter: a thread that wants the lock back then is ended by Python
// through an exception that may cross no destructor and no `catch` of C++ (the program would abort). Such a thread stays here
// instead, as threads of Python 3.14 do, until the process is gone.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() { lock_again(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

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

}  // namespace paretrim
