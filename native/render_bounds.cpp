#include "render_bounds.h"

#include "template_growth.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>

namespace shimmy {

namespace {

using clock = std::chrono::steady_clock;

constexpr size_t max_string = size_t{64} << 20;  // bytes of one string, and of a list's entries
constexpr size_t max_total = size_t{512} << 20;  // bytes of all strings that a render makes or shows
constexpr size_t part_bytes = 48;                // of a piece of a string, each repetition is one
constexpr int64_t max_range = 1'000'000;         // numbers in one range()
constexpr uint32_t steps_between_looks = 64;     // at the clock
constexpr uint32_t max_depth = 1000;             // nodes within one another; a node takes about 1.5 KB of the stack

struct Budget {
    clock::time_point end;
    size_t bytes = 0;
    uint32_t steps = 0;
    uint32_t depth = 0;
    const char * spent = nullptr;  // what ran out
    bool set = false;
};

thread_local Budget budget;

[[noreturn]] void overrun(const char * what) {
    budget.spent = what;
    throw std::runtime_error(what);
}

constexpr const char * grows = "its text grows without end";

// One step of a render. What ran out once stays so: llama.cpp's analysis of a template catches errors and goes on.
void tick() {
    if (!budget.set) {
        return;
    }
    if (budget.spent != nullptr) {
        overrun(budget.spent);
    }
    if (++budget.steps % steps_between_looks == 0 && clock::now() > budget.end) {
        overrun("it takes too long");
    }
}

// A node within another one.
class Step {
  public:
    Step() {
        tick();
        if (budget.depth >= max_depth) {
            overrun("it calls itself without end, or nests too deep");
        }
        ++budget.depth;
    }
    ~Step() { --budget.depth; }
    Step(const Step &) = delete;
    Step & operator=(const Step &) = delete;
};

void charge(size_t bytes) {
    budget.bytes += std::min(bytes, max_total);
    if (bytes > max_string || budget.bytes > max_total) {
        overrun(grows);
    }
}

jinja::value counted(jinja::value value) {
    if (budget.set && jinja::is_val<jinja::value_string>(value)) {
        charge(value->val_str.length());
    } else if (budget.set && jinja::is_val<jinja::value_array>(value) &&
               value->val_arr.size() > max_string / sizeof(jinja::value)) {
        overrun(grows);
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

// A node of llama.cpp's with a step before.
template <typename Node>
struct Nested : Node {
    explicit Nested(Node && node) : Node(std::move(node)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return Node::execute_impl(ctx);
    }
};

// And with its string counted after it.
template <typename Node>
struct Bounded : Node {
    explicit Bounded(Node && node) : Node(std::move(node)) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return counted(Node::execute_impl(ctx));
    }
};

// An operand that has been computed.
struct Constant : jinja::expression {
    explicit Constant(jinja::value v) : held(std::move(v)) {}

    jinja::value execute_impl(jinja::context &) const override { return held; }

    jinja::value held;
};

struct Operation : Bounded<jinja::binary_expression> {
    using Bounded::Bounded;

    // Repeating a string is one operation, however often.
    jinja::value execute_impl(jinja::context & ctx) const override {
        if (!budget.set || op.value != "*") {
            return Bounded::execute_impl(ctx);
        }
        const Step step;
        const jinja::value a = left->execute(ctx);
        const jinja::value b = right->execute(ctx);
        const bool text_first = jinja::is_val<jinja::value_string>(a);
        const jinja::value & text = text_first ? a : b;
        const jinja::value & times = text_first ? b : a;
        if (jinja::is_val<jinja::value_string>(text) && jinja::is_val<jinja::value_int>(times) && times->as_int() > 0 &&
            text->val_str.length() + part_bytes * text->val_str.parts.size() > max_string / static_cast<size_t>(times->as_int())) {
            overrun(grows);
        }
        const jinja::binary_expression product(op, std::make_unique<Constant>(a), std::make_unique<Constant>(b));
        return counted(product.jinja::binary_expression::execute_impl(ctx));
    }
};

void require_short_range(const jinja::func_args & args) {
    double bounds[3] = {0.0, 0.0, 1.0};
    for (size_t i = 0; i < args.count() && i < 3; ++i) {
        const jinja::value v = args.get_pos(i);
        if (!jinja::is_val<jinja::value_int>(v)) {
            return;  // llama.cpp's range() says what is wrong
        }
        bounds[i] = static_cast<double>(v->as_int());
    }
    if (args.count() == 1) {
        std::swap(bounds[0], bounds[1]);
    }
    if (bounds[2] != 0.0 && (bounds[1] - bounds[0]) / bounds[2] > static_cast<double>(max_range)) {
        overrun("a range() of it is too long");
    }
}

// As value_func_t::invoke, with a look at what would come out.
jinja::value invoke(const jinja::value_func_t & function, jinja::func_args args) {
    args.func_name = function.name;
    if (function.arg0) {
        args.push_front(function.arg0);
    }
    if (budget.set) {
        if (function.name == "range" && !function.arg0) {
            require_short_range(args);
        }
        if (grown_size(function.name, args) > max_string) {
            overrun(grows);
        }
    }
    return function.val_func(args);
}

struct Call : Bounded<jinja::call_expression> {
    using Bounded::Bounded;

    // As call_expression::execute_impl.
    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        jinja::func_args given(ctx);
        for (const jinja::statement_ptr & arg : args) {
            given.push_back(arg->execute(ctx));
        }
        const jinja::value function = callee->execute(ctx);
        if (!jinja::is_val<jinja::value_func>(function)) {
            throw std::runtime_error("Callee is not a function: got " + function->type());
        }
        return counted(invoke(*jinja::cast_val<jinja::value_func>(function), std::move(given)));
    }
};

// {% call %} of what is no macro would go past invoke(), and has no use.
struct CallBlock : Nested<jinja::call_statement> {
    using Nested::Nested;

    jinja::value execute_impl(jinja::context & ctx) const override {
        const jinja::value function = jinja::cast_stmt<jinja::call_expression>(call)->callee->execute(ctx);
        if (jinja::is_val<jinja::value_func>(function)) {
            const jinja::value_func_t & f = *jinja::cast_val<jinja::value_func>(function);
            if (f.arg0 || jinja::global_builtins().count(f.name) > 0) {
                throw std::runtime_error("{% call %} needs a macro, and " + f.name + " is none");
            }
        }
        return counted(Nested::execute_impl(ctx));
    }
};

const jinja::identifier * name_of(const jinja::statement_ptr & filter) {
    const auto * call = jinja::cast_stmt<jinja::call_expression>(filter);
    return jinja::cast_stmt<jinja::identifier>(call != nullptr ? call->callee : filter);
}

bool is_growing(const jinja::statement_ptr & filter) {
    const jinja::identifier * name = name_of(filter);
    return budget.set && name != nullptr && may_grow(name->val);
}

// As apply_filter of llama.cpp.
jinja::value apply_growing(jinja::context & ctx, const jinja::statement_ptr & filter, jinja::value input) {
    const std::string & name = name_of(filter)->val;
    if (name == "replace" && !input->is_undefined() && !jinja::is_val<jinja::value_string>(input)) {
        input = jinja::mk_val<jinja::value_string>(input->as_string());
    }
    jinja::func_args given(ctx);
    if (const auto * call = jinja::cast_stmt<jinja::call_expression>(filter)) {
        for (const jinja::statement_ptr & arg : call->args) {
            given.push_back(arg->execute(ctx));
        }
    }
    if (ctx.is_get_stats) {
        jinja::value_t::stats_t::mark_used(input);
        input->stats.ops.insert(name);
    }
    const auto & functions = input->get_builtins();
    const auto function = functions.find(name);
    if (function == functions.end()) {
        throw std::runtime_error("Unknown (built-in) filter '" + name + "' for type " + input->type());
    }
    return invoke(jinja::value_func_t(name, function->second, input), std::move(given));
}

struct Filter : Bounded<jinja::filter_expression> {
    using Bounded::Bounded;

    jinja::value execute_impl(jinja::context & ctx) const override {
        if (!is_growing(filter)) {
            return Bounded::execute_impl(ctx);
        }
        const Step step;
        return counted(apply_growing(ctx, filter, operand->execute(ctx)));
    }
};

struct FilterBlock : Bounded<jinja::filter_statement> {
    using Bounded::Bounded;

    jinja::value execute_impl(jinja::context & ctx) const override {
        if (!is_growing(filter)) {
            return Bounded::execute_impl(ctx);
        }
        const Step step;
        auto parts = jinja::mk_val<jinja::value_array>();
        for (const jinja::statement_ptr & part : body) {
            parts->push_back(part->execute(ctx));
        }
        return counted(apply_growing(ctx, filter, jinja::runtime::gather_string_parts(parts)));
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
    return replaced<for_statement, Bounded<for_statement>>(node,
                                                           [](auto & n) {
                                                               bound(n.loopvar), bound(n.iterable), bound(n.body);
                                                               bound(n.default_block);
                                                           }) ||
           replaced<filter_statement, FilterBlock>(node, [](auto & n) { bound(n.filter), bound(n.body); }) ||
           replaced<if_statement, Nested<if_statement>>(
               node, [](auto & n) { bound(n.test), bound(n.body), bound(n.alternate); }) ||
           replaced<set_statement, Nested<set_statement>>(
               node, [](auto & n) { bound(n.assignee), bound(n.val), bound(n.body); }) ||
           replaced<macro_statement, Nested<macro_statement>>(
               node, [](auto & n) { bound(n.name), bound(n.args), bound(n.body); }) ||
           replaced<call_statement, CallBlock>(node, [](auto & n) { bound(n.call), bound(n.caller_args), bound(n.body); });
}

bool bound_operation(jinja::statement_ptr & node) {
    using namespace jinja;
    return replaced<binary_expression, Operation>(node, [](auto & n) { bound(n.left), bound(n.right); }) ||
           replaced<filter_expression, Filter>(node, [](auto & n) { bound(n.operand), bound(n.filter); }) ||
           replaced<call_expression, Call>(node, [](auto & n) { bound(n.callee), bound(n.args); }) ||
           replaced<member_expression, Nested<member_expression>>(
               node, [](auto & n) { bound(n.object), bound(n.property); }) ||
           replaced<select_expression, Nested<select_expression>>(node, [](auto & n) { bound(n.lhs), bound(n.test); }) ||
           replaced<test_expression, Nested<test_expression>>(node, [](auto & n) { bound(n.operand), bound(n.test); }) ||
           replaced<unary_expression, Nested<unary_expression>>(node, [](auto & n) { bound(n.argument); }) ||
           replaced<ternary_expression, Nested<ternary_expression>>(
               node, [](auto & n) { bound(n.condition), bound(n.true_expr), bound(n.false_expr); });
}

bool bound_parts(jinja::statement_ptr & node) {
    using namespace jinja;
    return replaced<array_literal, Nested<array_literal>>(node, [](auto & n) { bound(n.val); }) ||
           replaced<tuple_literal, Nested<tuple_literal>>(node, [](auto & n) { bound(n.val); }) ||
           replaced<object_literal, Nested<object_literal>>(node,
                                                            [](auto & n) {
                                                                for (auto & [key, val] : n.val) {
                                                                    bound(key), bound(val);
                                                                }
                                                            }) ||
           visited<slice_expression>(
               node, [](auto & n) { bound(n.start_expr), bound(n.stop_expr), bound(n.step_expr); }) ||
           replaced<keyword_argument_expression, Nested<keyword_argument_expression>>(
               node, [](auto & n) { bound(n.key), bound(n.val); }) ||
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

void RenderBounds::require_unspent() {
    if (budget.set && budget.spent != nullptr) {
        overrun(budget.spent);
    }
}

void bound_program(jinja::program & program) { bound(program.body); }

}  // namespace shimmy
