// What was made for the last requests, by the text that it was made of.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace shimmy {

// May be used by threads at once.
template <typename Made>
class Kept {
  public:
    // `max_key`: bytes; what is made of more is not kept.
    Kept(size_t max_entries, size_t max_key) : max_entries_(max_entries), max_key_(max_key) {}

    // NULL: there is none.
    std::shared_ptr<const Made> find(const std::string & key) {
        const std::lock_guard lock(mutex_);
        for (auto it = kept_.begin(); it != kept_.end(); ++it) {
            if (it->first == key) {
                kept_.splice(kept_.begin(), kept_, it);
                return it->second;
            }
        }
        return nullptr;
    }

    void keep(const std::string & key, std::shared_ptr<const Made> made) {
        if (key.size() > max_key_) {
            return;
        }
        const std::lock_guard lock(mutex_);
        kept_.emplace_front(key, std::move(made));
        if (kept_.size() > max_entries_) {
            kept_.pop_back();
        }
    }

  private:
    size_t max_entries_;
    size_t max_key_;
    std::mutex mutex_;
    std::list<std::pair<std::string, std::shared_ptr<const Made>>> kept_;
};

}  // namespace shimmy
