// The characters that a grammar tells apart.
#pragma once

#include "gbnf.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shimmy {

// All characters of one class are in the same sets of a grammar, so that they lead the same way everywhere in it.
class CharacterClasses {
  public:
    // `vocabulary_characters`: the code points whose class is asked for by their place in that list. Throws shimmy::Error
    // (E_INVALID, param "grammar") where there are too many sets of too many parts.
    CharacterClasses(const std::vector<CharacterSet> & sets, const std::vector<uint32_t> & vocabulary_characters);

    size_t count() const { return members_.size(); }
    bool contains(uint32_t set, uint32_t cls) const { return members_[cls][set]; }
    uint32_t of_index(uint32_t vocabulary_index) const { return of_vocabulary_[vocabulary_index]; }
    uint32_t of(uint32_t character) const { return character < 128 ? ascii_[character] : search(character); }

    // The classes that characters low..high belong to; one may come more than once.
    std::vector<uint32_t> between(uint32_t low, uint32_t high) const;

    size_t bytes() const;

  private:
    uint32_t search(uint32_t character) const;
    size_t stretch_of(uint32_t character) const;

    std::vector<uint32_t> firsts_;   // where a stretch of characters of one class begins; the first is 0
    std::vector<uint32_t> classes_;  // of each stretch
    std::vector<std::vector<bool>> members_;  // [class][set]
    std::vector<uint32_t> of_vocabulary_;
    uint32_t ascii_[128];
};

}  // namespace shimmy
