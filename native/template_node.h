// What the nodes of a bound template have in common. They take the place of llama.cpp's (common/jinja/runtime.h), derive from them,
// and do what those do (common/jinja/runtime.cpp) in a Scope, with bounds, and without the copies which were most of a render's time.
#pragma once

#include "render_bounds.h"
#include "template_scope.h"

#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace shimmy {

// Goes through a template's nodes and puts the bound ones in their place.
struct Binder {
    Names & names;
    size_t calls = 0;          // of functions, which may be macros
    size_t changes = 0;        // of values in place: what runs after them may see them
    size_t macro_changes = 0;  // those in macros

    void bind(jinja::statement_ptr & node);
    void bind(jinja::statements & nodes);
    void bind_arguments(jinja::statement_ptr & call);  // of a filter or test, whose name is no variable
    void bind_parameters(jinja::statements & nodes);   // of a macro: only their defaults
    void bind_target(jinja::statement_ptr & node);     // of a set or a loop: names stay, as nothing reads them there
    void name_read(const std::string & name);
    void name_called(const std::string & name);        // a function of some value, which may change it
};

// Each: whether `node` was one of these.
bool bind_expression(jinja::statement_ptr & node, Binder & binder);
bool bind_operation(jinja::statement_ptr & node, Binder & binder);
bool bind_call(jinja::statement_ptr & node, Binder & binder);
bool bind_block(jinja::statement_ptr & node, Binder & binder);
bool bind_loop(jinja::statement_ptr & node, Binder & binder);

// Whether `node` is exactly an `Old`; then `visit` goes on with its children, and `New` takes its place.
template <typename Old, typename New, typename Visit>
bool replaced(jinja::statement_ptr & node, Binder & binder, Visit && visit) {
    if (typeid(*node) != typeid(Old)) {
        return false;
    }
    Old & old = static_cast<Old &>(*node);
    visit(old);
    const size_t pos = old.pos;
    auto bound = std::make_unique<New>(std::move(old), binder);
    bound->pos = pos;
    node = std::move(bound);
    return true;
}

// A node of llama.cpp's with a step before.
template <typename Old>
struct Nested : Old {
    Nested(Old && old, Binder &) : Old(std::move(old)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return Old::execute_impl(ctx);
    }
};

// An operand that has been computed.
struct Constant : jinja::expression {
    explicit Constant(jinja::value v) : held(std::move(v)) {}

    jinja::value execute_impl(jinja::context &) const override { return held; }

    jinja::value held;
};

// A statement, whose text goes to the end of `out`.
class Writing {
  public:
    virtual void write(Scope & scope, std::string & out) const = 0;

  protected:
    ~Writing() = default;
};

// What {{ v }} shows, as gather_string_parts_recursive. The marks of what users wrote get lost: nobody here reads them.
void show(const jinja::value & v, std::string & out);

// Statements one after the other. They must outlive it.
class Body {
  public:
    Body() = default;
    explicit Body(const jinja::statements & statements);

    size_t size() const { return parts_.size(); }
    void write(Scope & scope, std::string & out) const { write(scope, out, 0, size()); }
    void write(Scope & scope, std::string & out, size_t begin, size_t end) const;

    // All that they write, as a value.
    jinja::value text(Scope & scope) const;

  private:
    struct Part {
        const jinja::statement * node;
        const Writing * writing;  // NULL: an expression
    };
    std::vector<Part> parts_;
};

// The names on the left of a set or a loop.
class Targets {
  public:
    Targets(const jinja::statement_ptr & node, Binder & binder);

    bool none() const { return numbers_.empty(); }  // it is neither a name nor several in brackets
    bool several() const { return several_; }
    void set(const jinja::value & v, Scope & scope) const;

  private:
    std::vector<size_t> numbers_;
    bool several_ = false;
    bool unnamed_ = false;  // something in the brackets is no name
};

// The same value for all: nothing changes it, and making one is dear.
const jinja::value & truth(bool v);

inline bool is_text(const jinja::value & v) { return typeid(*v) == typeid(jinja::value_string_t); }

}  // namespace shimmy
