#include "sampler_settings.h"

#include "dry.h"
#include "error.h"
#include "penalties.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

namespace shimmy {

namespace {

bool within(float value, float low, float high) { return value >= low && value <= high; }  // NaN is not

bool positive(float value) { return std::isfinite(value) && value > 0.0f; }

bool not_negative(float value) { return std::isfinite(value) && value >= 0.0f; }

struct Name {
    const char * text;
    Stage stage;
};

// llama-server's names, in its default order.
constexpr Name names[] = {{"penalties", Stage::penalties}, {"dry", Stage::dry},         {"top_n_sigma", Stage::top_n_sigma},
                          {"top_k", Stage::top_k},         {"typ_p", Stage::typical_p}, {"top_p", Stage::top_p},
                          {"min_p", Stage::min_p},         {"xtc", Stage::xtc},         {"temperature", Stage::temperature}};

constexpr int32_t most_stages = 32;

bool changes_anything(Stage stage, const shimmy_sampler_params & p) {
    switch (stage) {
        case Stage::penalties: return Penalties(p).active();
        case Stage::dry: return Dry::active(p);
        case Stage::top_n_sigma: return p.top_n_sigma > 0.0f;
        case Stage::top_k: return p.top_k > 0;
        case Stage::typical_p: return p.typical_p < 1.0f;
        case Stage::top_p: return p.top_p < 1.0f;
        case Stage::min_p: return p.min_p > 0.0f;
        case Stage::xtc: return p.xtc_probability > 0.0f && p.xtc_threshold <= 0.5f;
        case Stage::temperature: return p.temperature != 1.0f || p.dynatemp_range > 0.0f;
    }
    return true;
}

Stage stage_named(const char * text) {
    for (const Name & name : names) {
        if (text != nullptr && std::strcmp(text, name.text) == 0) {
            return name.stage;
        }
    }
    throw Error(SHIMMY_E_INVALID,
                "samplers must be of penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc and temperature", "samplers");
}

// Stages that never take the most likely token away have no say before a temperature of 0.
void drop_before_greedy(std::vector<Stage> & plan, const shimmy_sampler_params & p) {
    if (p.temperature > 0.0f || p.dynatemp_range > 0.0f) {
        return;
    }
    for (size_t i = 0; i < plan.size(); ++i) {
        if (plan[i] != Stage::temperature) {
            continue;
        }
        while (i > 0 && (plan[i - 1] == Stage::top_k || plan[i - 1] == Stage::top_p || plan[i - 1] == Stage::min_p ||
                         plan[i - 1] == Stage::top_n_sigma)) {
            plan.erase(plan.begin() + static_cast<std::ptrdiff_t>(--i));
        }
    }
}

}  // namespace

void check_sampler_params(const shimmy_sampler_params & p) {
    require_param(not_negative(p.temperature), "temperature", "must be at least 0");
    require_param(not_negative(p.dynatemp_range), "dynatemp_range", "must be at least 0");
    require_param(not_negative(p.dynatemp_exponent), "dynatemp_exponent", "must be at least 0");
    require_param(p.top_k >= 0, "top_k", "must be at least 0");
    require_param(within(p.top_p, 0.0f, 1.0f), "top_p", "must be between 0 and 1");
    require_param(within(p.min_p, 0.0f, 1.0f), "min_p", "must be between 0 and 1");
    require_param(within(p.typical_p, 0.0f, 1.0f), "typical_p", "must be between 0 and 1");
    require_param(std::isfinite(p.top_n_sigma), "top_n_sigma", "must be finite");
    require_param(within(p.xtc_probability, 0.0f, 1.0f), "xtc_probability", "must be between 0 and 1");
    require_param(within(p.xtc_threshold, 0.0f, 1.0f), "xtc_threshold", "must be between 0 and 1");
    require_param(p.min_keep >= 0, "min_keep", "must be at least 0");
    require_param(positive(p.repeat_penalty), "repeat_penalty", "must be above 0");
    require_param(std::isfinite(p.presence_penalty), "presence_penalty", "must be finite");
    require_param(std::isfinite(p.frequency_penalty), "frequency_penalty", "must be finite");
    require_param(p.repeat_last_n >= 0, "repeat_last_n", "must be at least 0");
    require_param(not_negative(p.dry_multiplier), "dry_multiplier", "must be at least 0");
    require_param(std::isfinite(p.dry_base) && p.dry_base >= 1.0f, "dry_base", "must be at least 1");
    require_param(p.dry_allowed_length >= 0, "dry_allowed_length", "must be at least 0");
    require_param(p.dry_penalty_last_n >= 0, "dry_penalty_last_n", "must be at least 0");
    require_param(p.mirostat >= 0 && p.mirostat <= 2, "mirostat", "must be 0, 1 or 2");
    require_param(not_negative(p.mirostat_tau), "mirostat_tau", "must be at least 0");
    require_param(not_negative(p.mirostat_eta), "mirostat_eta", "must be at least 0");
    require_param(p.n_logprobs >= -1 && p.n_logprobs <= SHIMMY_MAX_LOGPROBS, "n_logprobs", "must be -1..20");
}

std::vector<Stage> plan_stages(const shimmy_sampler_params & p) {
    std::vector<Stage> plan;
    if (p.samplers == nullptr) {
        for (const Name & name : names) {
            plan.push_back(name.stage);
        }
    } else {
        require_param(p.n_samplers >= 0 && p.n_samplers <= most_stages, "samplers", "must have at most 32 names");
        for (int32_t i = 0; i < p.n_samplers; ++i) {
            plan.push_back(stage_named(p.samplers[i]));
        }
    }
    if (p.mirostat != 0) {  // takes the place of all others but the temperature, which it has whether it was asked for or not
        plan.assign(1, Stage::temperature);
    }
    plan.erase(std::remove_if(plan.begin(), plan.end(), [&](Stage stage) { return !changes_anything(stage, p); }), plan.end());
    drop_before_greedy(plan, p);
    return plan;
}

std::vector<std::string> dry_breaker_texts(const shimmy_sampler_params & p) {
    std::vector<std::string> out;
    require_param(p.n_dry_breakers == 0 || p.dry_breakers != nullptr, "dry_sequence_breakers", "is NULL");
    require_param(p.n_dry_breakers >= 0 && static_cast<size_t>(p.n_dry_breakers) <= DryBreakers::max_count,
                  "dry_sequence_breakers", "must have at most 32 strings");
    for (int32_t i = 0; i < p.n_dry_breakers; ++i) {
        const size_t n = p.dry_breakers[i] == nullptr ? 0 : std::strlen(p.dry_breakers[i]);
        require_param(n >= 1 && n <= DryBreakers::max_bytes, "dry_sequence_breakers", "must be strings of 1 to 40 bytes");
        out.emplace_back(p.dry_breakers[i], n);
    }
    return Dry::active(p) ? out : std::vector<std::string>();
}

}  // namespace shimmy
