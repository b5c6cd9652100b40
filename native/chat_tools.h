// The tools of a chat request.
#pragma once

#include "json.h"
#include "kept.h"

#include <memory>
#include <string>

namespace shimmy {

// OpenAI's list, each with name, description and parameters as common_chat_tools_to_json_oaicompat writes them; NULL where there is
// none. From `known`, where it was read before. Throws Error(SHIMMY_E_INVALID, param "tools").
std::shared_ptr<const common_json> read_tools(const std::string & text, Kept<common_json> & known);

bool has_tool(const common_json & tools, const std::string & name);

// What grammar and parser are made of; not for prompts, which show tools as they were given. `function`: the one that must be called;
// empty: any. Where tools may be `called`, patterns and references are in the words of llama.cpp's converter; throws
// Error(SHIMMY_E_INVALID, param "tools") on a pattern that no grammar can be made of.
common_json tools_for_grammar(const common_json & tools, const std::string & function, bool called);

// Throws Error naming the first tool whose parameters llama.cpp's converter refuses.
void require_convertible(const common_json & tools);

}  // namespace shimmy
