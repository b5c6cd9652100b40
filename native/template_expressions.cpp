// Names, literals, members, and what takes part in no operation.
#include "template_node.h"

#include <stdexcept>

namespace shimmy {

namespace {

struct Name : jinja::identifier {
    Name(jinja::identifier && old, Binder & binder)
        : identifier(std::move(old)), number(binder.names.number(val)), otherwise(jinja::mk_val<jinja::value_undefined>(val)) {
        binder.name_read(val);
        const auto & functions = jinja::global_builtins();
        const auto function = functions.find(val);
        if (function != functions.end()) {
            otherwise = jinja::mk_val<jinja::value_func>(val, function->second);
        }
    }

    jinja::value execute_impl(jinja::context & ctx) const override {
        tick();
        Scope & scope = scope_of(ctx);
        if (number == scope.names().opens_answer) {
            scope.see_opening();
        }
        jinja::value found = scope.get(number);
        if (found->is_undefined()) {
            return otherwise;
        }
        if (ctx.is_get_stats) {
            jinja::value_t::stats_t::mark_used(found);
        }
        charge_value(found);
        return found;
    }

    size_t number;
    jinja::value otherwise;
};

// Made once: no function changes a string or a number in place.
template <typename Old>
struct Literal : Old {
    Literal(Old && old, Binder & binder) : Old(std::move(old)) {
        jinja::context none;
        held = Old::execute_impl(none);
        if constexpr (std::is_same_v<Old, jinja::string_literal>) {
            binder.name_called(this->val);
        }
    }

    jinja::value execute_impl(jinja::context &) const override { return held; }

    jinja::value held;
};

struct Member : jinja::member_expression {
    Member(jinja::member_expression && old, Binder & binder) : member_expression(std::move(old)) {
        slices = jinja::is_stmt<jinja::slice_expression>(property);
        const auto * fixed = jinja::cast_stmt<jinja::identifier>(property);
        if (!computed && fixed != nullptr) {
            name = jinja::mk_val<jinja::value_string>(fixed->val);
            text = fixed->val;
            absent = jinja::mk_val<jinja::value_undefined>(text);
            binder.name_called(text);
        }
    }

    // What is not a name after a dot, or an expression in brackets, is rare enough to be left to llama.cpp; so is counting for
    // jinja::caps_get.
    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        if (ctx.is_get_stats || slices || (!computed && name == nullptr)) {
            return member_expression::execute_impl(ctx);
        }
        const jinja::value of = object->execute(ctx);
        if (computed) {
            return computed_member(of, property->execute(ctx));
        }
        if (jinja::value function = function_of(of, text)) {
            return function;
        }
        if (jinja::is_val<jinja::value_object>(of)) {
            jinja::value none = absent;
            return of->at(name, none);
        }
        return absent;
    }

    // The built-in function of the value, NULL where it has none of this name.
    static jinja::value function_of(const jinja::value & of, const std::string & called) {
        const auto & functions = of->get_builtins();
        const auto found = functions.find(called);
        return found == functions.end() ? nullptr : jinja::mk_val<jinja::value_func>(called, found->second, of);
    }

    static jinja::value computed_member(const jinja::value & of, const jinja::value & key) {
        jinja::value none = jinja::mk_val<jinja::value_undefined>("object_property");
        if (key->is_undefined()) {
            return none;
        }
        if (!key->is_hashable()) {
            throw std::runtime_error("Type: " + key->type() + " is not allowed as object key");
        }
        if (of->is_undefined()) {
            return none;
        }
        const bool numbered = jinja::is_val<jinja::value_int>(key) || jinja::is_val<jinja::value_bool>(key);
        if (jinja::is_val<jinja::value_object>(of)) {
            const jinja::value found = of->at(key, none);
            if (!found->is_undefined()) {
                return found;
            }
        } else if (jinja::is_val<jinja::value_array>(of)) {
            if (numbered) {
                return of->at(key->as_int(), none);
            }
            if (!is_text(key)) {
                return none;
            }
        } else if (is_text(of)) {
            if (numbered) {
                return character(of->val_str.str(), key->as_int(), none);
            }
            if (!is_text(key)) {
                return none;
            }
        } else if (!is_text(key)) {
            throw std::runtime_error("Cannot access property with non-string: got " + key->type());
        }
        const std::string called = key->as_string().str();
        jinja::value function = function_of(of, called);
        return function != nullptr ? function : jinja::mk_val<jinja::value_undefined>(called);
    }

    static jinja::value character(const std::string & of, int64_t at, const jinja::value & none) {
        return at >= 0 && at < static_cast<int64_t>(of.size())
                   ? jinja::mk_val<jinja::value_string>(std::string(1, of[static_cast<size_t>(at)]))
                   : none;
    }

    bool slices = false;
    jinja::value name;  // after a dot; NULL: computed
    std::string text;
    jinja::value absent;
};

void bind_member(jinja::member_expression & n, Binder & binder) {
    const auto * object = jinja::cast_stmt<jinja::identifier>(n.object);
    const auto * property = jinja::cast_stmt<jinja::identifier>(n.property);
    const bool of_loop = object != nullptr && object->val == "loop" && !n.computed && property != nullptr;
    const bool as_value = binder.names.loop_as_value;
    binder.bind(n.object);
    if (of_loop) {
        binder.names.loop_as_value = as_value;
        binder.names.loop_members.insert(property->val);
    }
    if (n.computed) {
        binder.bind(n.property);
    }
}

void bind_slice(jinja::slice_expression & n, Binder & binder) {
    binder.bind(n.start_expr);
    binder.bind(n.stop_expr);
    binder.bind(n.step_expr);
}

}  // namespace

bool bind_expression(jinja::statement_ptr & node, Binder & binder) {
    using namespace jinja;
    const auto nothing = [](auto &) {};
    const auto values = [&](auto & n) { binder.bind(n.val); };
    if (typeid(*node) == typeid(slice_expression)) {
        bind_slice(static_cast<slice_expression &>(*node), binder);
        return true;
    }
    if (typeid(*node) == typeid(spread_expression)) {
        binder.bind(static_cast<spread_expression &>(*node).argument);
        return true;
    }
    return replaced<identifier, Name>(node, binder, nothing) ||
           replaced<string_literal, Literal<string_literal>>(node, binder, nothing) ||
           replaced<integer_literal, Literal<integer_literal>>(node, binder, nothing) ||
           replaced<float_literal, Literal<float_literal>>(node, binder, nothing) ||
           replaced<member_expression, Member>(node, binder, [&](auto & n) { bind_member(n, binder); }) ||
           replaced<array_literal, Nested<array_literal>>(node, binder, values) ||
           replaced<tuple_literal, Nested<tuple_literal>>(node, binder, values) ||
           replaced<object_literal, Nested<object_literal>>(node, binder,
                                                            [&](auto & n) {
                                                                for (auto & [key, value] : n.val) {
                                                                    binder.bind(key);
                                                                    binder.bind(value);
                                                                }
                                                            }) ||
           replaced<keyword_argument_expression, Nested<keyword_argument_expression>>(node, binder, values);
}

}  // namespace shimmy
