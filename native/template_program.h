// A parsed template as shimmy renders it.
#pragma once

#include "jinja/runtime.h"

#include <string>

namespace shimmy {

// Changes the nodes of a parsed template to ones of ours (template_node.h), all within a single one. llama.cpp renders it as before.
void bound_program(jinja::program & program);

struct Texts {
    std::string closed;  // as `ctx` is
    std::string open;    // with add_generation_prompt set
};

// Both renders of a program that bound_program() has been over. What comes before the statement in which add_generation_prompt is
// first looked at is rendered once for both, where nothing in the rest changes values in place.
Texts render_both(const jinja::program & program, jinja::context & ctx);

}  // namespace shimmy
