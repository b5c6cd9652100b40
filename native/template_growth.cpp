#include "template_growth.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace shimmy {

namespace {

size_t plus(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

size_t times(size_t a, size_t b) { return a != 0 && b > SIZE_MAX / a ? SIZE_MAX : a * b; }

std::string text_of(const jinja::value & value) {
    return jinja::is_val<jinja::value_string>(value) ? value->val_str.str() : std::string();
}

size_t count(const std::string & text, const std::string & part) {
    if (part.empty()) {
        return text.size() + 1;
    }
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
        ++n;
    }
    return n;
}

// Each replacement moves the text behind it, where the new part has another length.
size_t replaced_size(const jinja::func_args & args) {
    if (args.count() < 3) {
        return 0;
    }
    const std::string text = text_of(args.get_pos(0));
    const std::string from = text_of(args.get_pos(1));
    const size_t to = text_size(args.get_pos(2));
    const size_t n = count(text, from);
    const size_t whole = plus(text.size(), times(n, to));
    constexpr size_t moved_each_byte = 4096;  // moving that much is as quick as writing one in other places
    return from.empty() || from.size() == to ? whole : std::max(whole, times(n, whole) / moved_each_byte);
}

size_t indented_size(const jinja::func_args & args) {
    const std::string text = text_of(args.get_pos(0));
    const jinja::value width = args.get_kwarg_or_pos("width", 1);
    size_t each = 4;
    if (jinja::is_val<jinja::value_int>(width)) {
        each = width->as_int() < 0 ? SIZE_MAX : static_cast<size_t>(width->as_int());
    } else if (jinja::is_val<jinja::value_string>(width)) {
        each = text_size(width);
    }
    return plus(text.size(), times(plus(each, 1), count(text, "\n") + 1));
}

// With an attribute, the texts are those of the items' values.
size_t joined_size(const jinja::func_args & args) {
    const jinja::value list = args.get_pos(0);
    if (!jinja::is_val<jinja::value_array>(list)) {
        return 0;
    }
    const jinja::value between = args.get_kwarg_or_pos("d", 1);
    const bool deeper = !args.get_kwarg_or_pos("attribute", 2)->is_undefined();
    size_t size = times(list->as_array().size(), text_size(between));
    for (const jinja::value & item : list->as_array()) {
        if (deeper && jinja::is_val<jinja::value_object>(item)) {
            for (const auto & entry : item->as_ordered_object()) {
                size = plus(size, text_size(entry.second));
            }
        } else {
            size = plus(size, text_size(item));
        }
    }
    return size;
}

size_t formatted_size(const jinja::func_args & args) {
    size_t size = 0;
    for (const jinja::value & arg : args.get_args()) {
        size = plus(size, text_size(arg));
    }
    return size;
}

// Each part is taken off the text's front, whose rest then moves.
size_t split_size(const jinja::func_args & args) {
    const std::string text = text_of(args.get_pos(0));
    const std::string by = args.count() > 1 ? text_of(args.get_pos(1)) : " ";
    constexpr size_t moved_each_byte = 4096;
    return by.empty() ? 0 : times(count(text, by), text.size()) / moved_each_byte;
}

size_t json_size(const jinja::func_args & args) {
    const jinja::value indent = args.get_kwarg_or_pos("indent", 2);
    constexpr size_t lines_at_least = 1 << 16;
    return jinja::is_val<jinja::value_int>(indent) && indent->as_int() > 0
               ? times(lines_at_least, static_cast<size_t>(indent->as_int()))
               : 0;
}

struct Growing {
    const char * name;
    size_t (*size)(const jinja::func_args &);
};
constexpr std::array<Growing, 6> growing{{{"replace", replaced_size},
                                          {"indent", indented_size},
                                          {"join", joined_size},
                                          {"format", formatted_size},
                                          {"split", split_size},
                                          {"tojson", json_size}}};

const Growing * find(const std::string & function) {
    const auto found = std::find_if(growing.begin(), growing.end(), [&](const Growing & g) { return function == g.name; });
    return found == growing.end() ? nullptr : &*found;
}

}  // namespace

bool may_grow(const std::string & function) { return find(function) != nullptr; }

size_t grown_size(const std::string & function, const jinja::func_args & args) {
    const Growing * found = find(function);
    return found == nullptr || args.count() == 0 ? 0 : found->size(args);
}

size_t text_size(const jinja::value & value) {
    if (jinja::is_val<jinja::value_string>(value)) {
        return value->val_str.length();
    }
    size_t size = 0;
    if (jinja::is_val<jinja::value_array>(value)) {
        for (const jinja::value & item : value->as_array()) {
            size = plus(size, jinja::is_val<jinja::value_string>(item) ? item->val_str.length() : 0);
        }
    }
    return size;
}

}  // namespace shimmy
