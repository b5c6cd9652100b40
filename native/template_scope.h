// The variables of a render.
#pragma once

#include "jinja/runtime.h"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shimmy {

// The names that a template's nodes use, numbered. Immutable once the template is bound.
struct Names {
    size_t number(const std::string & name);

    std::map<std::string, size_t> numbers;
    std::vector<std::string> texts;
    size_t opens_answer = 0;                // the number of add_generation_prompt
    std::set<std::string> loop_members;  // of `loop` that are read
    bool loop_as_value = false;             // `loop` is also used otherwise
};

// A context of llama.cpp's, as which functions see it, with variables of its own: a name is a number, and leaving a scope puts
// back what was set within, where llama.cpp copies all variables into each new scope. What nobody set is looked up in the context
// that the render was begun with, which must outlive this. Scopes are dynamic, as llama.cpp's: a macro sees its caller's variables.
class Scope : public jinja::context {
  public:
    Scope(jinja::context & given, const Names & names);
    Scope(const Scope &) = delete;
    Scope & operator=(const Scope &) = delete;

    // The value of the name of this number; undefined where it has none. Valid until the next set().
    const jinja::value & get(size_t name);
    void set(size_t name, jinja::value v);

    const Names & names() const { return names_; }

    // Whether add_generation_prompt was looked at.
    bool saw_opening() const { return saw_opening_; }
    void see_opening() { saw_opening_ = true; }

    // While one lives, what is set is set for that time.
    class Inner {
      public:
        explicit Inner(Scope & scope);
        ~Inner();
        void keep();  // for good: of the outermost
        Inner(const Inner &) = delete;
        Inner & operator=(const Inner &) = delete;

      private:
        Scope & scope_;
        size_t begin_;
    };

    using Snapshot = std::vector<jinja::value>;
    Snapshot snapshot() const;

    // While one lives, the variables are those of a snapshot.
    class Elsewhere {
      public:
        Elsewhere(Scope & scope, const Snapshot & there);
        ~Elsewhere();
        Elsewhere(const Elsewhere &) = delete;
        Elsewhere & operator=(const Elsewhere &) = delete;

      private:
        Scope & scope_;
        struct Kept;
        std::unique_ptr<Kept> kept_;
    };

  private:
    struct Variable {
        jinja::value v;      // null: not looked up
        uint32_t level = 0;  // of the scope that set it
    };
    struct Replaced {
        size_t name;
        Variable old;
    };

    jinja::context & given_;
    const Names & names_;
    std::vector<Variable> variables_;
    std::vector<Replaced> replaced_;
    uint32_t level_ = 0;
    bool saw_opening_ = false;
};

inline Scope & scope_of(jinja::context & ctx) { return static_cast<Scope &>(ctx); }  // nodes run in no other context

}  // namespace shimmy
