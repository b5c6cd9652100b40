#include "character_classes.h"

#include "error.h"

#include <algorithm>
#include <map>

namespace shimmy {

namespace {

constexpr size_t kMaxMemberships = 40'000'000;  // bits of (stretch, set); a second of work

std::vector<uint32_t> find_stretches(const std::vector<CharacterSet> & sets) {
    std::vector<uint32_t> firsts{0};
    for (const CharacterSet & set : sets) {
        for (const auto & [first, last] : set) {
            firsts.push_back(first);
            if (last < kLastCharacter) {
                firsts.push_back(last + 1);
            }
        }
    }
    std::sort(firsts.begin(), firsts.end());
    firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
    return firsts;
}

}  // namespace

CharacterClasses::CharacterClasses(const std::vector<CharacterSet> & sets, const std::vector<uint32_t> & vocabulary_characters)
    : firsts_(find_stretches(sets)) {
    if (firsts_.size() * sets.size() > kMaxMemberships) {
        throw Error(SHIMMY_E_INVALID, "grammar has too many different characters and classes", "grammar");
    }
    std::vector<std::vector<bool>> rows(firsts_.size(), std::vector<bool>(sets.size(), false));
    for (size_t set = 0; set < sets.size(); ++set) {
        for (const auto & [first, last] : sets[set]) {
            for (size_t i = stretch_of(first); i < firsts_.size() && firsts_[i] <= last; ++i) {
                rows[i][set] = true;
            }
        }
    }
    std::map<std::vector<bool>, uint32_t> ids;
    for (std::vector<bool> & row : rows) {
        const auto [found, inserted] = ids.emplace(row, static_cast<uint32_t>(members_.size()));
        if (inserted) {
            members_.push_back(std::move(row));
        }
        classes_.push_back(found->second);
    }
    for (uint32_t c = 0; c < 128; ++c) {
        ascii_[c] = search(c);
    }
    of_vocabulary_.reserve(vocabulary_characters.size());
    for (const uint32_t c : vocabulary_characters) {
        of_vocabulary_.push_back(search(c));
    }
}

size_t CharacterClasses::stretch_of(uint32_t character) const {
    return static_cast<size_t>(std::upper_bound(firsts_.begin(), firsts_.end(), character) - firsts_.begin()) - 1;
}

uint32_t CharacterClasses::search(uint32_t character) const { return classes_[stretch_of(character)]; }

std::vector<uint32_t> CharacterClasses::between(uint32_t low, uint32_t high) const {
    const auto first = static_cast<std::ptrdiff_t>(stretch_of(low));
    const auto last = static_cast<std::ptrdiff_t>(stretch_of(std::max(low, high)));
    return {classes_.begin() + first, classes_.begin() + last + 1};
}

size_t CharacterClasses::bytes() const {
    const size_t sets = members_.empty() ? 0 : members_.front().size();
    return 4 * (firsts_.size() + classes_.size() + of_vocabulary_.size()) + members_.size() * (sets / 8 + 32);
}

}  // namespace shimmy
