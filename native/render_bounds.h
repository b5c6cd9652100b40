// Bounds for chat templates, which have none of their own: a template may loop for ever or grow without end.
#pragma once

#include "jinja/runtime.h"

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace shimmy {

// While one lives, templates that bound_program() has been over and that this thread renders must end within `seconds`, and
// the strings they make must stay below a size; else rendering throws. Where one lives already, that one counts.
class RenderBounds {
  public:
    explicit RenderBounds(double seconds);
    ~RenderBounds();
    RenderBounds(const RenderBounds &) = delete;
    RenderBounds & operator=(const RenderBounds &) = delete;

  private:
    bool outer_;
};

// Changes the nodes of a parsed template to ones that count: names, loops, calls, filters and operators. They do what
// llama.cpp's do (common/jinja/runtime.cpp); a name is looked up without its copy of all built-in functions, which was a
// quarter of a render's time.
void bound_program(jinja::program & program);

}  // namespace shimmy
