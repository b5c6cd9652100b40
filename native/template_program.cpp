#include "template_program.h"

#include "template_node.h"

#include <utility>

namespace shimmy {

namespace {

constexpr const char * prompt_variable = "add_generation_prompt";

// All of a template: the variables' scope begins with it.
class Whole : public jinja::statement {
  public:
    explicit Whole(jinja::statements && given) : statements_(std::move(given)) {
        Binder binder{names_};
        shared_ = statements_.size();
        size_t calls = 0;
        size_t changes = 0;
        for (size_t i = 0; i < statements_.size(); ++i) {
            const bool common = binder.prompt_reads == 0;
            const size_t calls_so_far = binder.calls;
            const size_t changes_so_far = binder.changes;
            binder.bind(statements_[i]);
            if (common && binder.prompt_reads > 0) {
                shared_ = i;
                calls = calls_so_far;
                changes = changes_so_far;
            }
        }
        prompt_ = names_.number(prompt_variable);
        const bool may_call = binder.calls > calls;
        if (binder.changes > changes || (may_call && binder.macro_changes > 0)) {
            shared_ = 0;
            changes_ = true;
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
        body_.write(scope, out.closed, 0, shared_);
        out.open = out.closed;
        {
            const Scope::Inner inner(scope);
            body_.write(scope, out.closed, shared_, body_.size());
        }
        if (changes_) {
            Scope again(ctx, names_);
            again.set(prompt_, truth(true));
            body_.write(again, out.open);
        } else {
            scope.set(prompt_, truth(true));
            body_.write(scope, out.open, shared_, body_.size());
        }
        return out;
    }

  private:
    Names names_;
    jinja::statements statements_;
    Body body_;
    size_t shared_;         // statements before the first that looks at add_generation_prompt
    size_t prompt_ = 0;     // that variable
    bool changes_ = false;  // the others change values in place, and must begin with them anew
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
    prompt_reads += name == prompt_variable;
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
