// Operators and tests of templates.
#include "template_node.h"

#include <stdexcept>

namespace shimmy {

namespace {

constexpr size_t part_bytes = 48;  // of a piece of a string, each repetition is one

struct Operation : jinja::binary_expression {
    Operation(jinja::binary_expression && old, Binder &) : binary_expression(std::move(old)), kind(kind_of(op.value)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        const jinja::value a = left->execute(ctx);
        if (kind == Kind::both || kind == Kind::either) {
            return a->as_bool() == (kind == Kind::both) ? right->execute(ctx) : a;
        }
        const jinja::value b = right->execute(ctx);
        if (kind == Kind::same || kind == Kind::different) {
            return truth(equal(a, b) == (kind == Kind::same));
        }
        if (kind == Kind::joined && is_text(a) && is_text(b)) {
            return join(a->val_str, b->val_str);
        }
        if (kind == Kind::within && is_text(a) && (is_text(b) || jinja::is_val<jinja::value_object>(b))) {
            return truth(contains(b, a) == (op.value == "in"));
        }
        if (kind == Kind::repeated) {
            require_short(a, b);
            require_short(b, a);
        }
        const jinja::binary_expression plain(op, std::make_unique<Constant>(a), std::make_unique<Constant>(b));
        jinja::value result = plain.jinja::binary_expression::execute_impl(ctx);
        charge_value(result);
        return result;
    }

    enum class Kind { both, either, same, different, joined, within, repeated, other };

    static Kind kind_of(const std::string & sign) {
        return sign == "and"                       ? Kind::both
               : sign == "or"                      ? Kind::either
               : sign == "=="                      ? Kind::same
               : sign == "!="                      ? Kind::different
               : sign == "+" || sign == "~"        ? Kind::joined
               : sign == "in" || sign == "not in" ? Kind::within
               : sign == "*"                       ? Kind::repeated
                                                   : Kind::other;
    }

    // Strings of one part, which most are, need no copy to be compared.
    static bool equal(const jinja::value & a, const jinja::value & b) {
        if (is_text(a) && is_text(b) && a->val_str.parts.size() == 1 && b->val_str.parts.size() == 1) {
            return a->val_str.parts.front().val == b->val_str.parts.front().val;
        }
        return *a == *b;
    }

    static jinja::value join(const jinja::string & a, const jinja::string & b) {
        const size_t size = a.length() + b.length();
        charge(size);
        std::string text;
        text.reserve(size);
        for (const jinja::string * of : {&a, &b}) {
            for (const jinja::string_part & part : of->parts) {
                text += part.val;
            }
        }
        return jinja::mk_val<jinja::value_string>(text);
    }

    static bool contains(const jinja::value & all, const jinja::value & part) {
        return is_text(all) ? all->val_str.str().find(part->val_str.str()) != std::string::npos : all->has_key(part);
    }

    // Repeating a string is one operation, however often.
    static void require_short(const jinja::value & text, const jinja::value & times) {
        if (is_text(text) && jinja::is_val<jinja::value_int>(times) && times->as_int() > 0) {
            const double part = static_cast<double>(text->val_str.length() + part_bytes * text->val_str.parts.size());
            require_size(static_cast<size_t>(std::min(part * static_cast<double>(times->as_int()), 1e18)));
        }
    }

    Kind kind;
};

struct Unary : jinja::unary_expression {
    Unary(jinja::unary_expression && old, Binder &) : unary_expression(std::move(old)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return op.value == "not" ? truth(!argument->execute(ctx)->as_bool()) : unary_expression::execute_impl(ctx);
    }
};

struct Test : jinja::test_expression {
    Test(jinja::test_expression && old, Binder &) : test_expression(std::move(old)) {
        call = jinja::cast_stmt<jinja::call_expression>(test);
        const auto * name = jinja::cast_stmt<jinja::identifier>(call != nullptr ? call->callee : test);
        if (name != nullptr) {
            const auto & functions = jinja::global_builtins();
            const auto found = functions.find("test_is_" + name->val);
            function = found == functions.end() ? nullptr : &found->second;
        }
    }

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        if (ctx.is_get_stats || function == nullptr) {
            return test_expression::execute_impl(ctx);
        }
        jinja::func_args given(ctx);
        given.push_back(operand->execute(ctx));
        if (call != nullptr) {
            for (const jinja::statement_ptr & arg : call->args) {
                given.push_back(arg->execute(ctx));
            }
        }
        jinja::value result = (*function)(given);
        return negate ? truth(!result->as_bool()) : result;
    }

    const jinja::call_expression * call;
    const jinja::func_handler * function = nullptr;  // NULL: there is none, and llama.cpp says so
};

}  // namespace

bool bind_operation(jinja::statement_ptr & node, Binder & binder) {
    using namespace jinja;
    return replaced<binary_expression, Operation>(node, binder,
                                                  [&](auto & n) {
                                                      binder.bind(n.left);
                                                      binder.bind(n.right);
                                                  }) ||
           replaced<unary_expression, Unary>(node, binder, [&](auto & n) { binder.bind(n.argument); }) ||
           replaced<test_expression, Test>(node, binder,
                                           [&](auto & n) {
                                               binder.bind(n.operand);
                                               binder.bind_arguments(n.test);
                                           }) ||
           replaced<select_expression, Nested<select_expression>>(node, binder,
                                                                  [&](auto & n) {
                                                                      binder.bind(n.lhs);
                                                                      binder.bind(n.test);
                                                                  }) ||
           replaced<ternary_expression, Nested<ternary_expression>>(node, binder, [&](auto & n) {
               binder.bind(n.condition);
               binder.bind(n.true_expr);
               binder.bind(n.false_expr);
           });
}

}  // namespace shimmy
