// Names of functions while llama.cpp's common makes grammar and parser of them.
#pragma once

#include "chat.h"
#include "json.h"

#include <string>
#include <vector>

namespace shimmy {

// common names rules after functions, by their letters and digits alone: of "a.b" and "a_b" both would be the first, and "call" would
// be the rule of all calls. So it is given names that are only letters and digits, and what it made gets the real ones back.
class FunctionAliases {
  public:
    // Renames the functions of `tools`, a list as read_tools() gives it.
    explicit FunctionAliases(common_json & tools);

    // In the texts of grammar, parser and triggers; rules keep theirs.
    void put_back(common_chat_params & made) const;

  private:
    std::string restored(const std::string & text, bool escaped) const;
    std::string restored_in_strings(const std::string & grammar) const;

    std::vector<std::string> names_;
};

}  // namespace shimmy
