#include "template_scope.h"

#include <cstddef>
#include <utility>

namespace shimmy {

size_t Names::number(const std::string & name) {
    const auto [found, added] = numbers.emplace(name, texts.size());
    if (added) {
        texts.push_back(name);
    }
    return found->second;
}

Scope::Scope(jinja::context & given, const Names & names) : given_(given), names_(names), variables_(names.texts.size()) {
    src = given.src;
    current_time = given.current_time;
    is_get_stats = given.is_get_stats;
}

const jinja::value & Scope::get(size_t name) {
    Variable & variable = variables_[name];
    if (variable.v == nullptr) {
        variable.v = given_.get_val(names_.texts[name]);
    }
    return variable.v;
}

void Scope::set(size_t name, jinja::value v) {
    Variable & variable = variables_[name];
    if (variable.level != level_) {
        replaced_.push_back({name, std::move(variable)});
        variable.level = level_;
    }
    variable.v = std::move(v);
}

Scope::Inner::Inner(Scope & scope) : scope_(scope), begin_(scope.replaced_.size()) { ++scope_.level_; }

Scope::Inner::~Inner() {
    while (scope_.replaced_.size() > begin_) {
        Replaced & last = scope_.replaced_.back();
        scope_.variables_[last.name] = std::move(last.old);
        scope_.replaced_.pop_back();
    }
    --scope_.level_;
}

void Scope::Inner::keep() {
    for (size_t i = begin_; i < scope_.replaced_.size(); ++i) {
        scope_.variables_[scope_.replaced_[i].name].level = scope_.level_ - 1;
    }
    scope_.replaced_.erase(scope_.replaced_.begin() + static_cast<std::ptrdiff_t>(begin_), scope_.replaced_.end());
}

Scope::Snapshot Scope::snapshot() const {
    Snapshot out;
    out.reserve(variables_.size());
    for (const Variable & variable : variables_) {
        out.push_back(variable.v);
    }
    return out;
}

struct Scope::Elsewhere::Kept {
    std::vector<Variable> variables;
    std::vector<Replaced> replaced;
    uint32_t level;
};

Scope::Elsewhere::Elsewhere(Scope & scope, const Snapshot & there)
    : scope_(scope), kept_(new Kept{{}, {}, scope.level_}) {
    kept_->variables.reserve(there.size());
    for (const jinja::value & v : there) {
        kept_->variables.push_back({v, 0});
    }
    kept_->variables.swap(scope_.variables_);
    kept_->replaced.swap(scope_.replaced_);
    scope_.level_ = 0;
}

Scope::Elsewhere::~Elsewhere() {
    kept_->variables.swap(scope_.variables_);
    kept_->replaced.swap(scope_.replaced_);
    scope_.level_ = kept_->level;
}

}  // namespace shimmy
