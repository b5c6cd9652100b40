// Blocks of templates that are no loops.
#include "template_node.h"

#include <stdexcept>

namespace shimmy {

namespace {

// A statement's value is its text.
jinja::value text_of(const Writing & writing, jinja::context & ctx) {
    const Step step;
    std::string out;
    writing.write(scope_of(ctx), out);
    return jinja::mk_val<jinja::value_string>(out);
}

struct If : jinja::if_statement, Writing {
    If(jinja::if_statement && old, Binder &) : if_statement(std::move(old)), then(body), otherwise(alternate) {}

    void write(Scope & scope, std::string & out) const override {
        (test->execute(scope)->as_bool() ? then : otherwise).write(scope, out);
    }

    jinja::value execute_impl(jinja::context & ctx) const override { return text_of(*this, ctx); }

    Body then;
    Body otherwise;
};

struct Set : jinja::set_statement, Writing {
    Set(jinja::set_statement && old, Binder & binder) : set_statement(std::move(old)), targets(assignee, binder), inside(body) {
        member = jinja::cast_stmt<jinja::member_expression>(assignee);
        if (member != nullptr) {
            ++binder.changes;
            const auto * property = jinja::cast_stmt<jinja::identifier>(member->property);
            name = property != nullptr ? jinja::mk_val<jinja::value_string>(property->val) : nullptr;
        }
    }

    void write(Scope & scope, std::string &) const override {
        const jinja::value given = val ? val->execute(scope) : inside.text(scope);
        if (!targets.none()) {
            targets.set(given, scope);
        } else if (member != nullptr) {
            set_member(given, scope);
        } else {
            throw std::runtime_error("Invalid LHS inside assignment expression: " + assignee->type());
        }
    }

    void set_member(const jinja::value & given, Scope & scope) const {
        if (member->computed) {
            throw std::runtime_error("Cannot assign to computed member");
        }
        if (name == nullptr) {
            throw std::runtime_error("Cannot assign to member with non-identifier property");
        }
        const jinja::value object = member->object->execute(scope);
        if (!jinja::is_val<jinja::value_object>(object)) {
            throw std::runtime_error("Cannot assign to member of non-object");
        }
        object->insert(name, given);
    }

    jinja::value execute_impl(jinja::context & ctx) const override { return text_of(*this, ctx); }

    Targets targets;
    Body inside;
    const jinja::member_expression * member;
    jinja::value name;  // of the member
};

// As bind_parameters of llama.cpp. Defaults are computed in the caller's scope.
class Parameters {
  public:
    Parameters(const jinja::statements & nodes, Binder & binder) {
        for (const jinja::statement_ptr & node : nodes) {
            const auto * pair = jinja::cast_stmt<jinja::keyword_argument_expression>(node);
            const auto * name = jinja::cast_stmt<jinja::identifier>(pair != nullptr ? pair->key : node);
            all_.push_back({name != nullptr ? name->val : "", name != nullptr ? binder.names.number(name->val) : 0,
                            pair != nullptr ? pair->val.get() : nullptr, name != nullptr});
        }
    }

    std::vector<jinja::value> values(const std::string & of, const jinja::func_args & args) const {
        std::vector<jinja::value> out;
        for (size_t i = 0; i < all_.size(); ++i) {
            const Parameter & one = all_[i];
            if (!one.named) {
                throw std::runtime_error("Invalid parameter type in '" + of + "'");
            }
            if (i >= args.count() && one.otherwise == nullptr) {
                throw std::runtime_error("Not enough arguments provided to '" + of + "'");
            }
            out.push_back(i < args.count() ? args.get_kwarg_or_pos(one.name, i) : one.otherwise->execute(args.ctx));
        }
        return out;
    }

    void set(const std::vector<jinja::value> & values, Scope & scope) const {
        for (size_t i = 0; i < all_.size(); ++i) {
            scope.set(all_[i].number, values[i]);
        }
    }

  private:
    struct Parameter {
        std::string name;
        size_t number;
        const jinja::statement * otherwise;  // NULL: it must be given
        bool named;
    };
    std::vector<Parameter> all_;
};

struct Macro : jinja::macro_statement, Writing {
    Macro(jinja::macro_statement && old, Binder & binder)
        : macro_statement(std::move(old)), parameters(args, binder), inside(body) {
        if (const auto * name_node = jinja::cast_stmt<jinja::identifier>(name)) {
            called = name_node->val;
            number = binder.names.number(called);
        }
    }

    void write(Scope & scope, std::string &) const override {
        if (called.empty()) {
            throw std::runtime_error("Macro name must be an identifier");
        }
        const jinja::func_handler run = [this](const jinja::func_args & given) -> jinja::value {
            const std::vector<jinja::value> values = parameters.values(called, given);
            Scope & caller = scope_of(given.ctx);
            const Scope::Inner inner(caller);
            parameters.set(values, caller);
            return inside.text(caller);
        };
        scope.set(number, jinja::mk_val<jinja::value_func>(called, run));
    }

    jinja::value execute_impl(jinja::context & ctx) const override { return text_of(*this, ctx); }

    Parameters parameters;
    Body inside;
    std::string called;
    size_t number = 0;
};

// {% call %} of what is no macro would go past the look at what comes out, and has no use.
struct CallBlock : jinja::call_statement, Writing {
    CallBlock(jinja::call_statement && old, Binder & binder)
        : call_statement(std::move(old)), parameters(caller_args, binder), inside(body), caller(binder.names.number("caller")) {}

    void write(Scope & scope, std::string & out) const override {
        const auto * called = jinja::cast_stmt<jinja::call_expression>(call);
        if (called == nullptr) {
            throw std::runtime_error("Call statement requires a valid call expression");
        }
        const jinja::value function = called->callee->execute(scope);
        if (!jinja::is_val<jinja::value_func>(function)) {
            throw std::runtime_error("Callee is not a function: got " + function->type());
        }
        const jinja::value_func_t & f = *jinja::cast_val<jinja::value_func>(function);
        if (f.arg0 || jinja::global_builtins().count(f.name) > 0) {
            throw std::runtime_error("{% call %} needs a macro, and " + f.name + " is none");
        }
        jinja::func_args given(scope);
        for (const jinja::statement_ptr & arg : called->args) {
            given.push_back(arg->execute(scope));
        }
        const jinja::func_handler run = [this, there = scope.snapshot()](const jinja::func_args & args) -> jinja::value {
            const std::vector<jinja::value> values = parameters.values("caller", args);
            Scope & calling = scope_of(args.ctx);
            const Scope::Elsewhere elsewhere(calling, there);
            parameters.set(values, calling);
            return inside.text(calling);
        };
        const Scope::Inner inner(scope);
        scope.set(caller, jinja::mk_val<jinja::value_func>("caller", run));
        show(f.invoke(given), out);
    }

    jinja::value execute_impl(jinja::context & ctx) const override { return text_of(*this, ctx); }

    Parameters parameters;
    Body inside;
    size_t caller;
};

}  // namespace

bool bind_block(jinja::statement_ptr & node, Binder & binder) {
    using namespace jinja;
    return replaced<if_statement, If>(node, binder,
                                      [&](auto & n) {
                                          binder.bind(n.test);
                                          binder.bind(n.body);
                                          binder.bind(n.alternate);
                                      }) ||
           replaced<set_statement, Set>(node, binder,
                                        [&](auto & n) {
                                            binder.bind_target(n.assignee);
                                            binder.bind(n.val);
                                            binder.bind(n.body);
                                        }) ||
           replaced<macro_statement, Macro>(node, binder,
                                            [&](auto & n) {
                                                const size_t before = binder.changes;
                                                binder.bind_parameters(n.args);
                                                binder.bind(n.body);
                                                binder.macro_changes += binder.changes - before;
                                            }) ||
           replaced<call_statement, CallBlock>(node, binder, [&](auto & n) {
               auto * call = cast_stmt<call_expression>(n.call);
               if (call != nullptr) {
                   binder.bind(call->callee);
                   binder.bind(call->args);
               }
               binder.bind_parameters(n.caller_args);
               binder.bind(n.body);
           });
}

}  // namespace shimmy
