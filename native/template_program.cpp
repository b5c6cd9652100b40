#include "template_program.h"

#include "template_node.h"

#include <utility>

namespace shimmy {

namespace {

// All of a template: the variables' scope begins with it.
class Whole : public jinja::statement {
  public:
    explicit Whole(jinja::statements && given) : statements_(std::move(given)) {
        names_.opens_answer = names_.number("add_generation_prompt");
        Binder binder{names_};
        std::vector<size_t> calls;
        std::vector<size_t> changes;
        for (jinja::statement_ptr & node : statements_) {
            calls.push_back(binder.calls);
            changes.push_back(binder.changes);
            binder.bind(node);
        }
        for (repeatable_ = statements_.size(); repeatable_ > 0; --repeatable_) {
            const bool may_call = binder.calls > calls[repeatable_ - 1];
            if (binder.changes > changes[repeatable_ - 1] || (may_call && binder.macro_changes > 0)) {
                break;
            }
        }
        body_ = Body(statements_);
        pos = 0;
    }

    std::string type() const override { return "Program"; }

    jinja::value execute_impl(jinja::context & ctx) const override {
        Scope scope(ctx, names_);
        return body_.text(scope);
    }

    Texts both(jinja::context & ctx) const {
        Scope scope(ctx, names_);
        Texts out;
        size_t at = 0;
        size_t before = 0;
        while (at < body_.size()) {
            Scope::Inner inner(scope);
            before = out.closed.size();
            body_.write(scope, out.closed, at, at + 1);
            if (scope.saw_opening()) {
                body_.write(scope, out.closed, at + 1, body_.size());
                break;
            }
            inner.keep();
            before = out.closed.size();
            ++at;
        }
        if (at >= repeatable_) {
            out.open.assign(out.closed, 0, before);
            open(scope, at, out.open);
        } else {
            Scope again(ctx, names_);
            open(again, 0, out.open);
        }
        return out;
    }

  private:
    void open(Scope & scope, size_t from, std::string & out) const {
        scope.set(names_.opens_answer, truth(true));
        body_.write(scope, out, from, body_.size());
    }

    Names names_;
    jinja::statements statements_;
    Body body_;
    size_t repeatable_ = 0;  // from this statement on, nothing changes values in place
};

}  // namespace

void Binder::bind(jinja::statements & nodes) {
    for (jinja::statement_ptr & node : nodes) {
        bind(node);
    }
}

void Binder::bind(jinja::statement_ptr & node) {
    if (node != nullptr && !bind_expression(node, *this) && !bind_operation(node, *this) && !bind_call(node, *this) &&
        !bind_block(node, *this)) {
        bind_loop(node, *this);
    }
}

void Binder::bind_arguments(jinja::statement_ptr & call) {
    if (auto * with_arguments = jinja::cast_stmt<jinja::call_expression>(call)) {
        bind(with_arguments->args);
    }
}

void Binder::bind_parameters(jinja::statements & nodes) {
    for (jinja::statement_ptr & node : nodes) {
        if (auto * pair = jinja::cast_stmt<jinja::keyword_argument_expression>(node)) {
            bind(pair->val);
        }
    }
}

void Binder::bind_target(jinja::statement_ptr & node) {
    if (auto * member = jinja::cast_stmt<jinja::member_expression>(node)) {
        bind(member->object);
    }
}

void Binder::name_read(const std::string & name) {
    names.loop_as_value |= name == "loop";
}

void Binder::name_called(const std::string & name) { changes += name == "append" || name == "pop"; }

void bound_program(jinja::program & program) {
    auto whole = std::make_unique<Whole>(std::move(program.body));
    program.body.clear();
    program.body.push_back(std::move(whole));
}

Texts render_both(const jinja::program & program, jinja::context & ctx) {
    return static_cast<const Whole &>(*program.body.front()).both(ctx);
}

}  // namespace shimmy
