#include "function_aliases.h"

#include <cctype>

namespace shimmy {

namespace {

// Letters that no schema has by chance; the number between them.
const std::string alias_start = "shimmyFn";
const std::string alias_end = "Zq";

std::string alias(size_t number) { return alias_start + std::to_string(number) + alias_end; }

std::string for_pattern(const std::string & name) {
    std::string out;
    for (const char c : name) {
        out += std::string(".^$|()*+?[]{}\\").find(c) == std::string::npos ? "" : "\\";
        out += c;
    }
    return out;
}

}  // namespace

FunctionAliases::FunctionAliases(common_json & tools) {
    for (common_json & tool : tools) {
        common_json & name = tool["function"]["name"];
        names_.push_back(name.get<std::string>());
        name = alias(names_.size() - 1);
    }
}

// `escaped`: for a regular expression.
std::string FunctionAliases::restored(const std::string & text, bool escaped) const {
    std::string out;
    size_t done = 0;
    for (size_t at = text.find(alias_start); at != std::string::npos; at = text.find(alias_start, done)) {
        size_t end = at + alias_start.size();
        size_t number = 0;
        for (; end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0 && number < names_.size(); ++end) {
            number = 10 * number + static_cast<size_t>(text[end] - '0');
        }
        out += text.substr(done, at - done);
        if (text.compare(end, alias_end.size(), alias_end) == 0 && number < names_.size()) {
            out += escaped ? for_pattern(names_[number]) : names_[number];
            end += alias_end.size();
        } else {
            out += text.substr(at, end - at);
        }
        done = end;
    }
    return out + text.substr(done);
}

// Inside of quotes alone: outside of them are names of rules. Names have neither quotes nor backslashes.
std::string FunctionAliases::restored_in_strings(const std::string & grammar) const {
    std::string out;
    size_t start = 0;
    bool quoted = false;
    bool in_class = false;
    for (size_t i = 0; i < grammar.size(); ++i) {
        const char c = grammar[i];
        if (c == '\\') {
            ++i;
        } else if (!quoted && (c == '[' || c == ']')) {
            in_class = c == '[';
        } else if (c == '"' && !in_class) {
            const std::string part = grammar.substr(start, i - start);
            out += quoted ? restored(part, false) : part;
            quoted = !quoted;
            start = i;
        }
    }
    return out + grammar.substr(start);
}

void FunctionAliases::put_back(common_chat_params & made) const {
    made.grammar = restored_in_strings(made.grammar);
    for (common_grammar_trigger & trigger : made.grammar_triggers) {
        const bool word = trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
        trigger.value = restored(trigger.value, !word);
    }
    if (made.parser.find(alias_start) == std::string::npos) {
        return;
    }
    common_json parser = common_json::parse(made.parser);
    for (common_json & part : parser["parsers"]) {
        if (part.contains("literal")) {
            part["literal"] = restored(part.at("literal").get<std::string>(), false);
        } else if (part.contains("delimiters")) {
            for (common_json & delimiter : part["delimiters"]) {
                delimiter = restored(delimiter.get<std::string>(), false);
            }
        }
    }
    made.parser = parser.dump();
}

}  // namespace shimmy
