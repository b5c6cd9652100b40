#include "render_bounds.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>

namespace shimmy {

namespace {

using clock = std::chrono::steady_clock;

constexpr size_t max_string = size_t{64} << 20;  // bytes of one string
constexpr size_t max_total = size_t{512} << 20;  // bytes of all strings that a render makes or shows
constexpr int64_t max_range = 1'000'000;         // numbers in one range()
constexpr uint32_t steps_between_looks = 64;     // at the clock

struct Budget {
    clock::time_point end;
    size_t bytes = 0;
    uint32_t steps = 0;
    bool spent = false;
    bool set = false;
};

thread_local Budget budget;

[[noreturn]] void overrun(const char * what) {
    budget.spent = true;
    throw std::runtime_error(what);
}

// One step of a render. What ran out once stays so: llama.cpp's analysis of a template catches errors and goes on.
void tick() {
    if (!budget.set) {
        return;
    }
    if (budget.spent || (++budget.steps % steps_between_looks == 0 && clock::now() > budget.end)) {
        overrun("it takes too long");
    }
}

jinja::value counted(jinja::value value) {
    if (budget.set && jinja::is_val<jinja::value_string>(value)) {
        const size_t size = value->val_str.length();
        budget.bytes += size;
        if (size > max_string || budget.bytes > max_total) {
            overrun("its text grows without end");
        }
    }
    return value;
}

struct Name : jinja::identifier {
    using jinja::identifier::identifier;

    jinja::value execute_impl(jinja::context & ctx) const override {
        tick();
        jinja::value found = ctx.get_val(val);
        if (!found->is_undefined()) {
            if (ctx.is_get_stats) {
                jinja::value_t::stats_t::mark_used(found);
            }
            return counted(std::move(found));
        }
        const auto & functions = jinja::global_builtins();
        const auto function = functions.find(val);
        if (function != functions.end()) {
            return jinja::mk_val<jinja::value_func>(val, function->second);
        }
        return jinja::mk_val<jinja::value_undefined>(val);
    }
};

// A node of llama.cpp's with a step before and its string counted after it.
template <typename Node>
struct Bounded : Node {
    explicit Bounded(Node && node) : Node(std::move(node)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        tick();
        return counted(Node::execute_impl(ctx));
    }
};

struct Product : Bounded<jinja::binary_expression> {
    using Bounded::Bounded;

    // Repeating a string is one operation, however often.
    jinja::value execute_impl(jinja::context & ctx) const override {
        if (budget.set && op.value == "*") {
            const jinja::value a = left->execute(ctx);
            const jinja::value b = right->execute(ctx);
            const bool text_first = jinja::is_val<jinja::value_string>(a);
            const jinja::value & text = text_first ? a : b;
            const jinja::value & times = text_first ? b : a;
            if (jinja::is_val<jinja::value_string>(text) && jinja::is_val<jinja::value_int>(times) && times->as_int() > 0 &&
                (text->val_str.length() + 1) > max_string / static_cast<size_t>(times->as_int())) {
                overrun("its text grows without end");
            }
        }
        return Bounded::execute_impl(ctx);
    }
};

struct Call : Bounded<jinja::call_expression> {
    using Bounded::Bounded;

    jinja::value execute_impl(jinja::context & ctx) const override {
        if (budget.set && jinja::is_stmt<jinja::identifier>(callee) &&
            jinja::cast_stmt<jinja::identifier>(callee)->val == "range") {
            require_short_range(ctx);
        }
        return Bounded::execute_impl(ctx);
    }

  private:
    void require_short_range(jinja::context & ctx) const {
        double bounds[3] = {0.0, 0.0, 1.0};
        for (size_t i = 0; i < args.size() && i < 3; ++i) {
            const jinja::value v = args[i]->execute(ctx);
            if (!jinja::is_val<jinja::value_int>(v)) {
                return;  // llama.cpp's range() says what is wrong
            }
            bounds[i] = static_cast<double>(v->as_int());
        }
        if (args.size() == 1) {
            std::swap(bounds[0], bounds[1]);
        }
        if (bounds[2] != 0.0 && (bounds[1] - bounds[0]) / bounds[2] > static_cast<double>(max_range)) {
            overrun("a range() of it is too long");
        }
    }
};

void bound(jinja::statement_ptr & node);

void bound(jinja::statements & nodes) {
    for (jinja::statement_ptr & node : nodes) {
        bound(node);
    }
}

// Whether `node` is exactly a `Node`; then `visit` goes on with its children, and `Counting` takes its place.
template <typename Node, typename Counting, typename Visit>
bool replaced(jinja::statement_ptr & node, Visit && visit) {
    if (typeid(*node) != typeid(Node)) {
        return false;
    }
    Node & old = static_cast<Node &>(*node);
    visit(old);
    const size_t pos = old.pos;
    auto counting = std::make_unique<Counting>(std::move(old));
    counting->pos = pos;
    node = std::move(counting);
    return true;
}

template <typename Node, typename Visit>
bool visited(jinja::statement_ptr & node, Visit && visit) {
    if (typeid(*node) != typeid(Node)) {
        return false;
    }
    visit(static_cast<Node &>(*node));
    return true;
}

bool bound_statement(jinja::statement_ptr & node) {
    using namespace jinja;
    return replaced<for_statement, Bounded<for_statement>>(node, [](auto & n) {
               bound(n.loopvar), bound(n.iterable), bound(n.body), bound(n.default_block);
           }) ||
           replaced<filter_statement, Bounded<filter_statement>>(node, [](auto & n) { bound(n.filter), bound(n.body); }) ||
           visited<if_statement>(node, [](auto & n) { bound(n.test), bound(n.body), bound(n.alternate); }) ||
           visited<set_statement>(node, [](auto & n) { bound(n.assignee), bound(n.val), bound(n.body); }) ||
           visited<macro_statement>(node, [](auto & n) { bound(n.name), bound(n.args), bound(n.body); }) ||
           visited<call_statement>(node, [](auto & n) { bound(n.call), bound(n.caller_args), bound(n.body); });
}

bool bound_operation(jinja::statement_ptr & node) {
    using namespace jinja;
    return replaced<binary_expression, Product>(node, [](auto & n) { bound(n.left), bound(n.right); }) ||
           replaced<filter_expression, Bounded<filter_expression>>(
               node, [](auto & n) { bound(n.operand), bound(n.filter); }) ||
           replaced<call_expression, Call>(node, [](auto & n) { bound(n.callee), bound(n.args); }) ||
           visited<member_expression>(node, [](auto & n) { bound(n.object), bound(n.property); }) ||
           visited<select_expression>(node, [](auto & n) { bound(n.lhs), bound(n.test); }) ||
           visited<test_expression>(node, [](auto & n) { bound(n.operand), bound(n.test); }) ||
           visited<unary_expression>(node, [](auto & n) { bound(n.argument); }) ||
           visited<ternary_expression>(
               node, [](auto & n) { bound(n.condition), bound(n.true_expr), bound(n.false_expr); });
}

bool bound_parts(jinja::statement_ptr & node) {
    using namespace jinja;
    return visited<array_literal>(node, [](auto & n) { bound(n.val); }) ||
           visited<tuple_literal>(node, [](auto & n) { bound(n.val); }) ||
           visited<object_literal>(node,
                                   [](auto & n) {
                                       for (auto & [key, val] : n.val) {
                                           bound(key), bound(val);
                                       }
                                   }) ||
           visited<slice_expression>(
               node, [](auto & n) { bound(n.start_expr), bound(n.stop_expr), bound(n.step_expr); }) ||
           visited<keyword_argument_expression>(node, [](auto & n) { bound(n.key), bound(n.val); }) ||
           visited<spread_expression>(node, [](auto & n) { bound(n.argument); });
}

void bound(jinja::statement_ptr & node) {
    if (node == nullptr) {
        return;
    }
    if (typeid(*node) == typeid(jinja::identifier)) {
        auto name = std::make_unique<Name>(static_cast<jinja::identifier &>(*node).val);
        name->pos = node->pos;
        node = std::move(name);
        return;
    }
    if (!bound_statement(node) && !bound_operation(node)) {
        bound_parts(node);
    }
}

}  // namespace

RenderBounds::RenderBounds(double seconds) : outer_(!budget.set) {
    if (outer_) {
        budget = Budget{};
        budget.set = true;
        budget.end = clock::now() + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
    }
}

RenderBounds::~RenderBounds() {
    if (outer_) {
        budget.set = false;
    }
}

void bound_program(jinja::program & program) { bound(program.body); }

}  // namespace shimmy
