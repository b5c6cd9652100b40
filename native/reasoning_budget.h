// How many tokens an answer may think.
#pragma once

#include "trigger.h"
#include "utf8.h"
#include "vocabulary.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace shimmy {

// Counts the tokens of each part in which the model thinks, and ends it with `closing` once they are spent, behind whole characters: as
// llama.cpp's common_reasoning_budget_init does it, but by text, since one word is different tokens in different places.
class ReasoningBudget {
  public:
    // `reasoning`: its start may be empty where the prompt has begun it. `budget`: 0 and more.
    ReasoningBudget(std::shared_ptr<const Vocabulary> vocabulary, Reasoning reasoning, int64_t budget, std::vector<int32_t> closing);

    // The token that must come next; -1: any may.
    int32_t forced() const;

    // Takes the next token of the answer.
    void accept(int32_t token);

    // Nothing is forced any more: something else forbids it.
    void give_up();

  private:
    void begin();
    size_t find_switch(const std::string & text);

    std::shared_ptr<const Vocabulary> vocabulary_;
    Reasoning reasoning_;
    int64_t budget_;
    std::vector<int32_t> closing_;
    bool thinking_ = false;
    int64_t left_ = 0;    // tokens
    size_t closed_ = 0;   // tokens of closing_ that have come
    std::string tail_;    // the last bytes, which may begin what ends or starts the thinking
    Utf8 character_;      // begun by the last token
};

}  // namespace shimmy
