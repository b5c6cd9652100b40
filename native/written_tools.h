// Tools for models whose chat template knows none.
#pragma once

#include "chat-auto-parser.h"
#include "chat.h"
#include "json.h"

#include <vector>

namespace shimmy {

// Puts a conversation's tools, calls and results into plain messages, in the words of Hermes' and Qwen's templates: what many models
// have seen in training. `tools`: OpenAI's list; NULL: none are offered.
void write_tools(std::vector<common_chat_msg> & messages, const common_json * tools);

// How calls are written then.
void set_written_calls(autoparser::autoparser & analysis);

}  // namespace shimmy
