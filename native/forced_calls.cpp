#include "forced_calls.h"

#include "chat-peg-parser.h"

#include <algorithm>
#include <map>
#include <set>
#include <variant>

namespace shimmy {

namespace {

constexpr const char * blank = R"("\n"{0,2})";  // in place of content: models part what they think from calls

using Builder = common_chat_peg_builder;

// The tags below a part of the syntax, and the rules and free texts (their names in the grammar) below its content.
class Parts {
  public:
    explicit Parts(const common_peg_arena & arena) : arena_(arena) { visit(arena.root(), false, false); }

    // Free texts that are content and nothing else.
    std::set<std::string> content() const {
        std::set<std::string> out;
        for (const std::string & name : in_content_) {
            if (elsewhere_.count(name) == 0) {
                out.insert(name);
            }
        }
        return out;
    }

    // Rules that are content with what stands around it.
    std::set<std::string> content_rules() {
        std::set<std::string> out;
        for (const auto & [name, id] : rules_) {
            std::set<std::string> tags;
            std::set<common_peg_parser_id> seen;
            collect_tags(id, tags, seen);
            if (tags.count(Builder::CONTENT) != 0 && tags.count(Builder::TOOL) == 0 && tags.count(Builder::REASONING) == 0) {
                out.insert(name);
            }
        }
        return out;
    }

  private:
    template <typename Then>
    void for_children(common_peg_parser_id id, Then && then) const {
        std::visit(
            [&](const auto & p) {
                using Parser = std::decay_t<decltype(p)>;
                if constexpr (std::is_same_v<Parser, common_peg_sequence_parser> ||
                              std::is_same_v<Parser, common_peg_choice_parser>) {
                    for (const common_peg_parser_id child : p.children) {
                        then(child);
                    }
                } else if constexpr (std::is_same_v<Parser, common_peg_ref_parser>) {
                    then(arena_.get_rule(p.name));
                } else if constexpr (std::is_same_v<Parser, common_peg_repetition_parser> ||
                                     std::is_same_v<Parser, common_peg_rule_parser> ||
                                     std::is_same_v<Parser, common_peg_tag_parser> ||
                                     std::is_same_v<Parser, common_peg_atomic_parser> ||
                                     std::is_same_v<Parser, common_peg_gbnf_parser> ||
                                     std::is_same_v<Parser, common_peg_ac_parser>) {
                    then(p.child);
                }
            },
            arena_.get(id));
    }

    void visit(common_peg_parser_id id, bool in_content, bool in_other) {
        if (!seen_.insert({id, 2 * static_cast<int>(in_content) + static_cast<int>(in_other)}).second) {
            return;
        }
        const common_peg_parser_variant & parser = arena_.get(id);
        if (const auto * tag = std::get_if<common_peg_tag_parser>(&parser)) {
            in_other = in_other || tag->tag == Builder::REASONING || tag->tag == Builder::TOOL;
            in_content = (in_content || tag->tag == Builder::CONTENT) && !in_other;
        } else if (const auto * rule = std::get_if<common_peg_rule_parser>(&parser)) {
            rules_.emplace(rule->name, id);
        } else if (std::holds_alternative<common_peg_until_parser>(parser)) {
            (in_content ? in_content_ : elsewhere_).insert("until-" + std::to_string(id));
        }
        for_children(id, [&](common_peg_parser_id child) { visit(child, in_content, in_other); });
    }

    void collect_tags(common_peg_parser_id id, std::set<std::string> & tags, std::set<common_peg_parser_id> & seen) const {
        if (!seen.insert(id).second) {
            return;
        }
        if (const auto * tag = std::get_if<common_peg_tag_parser>(&arena_.get(id))) {
            tags.insert(tag->tag);
        }
        for_children(id, [&](common_peg_parser_id child) { collect_tags(child, tags, seen); });
    }

    const common_peg_arena & arena_;
    std::set<std::pair<common_peg_parser_id, int>> seen_;
    std::set<std::string> in_content_;
    std::set<std::string> elsewhere_;
    std::map<std::string, common_peg_parser_id> rules_;
};

void replace_all(std::string & text, const std::string & from, const std::string & to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

// Calls that follow one another without end. Rules of single functions, which end with an alias, are no such.
void bound_repetition(std::string & text, const CallBounds & bounds) {
    const std::string more = std::to_string(max_forced_calls - 1);
    for (const std::string call : {")", " tool-call"}) {
        replace_all(text, call + "+", bounds.single ? call : call + "{1," + std::to_string(max_forced_calls) + "}");
        replace_all(text, call + "*", call + "{0," + (bounds.single ? "0" : more) + "}");
    }
}

bool is_of_calls(const std::string & rule) {
    for (const char * name : {"tool-call", "tool-calls", "tool-call-root", "kimi-k3-tool-call", "ling3-tool-call", "tools"}) {
        if (rule == name) {
            return true;
        }
    }
    return false;
}

}  // namespace

std::string bound_calls(std::string grammar, const common_peg_arena & parser, const CallBounds & bounds) {
    if (!bounds.forced && !bounds.single) {
        return grammar;
    }
    Parts parts(parser);
    const std::set<std::string> content = parts.content();
    const std::set<std::string> content_rules = parts.content_rules();
    // Calls in a list inside of calls in a row: one of the two is enough.
    const bool rows = grammar.find("\ntool-calls ::= (tool-call space)") != std::string::npos;
    const bool lists = grammar.find("\" space \"[\" space (tool-") != std::string::npos;
    const CallBounds inner{bounds.forced, bounds.single || (bounds.forced && rows && !lists)};
    const CallBounds outer{bounds.forced, bounds.single || (bounds.forced && rows && lists)};
    std::string out;
    for (size_t start = 0; start < grammar.size();) {
        const size_t end = std::min(grammar.find('\n', start), grammar.size());
        std::string line = grammar.substr(start, end - start);
        start = end + 1;
        const size_t arrow = line.find(" ::= ");
        if (arrow == std::string::npos) {
            out += line + '\n';
            continue;
        }
        const std::string name = line.substr(0, arrow);
        std::string text = line.substr(arrow + 5);
        if (bounds.forced && content.count(name) != 0) {
            text = blank;
        }
        for (const std::string & rule : content_rules) {
            if (bounds.forced) {
                replace_all(text, rule + " | ", "");
            }
        }
        if (is_of_calls(name)) {
            bound_repetition(text, name == "tool-call" ? inner : outer);
        }
        out += name + " ::= " + text + '\n';
    }
    return out;
}

}  // namespace shimmy
