#include "answer_parser.h"

#include "chat-peg-parser.h"
#include "json.h"

#include <algorithm>
#include <cctype>
#include <random>
#include <utility>

namespace shimmy {

namespace {

constexpr uint64_t parse_credit = 32;             // bytes parsed for each byte of an answer, at most
constexpr uint64_t first_credit = uint64_t{1} << 16;
constexpr int max_depth = 256;                    // of brackets: common's parsers recurse
// Plain text for every syntax; the backslash shows whether it is taken as it is, or escaped.
const std::string probe_text = "Qz\\tQz";
const std::string probe_escaped = "Qz\\\\tQz";

bool starts_with(const std::string & text, const std::string & start) { return text.compare(0, start.size(), start) == 0; }

bool take_end(std::string & text, const std::string & end) {
    if (text.size() < end.size() || text.compare(text.size() - end.size(), end.size(), end) != 0) {
        return false;
    }
    text.erase(text.size() - end.size());
    return true;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\n\r") == std::string_view::npos; }

std::string escaped(const std::string & text) {
    const std::string quoted = common_json(text).dump();
    return quoted.substr(1, quoted.size() - 2);
}

// As llama-server makes the ids that a model does not write itself.
std::string new_call_id() {
    static constexpr char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    thread_local std::mt19937_64 random{std::random_device{}()};
    std::uniform_int_distribution<size_t> letter(0, sizeof letters - 2);
    std::string id(32, ' ');
    std::generate(id.begin(), id.end(), [&] { return letters[letter(random)]; });
    return id;
}

std::unique_ptr<common_chat_peg_mapper> mapper_for(common_chat_format kind, common_chat_msg & message) {
    switch (kind) {
        case COMMON_CHAT_FORMAT_PEG_GEMMA4:
            return std::make_unique<common_chat_peg_gemma4_mapper>(message);
        case COMMON_CHAT_FORMAT_PEG_MINIMAX_M3:
            return std::make_unique<common_chat_peg_minimax_m3_mapper>(message);
        default:
            return std::make_unique<common_chat_peg_mapper>(message);
    }
}

}  // namespace

// What common_chat_peg_parse makes of a text that may go on.
struct AnswerParser::Parse {
    bool ok = false;
    size_t end = 0;         // where it departs from the format, when not ok
    common_chat_msg message;
    size_t leaf_start = 0;  // the innermost part of the syntax at the end of the text
    size_t leaf_end = 0;
    std::string leaf_name;  // its rule and its tag
    bool narrow = false;    // that part does not take every text
};

AnswerParser::Parse AnswerParser::parse(const std::string & text) const {
    work_ += text.size();
    common_peg_parse_context ctx(text, COMMON_PEG_PARSE_FLAG_LENIENT);
    const common_peg_parse_result result = format_->arena.parse(ctx);
    Parse out;
    out.ok = !result.fail();
    out.end = result.end;
    out.message.role = "assistant";
    if (out.ok) {
        mapper_for(format_->kind, out.message)->from_ast(ctx.ast, result);
        const std::vector<common_peg_ast_id> * nodes = &result.nodes;
        while (!nodes->empty()) {
            const common_peg_ast_node & node = ctx.ast.get(nodes->back());
            out.leaf_start = node.start;
            out.leaf_end = node.end;
            out.leaf_name = node.rule + '\n' + node.tag;
            out.narrow = format_->narrow.count(node.rule) != 0 || format_->narrow.count(node.tag) != 0;
            nodes = &node.children;
        }
    }
    return out;
}

AnswerParser::AnswerParser(std::shared_ptr<const ChatFormat> format, std::string opening, bool continued)
    : format_(std::move(format)), input_(std::move(opening)), opening_(input_.size()), passed_(opening_), credit_(first_credit) {
    sent_.role = "assistant";
    credit_ += 4 * input_.size();
    if (continued && !too_deep()) {
        Parse parsed = parse(input_);
        if (parsed.ok) {
            before_ = sent_ = std::move(parsed.message);
        }
    }
}

ChatDelta AnswerParser::feed(std::string_view text) {
    ChatDelta delta;
    input_ += text;
    credit_ += parse_credit * text.size();
    if (mode_ != Mode::none) {
        pass(delta);
    }
    if (mode_ == Mode::none && passed_ < input_.size()) {
        parse_again(delta);
        if (mode_ != Mode::none) {
            pass(delta);
        }
    }
    return delta;
}

ChatDelta AnswerParser::finish() {
    ChatDelta delta;
    mode_ = Mode::none;
    if (too_deep()) {
        give_rest(passed_, delta);
        return delta;
    }
    const Parse parsed = parse(input_);
    if (parsed.ok) {
        parsed_ = true;
        give_new(parsed.message, true, delta);
        if (!begins_mark(parsed.end)) {
            give_rest(parsed.end, delta);  // some syntaxes end before the text does, and leave the rest to nobody
        }
        return delta;
    }
    const Parse good = parse(input_.substr(0, parsed.end));
    if (good.ok) {
        give_new(good.message, true, delta);
    }
    give_rest(parsed.end, delta);
    return delta;
}

common_chat_msg AnswerParser::message() const {
    common_chat_msg out = sent_;
    out.content.erase(0, before_.content.size());
    out.reasoning_content.erase(0, before_.reasoning_content.size());
    return out;
}

// The text from where it departs from the format is content; blanks after the last part are nothing.
void AnswerParser::give_rest(size_t parsed_end, ChatDelta & delta) {
    const bool nothing = sent_ == before_;
    const size_t from = nothing ? opening_ : std::max({parsed_end, passed_, opening_});
    const std::string rest = input_.substr(std::min(from, input_.size()));
    parsed_ = is_blank(rest) && !nothing;
    if (!parsed_) {
        give(Field::content, rest, delta);
    }
}

bool AnswerParser::too_deep() {
    for (; counted_ < input_.size() && !deep_; ++counted_) {
        const char c = input_[counted_];
        depth_ += c == '{' || c == '[';
        depth_ = std::max(0, depth_ - (c == '}' || c == ']'));
        deep_ = depth_ > max_depth;
    }
    return deep_;
}

void AnswerParser::parse_again(ChatDelta & delta) {
    const size_t cut = ambiguous_from();
    if (cut <= passed_ || 2 * cut > credit_ || too_deep()) {
        return;
    }
    credit_ -= cut;
    const Parse parsed = parse(input_.substr(0, cut));
    if (parsed.ok && !open_field(cut, parsed, delta)) {
        give_new(parsed.message, false, delta);
    }
}

// Whether the innermost part of the syntax at `cut`, where `found` is what was parsed, goes on when plain text follows, and
// lengthens one field: then the same is true of all plain text.
bool AnswerParser::open_field(size_t cut, const Parse & found, ChatDelta & delta) {
    if (found.leaf_end != cut || found.leaf_start >= cut || found.narrow) {
        return false;
    }
    credit_ -= cut;
    const std::string text = input_.substr(0, cut) + probe_text;
    Parse probed = parse(text);
    if (!probed.ok || probed.leaf_end != text.size() || probed.leaf_start != found.leaf_start ||
        probed.leaf_name != found.leaf_name || probed.narrow ||
        !take_probe(probed.message)) {
        mode_ = Mode::none;
        return false;
    }
    const common_chat_msg & now = probed.message;
    give_new(now, false, delta);
    const bool in_step = sent_.content == now.content && sent_.reasoning_content == now.reasoning_content &&
                         sent_.tool_calls.size() == now.tool_calls.size() &&
                         (now.tool_calls.empty() || sent_.tool_calls.back().arguments == now.tool_calls.back().arguments);
    if (in_step) {
        passed_ = cut;
    } else {
        mode_ = Mode::none;
    }
    return true;
}

// Takes the probe off the field that got it and says which one that was, and how it took it.
bool AnswerParser::take_probe(common_chat_msg & probed) {
    if (!probed.tool_calls.empty()) {
        field_ = Field::arguments;
        std::string & arguments = probed.tool_calls.back().arguments;
        mode_ = take_end(arguments, probe_escaped) ? Mode::escaped
                : take_end(arguments, probe_text)  ? Mode::json_string
                                                   : Mode::none;
        if (mode_ != Mode::none) {
            return true;
        }
    }
    if (take_end(probed.content, probe_text)) {
        field_ = Field::content;
        mode_ = format_->free_content ? Mode::verbatim : Mode::json_string;
        return true;
    }
    if (take_end(probed.reasoning_content, probe_text)) {
        field_ = Field::reasoning;
        mode_ = format_->free_reasoning ? Mode::verbatim : Mode::json_string;
        return !is_blank(probed.reasoning_content);  // common drops reasoning that is only blanks
    }
    return false;
}

// Gives the field what is plain text now.
void AnswerParser::pass(ChatDelta & delta) {
    bool ended = false;
    size_t end = pass_end(ended);
    while (field_ == Field::arguments && end > passed_ && std::isspace(static_cast<unsigned char>(input_[end - 1])) != 0) {
        --end;  // common drops blanks at the end of unfinished arguments
    }
    if (end > passed_) {
        const std::string text = input_.substr(passed_, end - passed_);
        give(field_, mode_ == Mode::escaped ? escaped(text) : text, delta);
        passed_ = end;
        counted_ = std::max(counted_, end);
    }
    if (ended) {
        mode_ = Mode::none;
    }
}

size_t AnswerParser::pass_end(bool & ended) const {
    size_t at = passed_;
    while (at < input_.size()) {
        const char c = input_[at];
        if (format_->starts_delimiter[static_cast<unsigned char>(c)] && at_delimiter(at, ended)) {
            return at;
        }
        if (mode_ == Mode::json_string && c == '\\') {
            const size_t next = after_escape(at, ended);
            if (next == at) {
                return at;
            }
            at = next;
            continue;
        }
        if (mode_ == Mode::json_string && (c == '"' || c == '\'')) {
            ended = true;
            return at;
        }
        ++at;
    }
    return at;
}

// Whether a delimiter is at `at`, or may be once more text is there; `whole`: it is.
bool AnswerParser::at_delimiter(size_t at, bool & whole) const {
    bool begins = false;
    for (const std::string & delimiter : format_->delimiters) {
        const size_t n = std::min(delimiter.size(), input_.size() - at);
        if (input_.compare(at, n, delimiter, 0, n) == 0) {
            begins = true;
            whole |= n == delimiter.size();
        }
    }
    return begins;
}

// Whether all that follows `at` is the beginning of a fixed word of the syntax, at which the answer was cut off.
bool AnswerParser::begins_mark(size_t at) const {
    at = std::min(input_.find_first_not_of(" \t\n\r", at), input_.size());
    const size_t n = input_.size() - at;
    return std::any_of(format_->marks.begin(), format_->marks.end(), [&](const std::string & mark) {
        return n < mark.size() && input_.compare(at, n, mark, 0, n) == 0;
    });
}

// The end of the JSON escape at `at`; `at` itself where it is not whole yet, or none (`ended`).
size_t AnswerParser::after_escape(size_t at, bool & ended) const {
    if (at + 1 >= input_.size()) {
        return at;
    }
    const char c = input_[at + 1];
    if (std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos) {
        return at + 2;
    }
    const size_t digits = std::min(input_.size(), at + 6) - (at + 2);
    const auto is_hex = [](unsigned char digit) { return std::isxdigit(digit) != 0; };
    ended = c != 'u' || !std::all_of(input_.begin() + static_cast<std::ptrdiff_t>(at + 2),
                                     input_.begin() + static_cast<std::ptrdiff_t>(at + 2 + digits), is_hex);
    return !ended && digits == 4 ? at + 6 : at;
}

// Where the longest end of the text begins that may become a fixed word of the syntax, or the end of a whole one across that.
size_t AnswerParser::ambiguous_from() const {
    size_t longest = 0;
    for (const std::string & mark : format_->marks) {
        for (size_t n = std::min(mark.size() - 1, input_.size() - opening_); n > longest; --n) {
            if (input_.compare(input_.size() - n, n, mark, 0, n) == 0) {
                longest = n;
            }
        }
    }
    size_t cut = input_.size() - longest;
    for (bool moved = longest > 0; moved;) {
        moved = false;
        for (const std::string & mark : format_->marks) {
            const size_t first = std::max(opening_, cut - std::min(cut, mark.size() - 1));
            for (size_t at = first; at < cut && at + mark.size() <= input_.size() && !moved; ++at) {
                moved = at + mark.size() > cut && input_.compare(at, mark.size(), mark) == 0;
                cut = moved ? at + mark.size() : cut;
            }
        }
    }
    return cut;
}

void AnswerParser::give(Field field, const std::string & text, ChatDelta & delta) {
    if (text.empty()) {
        return;
    }
    if (field == Field::content) {
        sent_.content += text;
        delta.content += text;
    } else if (field == Field::reasoning) {
        sent_.reasoning_content += text;
        delta.reasoning += text;
    } else {
        const size_t index = sent_.tool_calls.size() - 1;
        sent_.tool_calls.back().arguments += text;
        if (delta.calls.empty() || delta.calls.back().index != index) {
            delta.calls.push_back({index, "", "", ""});
        }
        delta.calls.back().arguments += text;
    }
}

// What `now` has beyond what was given. Where it contradicts that, what was given stays.
void AnswerParser::give_new(const common_chat_msg & now, bool last, ChatDelta & delta) {
    if (starts_with(now.reasoning_content, sent_.reasoning_content) && !is_blank(now.reasoning_content)) {
        give(Field::reasoning, now.reasoning_content.substr(sent_.reasoning_content.size()), delta);
    }
    if (starts_with(now.content, sent_.content)) {
        give(Field::content, now.content.substr(sent_.content.size()), delta);
    }
    for (size_t i = sent_.tool_calls.empty() ? 0 : sent_.tool_calls.size() - 1; i < now.tool_calls.size(); ++i) {
        give_call(now, i, last, delta);
    }
    parsed_ = parsed_ && now.content == sent_.content && now.tool_calls.size() == sent_.tool_calls.size() &&
              (now.reasoning_content == sent_.reasoning_content);
}

void AnswerParser::give_call(const common_chat_msg & now, size_t index, bool last, ChatDelta & delta) {
    const common_chat_tool_call & call = now.tool_calls[index];
    if (index > sent_.tool_calls.size()) {
        return;  // the one before it has no name
    }
    if (index == sent_.tool_calls.size()) {
        // A name may still grow while its arguments have not begun.
        const bool begun = last || index + 1 < now.tool_calls.size() || call.arguments.size() > 1;
        if (call.name.empty() || !begun) {
            parsed_ = parsed_ && !last;
            return;
        }
        const std::string id = call.id.empty() ? new_call_id() : call.id;
        sent_.tool_calls.push_back({call.name, "", id});
        delta.calls.push_back({index, id, call.name, ""});
    }
    const std::string & given = sent_.tool_calls[index].arguments;
    if (index + 1 == sent_.tool_calls.size() && call.name == sent_.tool_calls[index].name &&
        starts_with(call.arguments, given)) {
        give(Field::arguments, call.arguments.substr(given.size()), delta);
    } else {
        parsed_ = false;
    }
}

}  // namespace shimmy
