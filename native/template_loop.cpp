// Loops of templates.
#include "template_node.h"

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>

namespace shimmy {

namespace {

using Items = std::vector<jinja::value>;

jinja::value number(size_t n) { return jinja::mk_val<jinja::value_int>(static_cast<int64_t>(n)); }

jinja::value neighbour(const Items & items, size_t i, const char * called) {
    return i < items.size() ? items[i] : jinja::mk_val<jinja::value_undefined>(called);
}

// What `loop` knows of the item `i`.
struct LoopMember {
    const char * name;
    jinja::value (*value)(const Items & items, size_t i);
};
constexpr std::array<LoopMember, 9> loop_members{{
    {"index", [](const Items &, size_t i) { return number(i + 1); }},
    {"index0", [](const Items &, size_t i) { return number(i); }},
    {"revindex", [](const Items & items, size_t i) { return number(items.size() - i); }},
    {"revindex0", [](const Items & items, size_t i) { return number(items.size() - i - 1); }},
    {"first", [](const Items &, size_t i) { return truth(i == 0); }},
    {"last", [](const Items & items, size_t i) { return truth(i + 1 == items.size()); }},
    {"length", [](const Items & items, size_t) { return number(items.size()); }},
    {"previtem", [](const Items & items, size_t i) { return neighbour(items, i == 0 ? items.size() : i - 1, "previtem"); }},
    {"nextitem", [](const Items & items, size_t i) { return neighbour(items, i + 1, "nextitem"); }},
}};

struct For : jinja::for_statement, Writing {
    For(jinja::for_statement && old, Binder & binder)
        : for_statement(std::move(old)),
          select(jinja::cast_stmt<jinja::select_expression>(iterable)),
          targets(loopvar, binder),
          inside(body),
          otherwise(default_block),
          loop(binder.names.number("loop")) {
        for (const LoopMember & member : loop_members) {
            keys.push_back(jinja::mk_val<jinja::value_string>(member.name));
        }
    }

    void write(Scope & scope, std::string & out) const override {
        if (!write_items(scope, out)) {
            otherwise.write(scope, out);
        }
    }

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        std::string out;
        write(scope_of(ctx), out);
        return jinja::mk_val<jinja::value_string>(out);
    }

    // Whether the body got to its end for one.
    bool write_items(Scope & scope, std::string & out) const {
        const Scope::Inner inner(scope);
        const Items items = wanted(scope);
        bool ended = false;
        for (size_t i = 0; i < items.size(); ++i) {
            tell(items, i, scope);
            targets.set(items[i], scope);
            size_t whole = out.size();  // without the statement that breaks off, as llama.cpp has it
            try {
                for (size_t at = 0; at < inside.size(); ++at) {
                    whole = out.size();
                    inside.write(scope, out, at, at + 1);
                }
            } catch (const jinja::continue_statement::signal &) {
                out.resize(whole);
                continue;
            } catch (const jinja::break_statement::signal &) {
                out.resize(whole);
                break;
            }
            ended = true;
        }
        return ended;
    }

    Items wanted(Scope & scope) const {
        Items items = all(scope);
        if (!items.empty() && targets.none()) {
            throw std::runtime_error("Invalid loop variable(s): " + loopvar->type());
        }
        if (select != nullptr) {
            const auto unwanted = [&](const jinja::value & item) {
                const Scope::Inner trial(scope);
                targets.set(item, scope);
                return !select->test->execute(scope)->as_bool();
            };
            items.erase(std::remove_if(items.begin(), items.end(), unwanted), items.end());
        }
        return items;
    }

    Items all(Scope & scope) const {
        jinja::value from = (select != nullptr ? select->lhs : iterable)->execute(scope);
        if (scope.is_get_stats) {
            jinja::value_t::stats_t::mark_used(from);
            from->stats.ops.insert("array_access");
        }
        if (from->is_undefined()) {
            return {};
        }
        if (jinja::is_val<jinja::value_array>(from)) {
            return from->as_array();
        }
        if (!jinja::is_val<jinja::value_object>(from)) {
            throw std::runtime_error("Expected iterable or object type in for loop: got " + from->type());
        }
        if (scope.is_get_stats) {
            from->stats.ops.insert("object_access");
        }
        Items items;
        for (const auto & pair : from->as_ordered_object()) {
            items.push_back(targets.several() ? jinja::mk_val<jinja::value_tuple>(pair) : pair.first);
        }
        return items;
    }

    // Sets `loop`, with the members that the template reads: each is dear to make.
    void tell(const Items & items, size_t i, Scope & scope) const {
        const Names & names = scope.names();
        if (names.loop_members.empty() && !names.loop_as_value) {
            return;
        }
        auto now = jinja::mk_val<jinja::value_object>();
        now->has_builtins = false;
        for (size_t m = 0; m < loop_members.size(); ++m) {
            if (names.loop_as_value || names.loop_members.count(loop_members[m].name) > 0) {
                static_cast<jinja::value_t &>(*now).insert(keys[m], loop_members[m].value(items, i));
            }
        }
        scope.set(loop, now);
    }

    const jinja::select_expression * select;  // `for x in y if z`; NULL: all
    Targets targets;
    Body inside;
    Body otherwise;
    size_t loop;
    std::vector<jinja::value> keys;
};

}  // namespace

bool bind_loop(jinja::statement_ptr & node, Binder & binder) {
    return replaced<jinja::for_statement, For>(node, binder, [&](auto & n) {
        binder.bind_target(n.loopvar);
        binder.bind(n.iterable);
        binder.bind(n.body);
        binder.bind(n.default_block);
    });
}

}  // namespace shimmy
