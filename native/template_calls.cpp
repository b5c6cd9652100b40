// Functions and filters of templates.
#include "template_growth.h"
#include "template_node.h"

#include <array>
#include <stdexcept>

namespace shimmy {

namespace {

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
    if (bounds[2] != 0.0) {
        require_range((bounds[1] - bounds[0]) / bounds[2]);
    }
}

// As value_func_t::invoke, with a look at what would come out. `self`: what the function belongs to; NULL: nothing.
jinja::value invoke(const std::string & name, const jinja::func_handler & function, const jinja::value & self,
                    jinja::func_args & args) {
    args.func_name = name;
    if (self) {
        args.push_front(self);
    } else if (name == "range") {
        require_short_range(args);
    }
    if (may_grow(name)) {
        require_size(grown_size(name, args));
    }
    jinja::value result = function(args);
    charge_value(result);
    return result;
}

struct Call : jinja::call_expression {
    Call(jinja::call_expression && old, Binder & binder) : call_expression(std::move(old)) { ++binder.calls; }

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
        const jinja::value_func_t & f = *jinja::cast_val<jinja::value_func>(function);
        return invoke(f.name, f.val_func, f.arg0, given);
    }
};

std::string plain_name(const std::string & name) {
    static const std::array<std::pair<const char *, const char *>, 4> aliases{
        {{"count", "length"}, {"d", "default"}, {"e", "escape"}, {"trim", "strip"}}};
    for (const auto & [alias, of] : aliases) {
        if (name == alias) {
            return of;
        }
    }
    return name;
}

// A filter as apply_filter of llama.cpp takes it.
class Application {
  public:
    Application(const jinja::statement_ptr & filter, Binder & binder) {
        call_ = jinja::cast_stmt<jinja::call_expression>(filter);
        const auto * name = jinja::cast_stmt<jinja::identifier>(call_ != nullptr ? call_->callee : filter);
        if (name != nullptr) {
            name_ = plain_name(name->val);
            binder.name_called(name_);
        }
        static const std::array<const char *, 7> takes_text{"capitalize", "lower", "replace",  "strip",
                                                            "title",      "upper", "wordcount"};
        for (const char * text : takes_text) {
            as_text_ |= name_ == text && (call_ == nullptr || name_ == "replace");
        }
    }

    jinja::value to(jinja::value input, jinja::context & ctx) const {
        if (name_.empty()) {
            throw std::runtime_error(call_ != nullptr ? "Filter callee must be an identifier" : "Invalid filter expression");
        }
        if (as_text_ && !input->is_undefined() && !is_text(input)) {
            input = jinja::mk_val<jinja::value_string>(input->as_string());
        }
        jinja::func_args given(ctx);
        if (call_ != nullptr) {
            for (const jinja::statement_ptr & arg : call_->args) {
                given.push_back(arg->execute(ctx));
            }
        }
        if (ctx.is_get_stats) {
            jinja::value_t::stats_t::mark_used(input);
            input->stats.ops.insert(name_);
        }
        const auto & functions = input->get_builtins();
        const auto function = functions.find(name_);
        if (function == functions.end()) {
            throw std::runtime_error("Unknown (built-in) filter '" + name_ + "' for type " + input->type());
        }
        return invoke(name_, function->second, input, given);
    }

  private:
    const jinja::call_expression * call_;
    std::string name_;
    bool as_text_ = false;
};

struct Filter : jinja::filter_expression {
    Filter(jinja::filter_expression && old, Binder & binder) : filter_expression(std::move(old)), application(filter, binder) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return application.to(operand->execute(ctx), ctx);
    }

    Application application;
};

struct FilterBlock : jinja::filter_statement {
    FilterBlock(jinja::filter_statement && old, Binder & binder)
        : filter_statement(std::move(old)), application(filter, binder), inside(body) {}

    jinja::value execute_impl(jinja::context & ctx) const override {
        const Step step;
        return application.to(inside.text(scope_of(ctx)), ctx);
    }

    Application application;
    Body inside;
};

}  // namespace

bool bind_call(jinja::statement_ptr & node, Binder & binder) {
    using namespace jinja;
    return replaced<call_expression, Call>(node, binder,
                                           [&](auto & n) {
                                               binder.bind(n.callee);
                                               binder.bind(n.args);
                                           }) ||
           replaced<filter_expression, Filter>(node, binder,
                                               [&](auto & n) {
                                                   binder.bind(n.operand);
                                                   binder.bind_arguments(n.filter);
                                               }) ||
           replaced<filter_statement, FilterBlock>(node, binder, [&](auto & n) {
               binder.bind_arguments(n.filter);
               binder.bind(n.body);
           });
}

}  // namespace shimmy
