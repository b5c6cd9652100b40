#include "chat_format.h"

#include "chat-peg-parser.h"
#include "json.h"

#include <algorithm>
#include <set>
#include <variant>

namespace shimmy {

namespace {

using Builder = common_chat_peg_builder;

const char * trigger_kind(common_grammar_trigger_type type) {
    switch (type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
            return "word";
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
            return "token";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
            return "pattern";
        default:
            return "pattern_full";
    }
}

std::string facts_of(const common_chat_params & made) {
    common_json out = common_json::object();
    out["stops"] = made.additional_stops;
    out["grammar"] = made.grammar;
    out["grammar_lazy"] = made.grammar_lazy;
    common_json triggers = common_json::array();
    for (const common_grammar_trigger & trigger : made.grammar_triggers) {
        common_json one = common_json::object();
        one["kind"] = trigger_kind(trigger.type);
        one["value"] = trigger.value;
        triggers.push_back(one);
    }
    out["triggers"] = triggers;
    out["preserved_tokens"] = made.preserved_tokens;
    out["thinking_start"] = made.thinking_start_tag;
    out["thinking_ends"] = made.thinking_end_tags;
    const std::string text = out.dump_safe();
    return text.substr(1, text.size() - 2);
}

// Whether a part of the answer only ends at a delimiter.
class Free {
  public:
    explicit Free(const common_peg_arena & arena) : arena_(arena) {}

    bool operator()(common_peg_parser_id id) {
        if (!seen_.insert(id).second) {
            return true;
        }
        return std::visit([this](const auto & parser) { return check(parser); }, arena_.get(id));
    }

  private:
    template <typename Parser>
    bool check(const Parser & p) {
        if constexpr (std::is_same_v<Parser, common_peg_sequence_parser> || std::is_same_v<Parser, common_peg_choice_parser>) {
            return std::all_of(p.children.begin(), p.children.end(), [this](auto child) { return (*this)(child); });
        } else if constexpr (std::is_same_v<Parser, common_peg_rule_parser> || std::is_same_v<Parser, common_peg_tag_parser> ||
                             std::is_same_v<Parser, common_peg_atomic_parser> ||
                             std::is_same_v<Parser, common_peg_repetition_parser>) {
            return (*this)(p.child);
        } else if constexpr (std::is_same_v<Parser, common_peg_ref_parser>) {
            return (*this)(arena_.get_rule(p.name));
        } else {
            return std::is_same_v<Parser, common_peg_until_parser> || std::is_same_v<Parser, common_peg_any_parser> ||
                   std::is_same_v<Parser, common_peg_not_parser> || std::is_same_v<Parser, common_peg_literal_parser> ||
                   std::is_same_v<Parser, common_peg_space_parser> || std::is_same_v<Parser, common_peg_epsilon_parser>;
        }
    }

    const common_peg_arena & arena_;
    std::set<common_peg_parser_id> seen_;
};

// Whether a rule or tag itself, not those in it, takes a class of characters.
bool is_narrow(const common_peg_arena & arena, common_peg_parser_id id) {
    const common_peg_parser_variant & parser = arena.get(id);
    const auto child_is = [&](common_peg_parser_id child) { return is_narrow(arena, child); };
    if (const auto * sequence = std::get_if<common_peg_sequence_parser>(&parser)) {
        return std::any_of(sequence->children.begin(), sequence->children.end(), child_is);
    }
    if (const auto * choice = std::get_if<common_peg_choice_parser>(&parser)) {
        return std::any_of(choice->children.begin(), choice->children.end(), child_is);
    }
    if (const auto * repetition = std::get_if<common_peg_repetition_parser>(&parser)) {
        return is_narrow(arena, repetition->child);
    }
    if (const auto * atomic = std::get_if<common_peg_atomic_parser>(&parser)) {
        return is_narrow(arena, atomic->child);
    }
    return std::holds_alternative<common_peg_chars_parser>(parser);
}

// Fixed words, which are put into `opening`, then all the rest as content.
bool is_plain(const common_peg_arena & arena, common_peg_parser_id id, bool & has_content, std::string & opening) {
    const common_peg_parser_variant & parser = arena.get(id);
    if (const auto * sequence = std::get_if<common_peg_sequence_parser>(&parser)) {
        return std::all_of(sequence->children.begin(), sequence->children.end(),
                           [&](auto child) { return is_plain(arena, child, has_content, opening); });
    }
    if (const auto * tag = std::get_if<common_peg_tag_parser>(&parser)) {
        const auto * rest = std::get_if<common_peg_until_parser>(&arena.get(tag->child));
        has_content = tag->tag == Builder::CONTENT && rest != nullptr && rest->delimiters.empty();
        return has_content;
    }
    if (const auto * literal = std::get_if<common_peg_literal_parser>(&parser)) {
        opening += literal->literal;
        return !has_content;
    }
    return std::holds_alternative<common_peg_epsilon_parser>(parser) ||
           std::holds_alternative<common_peg_end_parser>(parser);
}

}  // namespace

ChatFormat::ChatFormat(common_chat_params made) : kind(made.format), facts(facts_of(made)), plain(made.parser.empty()) {
    if (plain) {
        return;
    }
    arena.load(made.parser);
    std::set<std::string> ends;
    std::set<std::string> words;
    for (common_peg_parser_id id = 0; id < arena.size(); ++id) {
        const common_peg_parser_variant & parser = arena.get(id);
        if (const auto * until = std::get_if<common_peg_until_parser>(&parser)) {
            ends.insert(until->delimiters.begin(), until->delimiters.end());
        } else if (const auto * ac = std::get_if<common_peg_ac_parser>(&parser)) {
            ends.insert(ac->delimiters.begin(), ac->delimiters.end());
        } else if (const auto * literal = std::get_if<common_peg_literal_parser>(&parser)) {
            words.insert(literal->literal);
        } else if (const auto * tag = std::get_if<common_peg_tag_parser>(&parser)) {
            free_content &= tag->tag != Builder::CONTENT || Free(arena)(tag->child);
            free_reasoning &= tag->tag != Builder::REASONING || Free(arena)(tag->child);
            if (is_narrow(arena, tag->child)) {
                narrow.insert(tag->tag);
            }
        } else if (const auto * rule = std::get_if<common_peg_rule_parser>(&parser)) {
            if (is_narrow(arena, rule->child)) {
                narrow.insert(rule->name);
            }
        }
    }
    ends.erase("");
    delimiters.assign(ends.begin(), ends.end());
    words.insert(ends.begin(), ends.end());
    std::copy_if(words.begin(), words.end(), std::back_inserter(marks), [](const auto & word) { return word.size() > 1; });
    for (const std::string & end : delimiters) {
        starts_delimiter[static_cast<unsigned char>(end.front())] = true;
    }
    bool has_content = false;
    plain = is_plain(arena, arena.root(), has_content, plain_opening) && has_content;
}

}  // namespace shimmy
