#include "schema.h"

#include <algorithm>
#include <map>
#include <vector>

namespace shimmy {

namespace {

class References {
  public:
    References(common_json & schema, const std::string & prefix) : schema_(schema), original_(schema), prefix_(prefix) {}

    void rename() {
        rename_in(schema_);
        common_json targets = common_json::object();
        for (size_t i = 0; i < order_.size(); ++i) {  // grows while it is gone through
            common_json target = *target_of(order_[i]);
            rename_in(target);
            targets[names_.at(order_[i])] = target;
        }
        if (!order_.empty()) {
            schema_["$defs"] = targets;
        }
    }

  private:
    void rename_in(common_json & at) {
        if (at.is_array()) {
            for (common_json & entry : at) {
                rename_in(entry);
            }
        }
        if (!at.is_object()) {
            return;
        }
        for (const auto & [key, value] : at.items()) {
            if (key == "$ref" && value.is_string()) {
                const std::string ref = value.get<std::string>();
                if (target_of(ref) != nullptr) {
                    value = "#/$defs/" + name_of(ref);
                }
            } else if (key == "properties" && value.is_object()) {
                for (const auto & [name, property] : value.items()) {  // whatever keyword it is called like
                    rename_in(property);
                }
            } else if (key != "const" && key != "enum" && key != "default" && key != "examples" && key != "$defs" &&
                       key != "definitions") {
                rename_in(value);
            }
        }
    }

    const std::string & name_of(const std::string & ref) {
        const auto [found, added] = names_.emplace(ref, prefix_ + std::to_string(names_.size()));
        if (added) {
            order_.push_back(ref);
        }
        return found->second;
    }

    // NULL: it points at nothing, at a place where nobody looks (check_schema).
    const common_json * target_of(const std::string & ref) const {
        if (ref.compare(0, 2, "#/") != 0) {
            return nullptr;
        }
        const common_json * target = &original_;
        for (size_t start = 2; start <= ref.size();) {
            const size_t end = std::min(ref.find('/', start), ref.size());
            const std::string name = ref.substr(start, end - start);
            if (target->is_object() && target->contains(name)) {
                target = &target->at(name);
            } else if (target->is_array() && !name.empty() && name.size() <= 9 &&
                       name.find_first_not_of("0123456789") == std::string::npos && std::stoul(name) < target->size()) {
                target = &target->at(static_cast<size_t>(std::stoul(name)));
            } else {
                return nullptr;
            }
            start = end + 1;
        }
        return target;
    }

    common_json & schema_;
    const common_json original_;
    const std::string prefix_;
    std::map<std::string, std::string> names_;
    std::vector<std::string> order_;
};

}  // namespace

void rename_references(common_json & schema, const std::string & prefix) { References(schema, prefix).rename(); }

}  // namespace shimmy
