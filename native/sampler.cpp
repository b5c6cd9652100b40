#include "sampler.h"

#include "error.h"
#include "sampler_stages.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

using namespace shimmy;

namespace {

const shimmy_sampler_params & checked(const shimmy_sampler_params & params) {
    check_sampler_params(params);
    return params;
}

}  // namespace

shimmy_sampler::shimmy_sampler(const shimmy_sampler_params & params, int32_t n_vocab,
                               std::vector<std::pair<int32_t, float>> bias, std::shared_ptr<const DryBreakers> breakers,
                               const int32_t * history, int32_t n_history)
    : params_(checked(params)), n_vocab_(n_vocab), plan_(plan_stages(params)), bias_(std::move(bias)), penalties_(params),
      mirostat_(params, n_vocab), random_(params.seed) {
    params_.bias_tokens = nullptr;  // these are the caller's
    params_.bias_values = nullptr;
    params_.dry_breakers = nullptr;
    params_.samplers = nullptr;
    if (mirostat_.active()) {
        params_.dynatemp_range = 0.0f;  // as the chain, whose temperature is a plain one here
    }
    require(n_history >= 0 && (history != nullptr || n_history == 0), "history does not fit n_history");
    std::vector<int32_t> text;
    std::copy_if(history, history + n_history, std::back_inserter(text), [&](int32_t token) { return token >= 0 && token < n_vocab; });
    for (const int32_t token : text) {
        penalties_.accept(token);
    }
    if (Dry::active(params)) {
        dry_ = std::make_unique<Dry>(params, std::move(breakers));
        dry_->begin(text);
    }
}

void shimmy_sampler::accept(int32_t token) {
    penalties_.accept(token);
    if (dry_) {
        dry_->accept(token);
    }
    if (lookup_) {
        lookup_->accept(token);
    }
    if (budget_) {
        budget_->accept(token);
    }
}

void shimmy_sampler::sample(float * logits, shimmy_sample & out) {
    out.flags = 0;
    out.logprob = 0.0f;
    out.n_top = 0;
    row_.start(logits, n_vocab_);
    if (wants_logprobs() && row_.finite()) {
        report_top(out);
    }
    out.token = forced();
    if (out.token < 0) {
        out.token = draw_allowed(logits);
    }
    if (out.token < 0) {
        out.flags = refused_ ? constraint_->failure() : SHIMMY_TOKEN_NO_LOGITS;
        out.n_top = 0;
        return;
    }
    if (wants_logprobs()) {
        out.logprob = static_cast<float>(static_cast<double>(row_.original(out.token)) - log_sum_);
    }
    accept(out.token);
    if (constraint_) {
        constraint_->accept(out.token);
    }
}

bool shimmy_sampler::needs_only(int32_t k) const {
    if (constraint_ || budget_ || !bias_.empty() || wants_logprobs() || mirostat_.active() || plan_.empty()) {
        return false;
    }
    const bool greedy = params_.temperature <= 0.0f && params_.dynatemp_range <= 0.0f;
    return plan_.front() == Stage::top_k ? params_.top_k <= k : plan_.front() == Stage::temperature && greedy;
}

void shimmy_sampler::sample_largest(const std::vector<Candidate> & largest, shimmy_sample & out) {
    out.logprob = 0.0f;
    out.n_top = 0;
    left_.start(largest, n_vocab_);
    out.token = apply_all() ? left_.draw(random_) : -1;
    out.flags = out.token < 0 ? SHIMMY_TOKEN_NO_LOGITS : 0;
    if (out.token >= 0) {
        accept(out.token);
    }
}

const std::vector<Candidate> & shimmy_sampler::survivors(float * logits) {
    row_.start(logits, n_vocab_);
    static const std::vector<Candidate> none;
    return narrow() ? left_.settle() : none;
}

void shimmy_sampler::begin_with(int32_t token) {
    if (constraint_) {
        constraint_->accept(token);
    }
}

// The most likely tokens of the model itself, before any stage: what OpenAI clients mean by logprobs.
void shimmy_sampler::report_top(shimmy_sample & out) {
    log_sum_ = static_cast<double>(row_.max()) + std::log(row_.exp_sum(1.0f));
    if (params_.n_logprobs == 0) {
        return;
    }
    row_.largest(params_.n_logprobs, top_);
    out.n_top = static_cast<int32_t>(top_.size());
    for (size_t i = 0; i < top_.size(); ++i) {
        out.top_tokens[i] = top_[i].token;
        out.top_logprobs[i] = static_cast<float>(static_cast<double>(top_[i].logit) - log_sum_);
    }
}

// What must come next, whatever the row says; -1: nothing must.
int32_t shimmy_sampler::forced() {
    const int32_t token = budget_ ? budget_->forced() : -1;
    if (token >= 0 && constraint_ && !constraint_->allows(token)) {
        budget_->give_up();
        return -1;
    }
    return token;
}

// Draws, and where the constraint refuses the token, draws once more from what it allows; -1 where there is nothing to draw.
int32_t shimmy_sampler::draw_allowed(float * logits) {
    refused_ = false;
    const int32_t token = draw();
    if (token < 0 || !constraint_ || constraint_->allows(token)) {
        return token;
    }
    refused_ = true;
    row_.restore();
    if (!refuse_likeliest()) {
        row_.restore();
        constraint_->mask(logits, n_vocab_);
    }
    return draw();
}

// How many of the most likely tokens the stages look at, whatever the others are; 0: all of them.
int32_t shimmy_sampler::n_looked_at() const {
    const bool raises = std::any_of(bias_.begin(), bias_.end(), [](const auto & entry) { return !(entry.second <= 0.0f); });
    if (raises || mirostat_.active() || plan_.empty()) {
        return 0;
    }
    const bool greedy = params_.temperature <= 0.0f && params_.dynatemp_range <= 0.0f;
    if (plan_.front() == Stage::top_k) {
        return params_.top_k;
    }
    return plan_.front() == Stage::temperature && greedy ? 1 : 0;
}

// Takes away what the constraint refuses of the most likely tokens only: all that matters where as many are left as the stages look
// at, since the others are less likely than those. False where that was not tried or was not enough.
bool shimmy_sampler::refuse_likeliest() {
    constexpr int32_t most = 64;
    const int32_t wanted = n_looked_at();
    if (wanted < 1 || wanted > most) {
        return false;
    }
    const int32_t n = std::min(4 * std::max(wanted, 16), n_vocab_);
    row_.select(n, likeliest_);
    const size_t n_tested = likeliest_.size();
    const size_t enough = static_cast<size_t>(wanted) + bias_.size();  // which may put that many of them behind others
    if (!constraint_->sift(likeliest_) || n_tested - likeliest_.size() < enough) {
        return false;
    }
    for (const Candidate & refused : likeliest_) {
        row_.set(refused.token, -std::numeric_limits<float>::infinity());
    }
    return true;
}

int32_t shimmy_sampler::draw() {
    if (!narrow()) {
        return -1;
    }
    return mirostat_.active() ? mirostat_.draw(left_, random_) : left_.draw(random_);
}

// Bias and all stages up to the draw. Whether anything is left to draw from.
bool shimmy_sampler::narrow() {
    for (const auto & entry : bias_) {
        row_.set(entry.first, row_.at(entry.first) + entry.second);
    }
    left_.start(row_);
    if (!apply_all()) {
        return false;
    }
    if (mirostat_.active()) {
        mirostat_.narrow(left_);
    }
    return true;
}

// All stages up to the draw. Whether they have left anything.
bool shimmy_sampler::apply_all() {
    for (size_t i = 0; i < plan_.size(); ++i) {
        if (plan_[i] != Stage::penalties && plan_[i] != Stage::dry && left_.empty()) {
            return false;
        }
        apply(plan_[i], i + 1 == plan_.size() && !mirostat_.active());
    }
    return !left_.empty();
}

void shimmy_sampler::apply(Stage stage, bool last) {
    const shimmy_sampler_params & p = params_;
    switch (stage) {
        case Stage::penalties: return penalties_.apply(left_);
        case Stage::dry: return dry_->apply(left_);
        case Stage::top_n_sigma: return top_n_sigma(left_, p.top_n_sigma);
        case Stage::top_k: return top_k(left_, p.top_k);
        case Stage::typical_p: return typical_p(left_, p.typical_p, p.min_keep);
        case Stage::top_p: return top_p(left_, p.top_p, p.min_keep);
        case Stage::min_p: return min_p(left_, p.min_p, p.min_keep);
        case Stage::xtc: return xtc(left_, p.xtc_probability, p.xtc_threshold, p.min_keep, random_);
        case Stage::temperature: return temperature(left_, p.temperature, p.dynatemp_range, p.dynatemp_exponent, last);
    }
}
