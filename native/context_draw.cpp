// What a context draws from the rows of a step, and what of the step's tokens stays for that.
#include "context.h"
#include "error.h"

#include <string>

using namespace shimmy;

void shimmy_context::append_piece(int32_t token, bool special) {
    char buffer[512];
    const int32_t n = llama_token_to_piece(model_.vocab, token, buffer, sizeof buffer, 0, special);
    if (n >= 0) {
        pieces_.append(buffer, static_cast<size_t>(n));
        return;
    }
    const size_t start = pieces_.size();
    pieces_.resize(start + static_cast<size_t>(-n));
    llama_token_to_piece(model_.vocab, token, &pieces_[start], -n, 0, special);
}

void shimmy_context::draw(int32_t output, shimmy_sampler & sampler, shimmy_sample & out) {
    if (device_.attached()) {
        device_.read(context_.get(), output, largest_);
        sampler.sample_largest(largest_, out);
    } else {
        sampler.sample(llama_get_logits_ith(context_.get(), output), out);
    }
}

void shimmy_context::sample_row(size_t row, shimmy_sampler & sampler) {
    shimmy_sample & s = samples_[row];
    draw(output_index_[row], sampler, s);
    if (s.token >= 0 && llama_vocab_is_eog(model_.vocab, s.token)) {
        s.flags |= SHIMMY_TOKEN_EOG;
    }
    if (s.flags == 0) {
        append_piece(s.token, sampler.shows(s.token));
    }
    drawn_[row] = s.token;
    drawn_[output_index_.size() + row] = s.flags;
}

// Draws from the run's rows, of which `row` is the first, up to the first token that was not guessed. Returns the last row drawn from.
size_t shimmy_context::sample_run(size_t row, shimmy_sampler & sampler, const int32_t * guesses, size_t n_guesses) {
    const size_t n = output_index_.size();
    for (size_t i = 0;; ++i) {
        sample_row(row + i, sampler);
        drawn_[2 * n + row + i] = static_cast<int32_t>(pieces_.size());
        if (i == n_guesses || samples_[row + i].flags != 0 || samples_[row + i].token != guesses[i]) {
            return row + i;
        }
    }
}

void shimmy_context::sample(const shimmy_step_batch & in) {
    const size_t n = output_index_.size();
    samples_.resize(n);
    drawn_.assign(3 * n, 0);
    last_row_.resize(static_cast<size_t>(in.n_runs));
    ends_.resize(static_cast<size_t>(in.n_runs));
    pieces_.clear();
    size_t row = 0;
    const int32_t * end = in.tokens;
    for (int32_t r = 0; r < in.n_runs; ++r) {
        const size_t run = static_cast<size_t>(r);
        const size_t n_guesses = static_cast<size_t>(guesses_of(in, r));
        end += in.lengths[r];
        size_t last = row;
        if (in.samplers[r] != nullptr) {
            last = sample_run(row, *in.samplers[r], end - n_guesses, n_guesses);
        } else {
            drawn_[row] = -1;
            drawn_[2 * n + row] = static_cast<int32_t>(pieces_.size());
        }
        last_row_[run] = static_cast<int32_t>(last);
        ends_[run] = in.positions[r] + in.lengths[r] - static_cast<int32_t>(row + n_guesses - last);
        for (size_t refused = last + 1; refused <= row + n_guesses; ++refused) {
            drawn_[refused] = -1;
            drawn_[2 * n + refused] = static_cast<int32_t>(pieces_.size());
        }
        row += n_guesses + 1;
    }
}

// The guesses that were not drawn leave the memory.
void shimmy_context::take_back(const shimmy_step_batch & in) {
    for (int32_t r = 0; in.n_guesses != nullptr && r < in.n_runs; ++r) {
        const int32_t end = ends_[static_cast<size_t>(r)];
        if (end < in.positions[r] + in.lengths[r] && !llama_memory_seq_rm(memory(), in.seq_ids[r], end, -1)) {
            throw Error(SHIMMY_E_COMPUTE, "the memory does not take back what was guessed");
        }
    }
}

int32_t shimmy_context::count_promising(const shimmy_step_batch & in) const {
    int32_t n = 0;
    for (int32_t r = 0; promising_ <= 1.0f && r < in.n_runs; ++r) {
        const shimmy_sampler * sampler = in.samplers[r];
        n += sampler != nullptr && sampler->lookup() != nullptr && sampler->lookup()->chance() >= promising_;
    }
    return n;
}
