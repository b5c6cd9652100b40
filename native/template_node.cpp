#include "template_node.h"

#include <stdexcept>

namespace shimmy {

namespace {

// Throws what statement::execute makes of an error: it says where.
struct Failure : jinja::statement {
    Failure(const jinja::statement & at, const char * what) : kind(at.type()), said(what) { pos = at.pos; }

    std::string type() const override { return kind; }
    jinja::value execute_impl(jinja::context &) const override { throw std::runtime_error(said); }

    std::string kind;
    std::string said;
};

void write_statement(const jinja::statement & node, const Writing & writing, Scope & scope, std::string & out) {
    const Step step;
    try {
        writing.write(scope, out);
    } catch (const jinja::continue_statement::signal &) {
        throw;
    } catch (const jinja::break_statement::signal &) {
        throw;
    } catch (const jinja::rethrown_exception &) {
        throw;
    } catch (const jinja::not_implemented_exception &) {
        throw;
    } catch (const std::exception & e) {
        Failure(node, e.what()).execute(scope);
    }
}

}  // namespace

void show(const jinja::value & v, std::string & out) {
    if (is_text(v)) {
        charge(v->val_str.length());
        for (const jinja::string_part & part : v->val_str.parts) {
            out += part.val;
        }
        require_size(out.size());
    } else if (jinja::is_val<jinja::value_int>(v) || jinja::is_val<jinja::value_float>(v) || jinja::is_val<jinja::value_bool>(v)) {
        out += v->as_string().str();
    } else if (jinja::is_val<jinja::value_array>(v)) {
        const Step step;
        const std::vector<jinja::value> items = v->as_array();
        for (const jinja::value & item : items) {
            show(item, out);
        }
    }
}

Body::Body(const jinja::statements & statements) {
    for (const jinja::statement_ptr & node : statements) {
        parts_.push_back({node.get(), dynamic_cast<const Writing *>(node.get())});
    }
}

void Body::write(Scope & scope, std::string & out, size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
        const Part & part = parts_[i];
        if (part.writing != nullptr) {
            write_statement(*part.node, *part.writing, scope, out);
        } else {
            show(part.node->execute(scope), out);
        }
    }
}

jinja::value Body::text(Scope & scope) const {
    std::string out;
    write(scope, out);
    charge(out.size());
    return jinja::mk_val<jinja::value_string>(out);
}

Targets::Targets(const jinja::statement_ptr & node, Binder & binder) {
    if (const auto * name = jinja::cast_stmt<jinja::identifier>(node)) {
        numbers_.push_back(binder.names.number(name->val));
    } else if (const auto * tuple = jinja::cast_stmt<jinja::tuple_literal>(node)) {
        several_ = true;
        for (const jinja::statement_ptr & part : tuple->val) {
            const auto * part_name = jinja::cast_stmt<jinja::identifier>(part);
            unnamed_ |= part_name == nullptr;
            numbers_.push_back(binder.names.number(part_name != nullptr ? part_name->val : ""));
        }
    }
}

void Targets::set(const jinja::value & v, Scope & scope) const {
    if (!several_) {
        scope.set(numbers_.front(), v);
        return;
    }
    if (!jinja::is_val<jinja::value_array>(v)) {
        throw std::runtime_error("Cannot unpack non-iterable type: " + v->type());
    }
    const std::vector<jinja::value> & items = v->as_array();
    if (items.size() != numbers_.size()) {
        throw std::runtime_error(std::string("Too ") + (numbers_.size() > items.size() ? "few" : "many") + " items to unpack");
    }
    if (unnamed_) {
        throw std::runtime_error("Cannot unpack to what is no name");
    }
    for (size_t i = 0; i < numbers_.size(); ++i) {
        scope.set(numbers_[i], items[i]);
    }
}

const jinja::value & truth(bool v) {
    static const jinja::value yes = jinja::mk_val<jinja::value_bool>(true);
    static const jinja::value no = jinja::mk_val<jinja::value_bool>(false);
    return v ? yes : no;
}

}  // namespace shimmy
