// One parsed chat template, rendered with bounds.
#pragma once

#include "chat-auto-parser.h"
#include "chat.h"
#include "message_dialect.h"

#include <optional>
#include <string>

namespace shimmy {

struct Prompt {
    std::string text;
    std::string opening;  // what the template puts there to open the answer: the end of `text`
};

// Throws where a template nests too deep to be parsed, or oversteps the RenderBounds that live while it is rendered as llama.cpp
// does to learn what it can do (jinja::caps_get). That look has no bounds when llama.cpp takes it, so this one comes first.
void try_template(const std::string & source);

// A template of llama.cpp's with what its analysis taught, made once. Immutable after its construction.
class ChatTemplate {
  public:
    // Throws what parsing throws, and what rendering the probe conversations throws. `source` has passed try_template().
    ChatTemplate(const std::string & source, const std::string & bos, const std::string & eos);
    ChatTemplate(const ChatTemplate &) = delete;
    ChatTemplate & operator=(const ChatTemplate &) = delete;

    const jinja::caps & caps() const { return parsed_.caps; }
    const std::string & source() const { return parsed_.src; }

    // It shows no tools, or not how they are called: they are written into its messages (written_tools.h).
    bool lacks_tools() const { return lacks_tools_; }

    // The prompt for `params`, whose messages are already as the template wants them.
    Prompt render(const autoparser::generation_params & params) const;

    // Prompt, grammar and parser as common makes them: by the template's own handler, or from the analysis.
    common_chat_params apply(autoparser::generation_params params) const;

  private:
    std::string trimmed(std::string text, const autoparser::generation_params & params) const;
    Prompt render_direct(const autoparser::generation_params & params, Dialect dialect) const;
    void find_dialect();
    std::optional<std::string> direct_text(const autoparser::generation_params & params, Dialect dialect) const;
    std::optional<std::string> handler_text(const autoparser::generation_params & params) const;

    common_chat_template parsed_;
    bool lacks_tools_ = false;
    std::optional<autoparser::autoparser> analysis_;  // none: common has a handler for this template
    std::optional<Dialect> dialect_;                  // in which the template alone gives the handler's prompt; none: in none
};

}  // namespace shimmy
