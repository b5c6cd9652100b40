// Repeated steps whose tokens go straight into a frame for the front end.
//
// After a decode of a whole model Python's own code and data are out of the caches, and the little that it does for a plain token
// (unpack, append, decode, make an event, encode it) was measured at 25 us a token. Here it is under one; Python only sends the frame.
#pragma once

#include "shimmy.h"

#include <string>
#include <vector>

namespace shimmy {

class Stream {
  public:
    // Begins with the runs of a steady step. Throws Error on a count that is out of its range.
    void begin(const shimmy_stream_run * runs, int32_t n_runs);
    void end() { open_ = false; }
    bool is_open(size_t n_runs) const { return open_ && runs_.size() == n_runs; }

    // Takes a step's tokens. False, and closed: one of them is more than plain text that goes on, nothing of the step is kept.
    bool add(const std::vector<int32_t> & drawn, const std::string & pieces);

    // The frame of the last step, with its length in front; empty where no token had text.
    const std::string & frame() const { return frame_; }
    const std::vector<int32_t> & tokens() const { return tokens_; }  // [steps][n_runs] since begin()

  private:
    bool open_ = false;
    std::vector<shimmy_stream_run> runs_;
    std::vector<int32_t> tokens_;
    std::string frame_;
};

// Whether `text` is whole characters of strict UTF-8: what any decoder makes the same text of.
bool is_utf8(const char * text, size_t size);

}  // namespace shimmy
