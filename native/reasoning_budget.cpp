#include "reasoning_budget.h"

#include <algorithm>
#include <utility>

namespace shimmy {

ReasoningBudget::ReasoningBudget(std::shared_ptr<const Vocabulary> vocabulary, Reasoning reasoning, int64_t budget,
                                 std::vector<int32_t> closing)
    : vocabulary_(std::move(vocabulary)), reasoning_(std::move(reasoning)), budget_(budget), closing_(std::move(closing)) {
    if (reasoning_.begun) {
        begin();
    }
}

void ReasoningBudget::begin() {
    thinking_ = true;
    left_ = budget_;
    closed_ = 0;
}

int32_t ReasoningBudget::forced() const {
    const bool ready = left_ <= 0 && (closed_ > 0 || character_.remain == 0);
    return thinking_ && ready && closed_ < closing_.size() ? closing_[closed_] : -1;
}

void ReasoningBudget::give_up() { closing_.clear(); }

void ReasoningBudget::accept(int32_t token) {
    const bool closes = token == forced();
    closed_ = closes ? closed_ + 1 : 0;
    --left_;
    std::string rest = vocabulary_->full_text(token);
    for (const char byte : rest) {
        if (!character_.push(static_cast<unsigned char>(byte))) {
            character_ = {};
        }
    }
    for (size_t end = find_switch(rest); end != std::string::npos; end = find_switch(rest)) {
        thinking_ = !thinking_;
        if (thinking_) {
            begin();
        }
        rest.erase(0, end);
    }
}

// The end in `text` of the first word that starts the thinking, or ends it; npos: it goes on as it is.
size_t ReasoningBudget::find_switch(const std::string & text) {
    const std::string all = tail_ + text;
    const std::vector<std::string> start{reasoning_.start};
    size_t first = std::string::npos;
    size_t longest = 1;
    for (const std::string & word : thinking_ ? reasoning_.ends : start) {
        const size_t at = word.empty() ? std::string::npos : all.find(word);
        longest = std::max(longest, word.size());
        if (at != std::string::npos) {
            first = std::min(first, at + word.size());
        }
    }
    if (first != std::string::npos) {
        const size_t before = tail_.size();
        tail_.clear();
        return first - before;
    }
    tail_ = all.substr(all.size() - std::min(all.size(), longest - 1));
    return first;
}

}  // namespace shimmy
