// Bounds for chat templates, which have none of their own: a template may loop for ever or grow without end.
#pragma once

#include "jinja/value.h"

#include <cstddef>

namespace shimmy {

// While one lives, templates that bound_program() has been over and that this thread renders must end within `seconds`, and
// the strings they make must stay below a size, and so must the depth of what they go into; else rendering throws. Where one lives
// already, that one counts.
class RenderBounds {
  public:
    explicit RenderBounds(double seconds);
    ~RenderBounds();
    RenderBounds(const RenderBounds &) = delete;
    RenderBounds & operator=(const RenderBounds &) = delete;

    // Throws where one that lives was overrun: llama.cpp's look at a template (common/jinja/caps.cpp) goes on as if it had failed.
    static void require_unspent();

  private:
    bool outer_;
};

// What the nodes of a template ask of the bounds that live on this thread. Where none does, nothing is refused.

// A node within another one.
class Step {
  public:
    Step();
    ~Step();
    Step(const Step &) = delete;
    Step & operator=(const Step &) = delete;
};

void tick();                                // one step of a render
void charge(size_t bytes);                  // of text that is made or shown
void charge_value(const jinja::value & v);  // its text, or the length of its list
void require_size(size_t bytes);            // of one string that would be made
void require_range(double numbers);         // of one range()

}  // namespace shimmy
