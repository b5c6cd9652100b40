// One answer's text as it comes, parted into content, reasoning and tool calls.
#pragma once

#include "chat_format.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shimmy {

// What is new, in OpenAI's terms: `id` and `name` of a call come once, with its first delta.
struct ChatDelta {
    std::string content;
    std::string reasoning;
    struct Call {
        size_t index;
        std::string id;
        std::string name;
        std::string arguments;
    };
    std::vector<Call> calls;

    bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

// Parses with common's parsers, which know only whole texts, in time linear in the answer's length:
// - While plain text can only lengthen one field (content, reasoning, or a string among a call's arguments) it goes there
//   without being parsed, up to a delimiter of the syntax. Which field that is, and how it takes text, the last parse tells:
//   it had a probe of plain text at its end.
// - Otherwise all is parsed again, as often as the credit of `parse_credit` bytes for each byte of the answer allows.
// The deltas put together are the message at all times. Used by one thread at a time.
class AnswerParser {
  public:
    // `opening`: the end of the prompt that already belongs to the answer. A continued answer gives only what is new.
    AnswerParser(std::shared_ptr<const ChatFormat> format, std::string opening, bool continued);

    // `text` must be whole UTF-8 characters.
    ChatDelta feed(std::string_view text);

    // The last delta. A text that does not have the format is given as content from where it departs.
    ChatDelta finish();

    // What the deltas so far make together.
    common_chat_msg message() const;

    // After finish(): whether the whole text had the format.
    bool parsed() const { return parsed_; }

    // Bytes that common's parsers were given so far, all parses together.
    uint64_t work() const { return work_; }

  private:
    // How the open field takes text.
    enum class Mode { none, verbatim, json_string, escaped };
    enum class Field { content, reasoning, arguments };
    struct Parse;

    Parse parse(const std::string & text) const;
    bool too_deep();
    void parse_again(ChatDelta & delta);
    bool open_field(size_t cut, const Parse & found, ChatDelta & delta);
    bool take_probe(common_chat_msg & probed);
    void pass(ChatDelta & delta);
    size_t pass_end(bool & ended) const;
    bool at_delimiter(size_t at, bool & whole) const;
    bool begins_mark(size_t at) const;
    size_t after_escape(size_t at, bool & ended) const;
    size_t ambiguous_from() const;
    void give(Field field, const std::string & text, ChatDelta & delta);
    void give_new(const common_chat_msg & now, bool last, ChatDelta & delta);
    void give_call(const common_chat_msg & now, size_t index, bool last, ChatDelta & delta);
    void give_rest(size_t parsed_end, ChatDelta & delta);

    std::shared_ptr<const ChatFormat> format_;
    std::string input_;        // the opening and the text so far
    size_t opening_;           // its length
    size_t passed_;            // up to here the text is in `sent_`, as far as it shows
    common_chat_msg before_;   // of a continued answer: what its opening holds
    common_chat_msg sent_;     // that, and what the deltas make together
    Mode mode_ = Mode::none;
    Field field_ = Field::content;
    uint64_t credit_;          // bytes that may be parsed
    size_t counted_ = 0;       // up to here brackets have been counted
    int depth_ = 0;
    bool deep_ = false;        // brackets nest deeper than may be parsed
    bool parsed_ = false;
    mutable uint64_t work_ = 0;
};

}  // namespace shimmy
