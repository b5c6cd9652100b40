// Bounds for chat templates, which have none of their own: a template may loop for ever or grow without end.
#pragma once

#include "jinja/runtime.h"

#include <chrono>
#include <cstddef>
#include <cstdint>

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

// Changes the nodes of a parsed template to ones that count. They do what llama.cpp's do (common/jinja/runtime.cpp); a name is looked up without its copy of all built-in functions, which was a
// quarter of a render's time.
void bound_program(jinja::program & program);

}  // namespace shimmy
