"""Writers of tiny models: one function for each kind of memory that llama.cpp has.

Weights are random and seeded, scaled so that the logits depend on the whole context: greedy text differs from
prompt to prompt. Unless ``raw_bytes`` is set, the likeliest token is always printable ASCII and never an end of
text, so that a greedy generation runs for as long as it is asked to; sampling may still draw anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType, PoolingType

from tests.tiny.vocabulary import (
    CHATML,
    add_byte_pair_vocabulary,
    add_word_piece_vocabulary,
    byte_pair_tokens,
    is_plain,
)

N_EMBD, N_HEAD, N_HEAD_KV, N_FF = 64, 4, 2, 96
HEAD = N_EMBD // N_HEAD
N_INNER, N_STATE, N_RANK, N_CONV = 2 * N_EMBD, 16, 4, 4
_BERT_LAYERS = 2


class _Weights:
    """Adds seeded random tensors to a file. Shapes are rows first: ggml's {n_in, n_out} is (n_out, n_in)."""

    def __init__(self, writer: GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, *shape: int, gain: float = 1.0, dtype: type[np.floating] = np.float16) -> None:
        """Normally distributed; an input of size 1 gives an output of size ``gain``."""
        values = self._random.standard_normal(shape) * (gain / np.sqrt(shape[-1]))
        self._writer.add_tensor(name, values.astype(dtype))

    def vector(self, name: str, value: float | np.ndarray, length: int = N_EMBD) -> None:
        """The same value everywhere, or the given ones."""
        self._writer.add_tensor(name, np.broadcast_to(value, (length,)).astype(np.float32))

    def embeddings(self, n_vocab: int, *, raw_bytes: bool, scale: float = 1.0, fim: bool = False) -> None:
        """Token embeddings, the last norm and the output."""
        self.matrix("token_embd.weight", n_vocab, N_EMBD, gain=scale * np.sqrt(N_EMBD))
        self.vector("output_norm.weight", 1.0)
        output = self._random.standard_normal((n_vocab, N_EMBD)) * (4 / np.sqrt(N_EMBD))
        if not raw_bytes:
            # A row of zeros is a logit of 0: hundreds of others have a likelier token among them.
            output[[not is_plain(token) for token in byte_pair_tokens(n_vocab, fim=fim)]] = 0
        self._writer.add_tensor("output.weight", output.astype(np.float16))

    def attention(self, layer: int) -> None:
        """Grouped-query attention with its norm; keys and queries are strong enough to pick positions."""
        at = f"blk.{layer}."
        self.vector(at + "attn_norm.weight", 1.0)
        self.matrix(at + "attn_q.weight", N_HEAD * HEAD, N_EMBD, gain=2)
        self.matrix(at + "attn_k.weight", N_HEAD_KV * HEAD, N_EMBD, gain=2)
        self.matrix(at + "attn_v.weight", N_HEAD_KV * HEAD, N_EMBD, gain=2)
        self.matrix(at + "attn_output.weight", N_EMBD, N_HEAD * HEAD)

    def feed_forward(self, layer: int) -> None:
        """A gated feed-forward block with its norm."""
        at = f"blk.{layer}."
        self.vector(at + "ffn_norm.weight", 1.0)
        self.matrix(at + "ffn_gate.weight", N_FF, N_EMBD)
        self.matrix(at + "ffn_up.weight", N_FF, N_EMBD)
        self.matrix(at + "ffn_down.weight", N_EMBD, N_FF)

    def state_space(self, layer: int) -> None:
        """A mamba block with its norm."""
        at = f"blk.{layer}."
        self.vector(at + "attn_norm.weight", 1.0)
        self.matrix(at + "ssm_in.weight", 2 * N_INNER, N_EMBD)
        self.matrix(at + "ssm_conv1d.weight", N_INNER, N_CONV, dtype=np.float32)
        self.vector(at + "ssm_conv1d.bias", 0.0, N_INNER)
        self.matrix(at + "ssm_x.weight", N_RANK + 2 * N_STATE, N_INNER, gain=0.5)
        self.matrix(at + "ssm_dt.weight", N_INNER, N_RANK)
        # softplus of these are time steps of about 0.01 to 0.3: some channels forget soon, some late.
        self.vector(at + "ssm_dt.bias", self._random.uniform(-4.6, -1.0, N_INNER), N_INNER)
        decay = -np.tile(np.arange(1.0, N_STATE + 1), (N_INNER, 1))
        self._writer.add_tensor(at + "ssm_a", decay.astype(np.float32))
        self.vector(at + "ssm_d", 1.0, N_INNER)
        self.matrix(at + "ssm_out.weight", N_EMBD, N_INNER, gain=2)

    def query_key_norms(self, layer: int) -> None:
        """As qwen3 and gemma3 have them."""
        self.vector(f"blk.{layer}.attn_q_norm.weight", 1.5, HEAD)
        self.vector(f"blk.{layer}.attn_k_norm.weight", 1.5, HEAD)


def _writer(path: Path, architecture: str, n_ctx: int, n_layer: int) -> GGUFWriter:
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(f"Tiny {architecture}")
    writer.add_license("mit")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(n_layer)
    return writer


def _add_attention(writer: GGUFWriter) -> None:
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_feed_forward_length(N_FF)


def _add_state_space(writer: GGUFWriter) -> None:
    writer.add_ssm_conv_kernel(N_CONV)
    writer.add_ssm_inner_size(N_INNER)
    writer.add_ssm_state_size(N_STATE)
    writer.add_ssm_time_step_rank(N_RANK)


def _finish(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_llama(
    path: Path,
    *,
    n_vocab: int = 512,
    n_ctx: int = 2048,
    n_layer: int = 2,
    seed: int = 0,
    chat_template: str | None = CHATML,
    raw_bytes: bool = False,
    fim: bool = False,
    causal: bool = True,
) -> Path:
    """A llama: full attention, llama.cpp's plain KV cache; ``fim``: its vocabulary can fill in the middle.

    Not ``causal``: it sees a text in both directions, and only makes embeddings.
    """
    writer = _writer(path, "llama", n_ctx, n_layer)
    _add_attention(writer)
    if not causal:
        writer.add_causal_attention(False)
    add_byte_pair_vocabulary(writer, n_vocab, chat_template, fim=fim)
    weights = _Weights(writer, seed)
    weights.embeddings(n_vocab, raw_bytes=raw_bytes, fim=fim)
    for layer in range(n_layer):
        weights.attention(layer)
        weights.feed_forward(layer)
    return _finish(writer, path)


def write_swa(
    path: Path,
    *,
    n_vocab: int = 512,
    n_ctx: int = 2048,
    window: int = 64,
    seed: int = 0,
    chat_template: str | None = CHATML,
    raw_bytes: bool = False,
) -> Path:
    """A gemma3 of four layers: every second one sees only the last ``window`` tokens."""
    n_layer = 4
    writer = _writer(path, "gemma3", n_ctx, n_layer)
    _add_attention(writer)
    writer.add_sliding_window(window)
    writer.add_uint32("gemma3.attention.sliding_window_pattern", 2)
    add_byte_pair_vocabulary(writer, n_vocab, chat_template)
    weights = _Weights(writer, seed)
    # gemma multiplies embeddings by the root of their length.
    weights.embeddings(n_vocab, raw_bytes=raw_bytes, scale=1 / np.sqrt(N_EMBD))
    for layer in range(n_layer):
        weights.attention(layer)
        weights.query_key_norms(layer)
        weights.vector(f"blk.{layer}.post_attention_norm.weight", 1.0)
        weights.feed_forward(layer)
        weights.vector(f"blk.{layer}.post_ffw_norm.weight", 1.0)
    return _finish(writer, path)


def write_moe(
    path: Path,
    *,
    n_vocab: int = 512,
    n_ctx: int = 2048,
    n_expert: int = 4,
    seed: int = 0,
    chat_template: str | None = CHATML,
    raw_bytes: bool = False,
) -> Path:
    """A qwen3moe: each token goes through two of ``n_expert`` feed-forward blocks."""
    n_layer, n_ff = 2, 32
    writer = _writer(path, "qwen3moe", n_ctx, n_layer)
    _add_attention(writer)
    writer.add_expert_count(n_expert)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(n_ff)
    add_byte_pair_vocabulary(writer, n_vocab, chat_template)
    weights = _Weights(writer, seed)
    weights.embeddings(n_vocab, raw_bytes=raw_bytes)
    for layer in range(n_layer):
        at = f"blk.{layer}."
        weights.attention(layer)
        weights.query_key_norms(layer)
        weights.vector(at + "ffn_norm.weight", 1.0)
        weights.matrix(at + "ffn_gate_inp.weight", n_expert, N_EMBD, dtype=np.float32)
        weights.matrix(at + "ffn_gate_exps.weight", n_expert, n_ff, N_EMBD)
        weights.matrix(at + "ffn_up_exps.weight", n_expert, n_ff, N_EMBD)
        weights.matrix(at + "ffn_down_exps.weight", n_expert, N_EMBD, n_ff)
    return _finish(writer, path)


def write_aborting(path: Path) -> Path:
    """An mpt whose keys are longer than its values: no check knows that, and llama.cpp aborts when it makes a context."""
    writer = _writer(path, "mpt", 256, 1)
    writer.add_head_count(N_HEAD)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD // 2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_feed_forward_length(N_FF)
    add_byte_pair_vocabulary(writer, 512, None)
    weights = _Weights(writer, 0)
    weights.embeddings(512, raw_bytes=False)
    weights.vector("blk.0.attn_norm.weight", 1.0)
    weights.matrix("blk.0.attn_qkv.weight", N_EMBD + N_HEAD * HEAD, N_EMBD)
    weights.matrix("blk.0.attn_output.weight", N_EMBD, N_EMBD)
    weights.vector("blk.0.ffn_norm.weight", 1.0)
    weights.matrix("blk.0.ffn_up.weight", N_FF, N_EMBD)
    weights.matrix("blk.0.ffn_down.weight", N_EMBD, N_FF)
    return _finish(writer, path)


def write_recurrent(
    path: Path,
    *,
    n_vocab: int = 512,
    n_ctx: int = 2048,
    seed: int = 0,
    chat_template: str | None = CHATML,
    raw_bytes: bool = False,
) -> Path:
    """A mamba: one state for a sequence in place of a KV cache."""
    n_layer = 2
    writer = _writer(path, "mamba", n_ctx, n_layer)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_state_space(writer)
    add_byte_pair_vocabulary(writer, n_vocab, chat_template)
    weights = _Weights(writer, seed)
    weights.embeddings(n_vocab, raw_bytes=raw_bytes)
    for layer in range(n_layer):
        weights.state_space(layer)
    return _finish(writer, path)


def write_hybrid(
    path: Path,
    *,
    n_vocab: int = 512,
    n_ctx: int = 2048,
    seed: int = 0,
    chat_template: str | None = CHATML,
    raw_bytes: bool = False,
) -> Path:
    """A jamba: a layer with a state, then one with a KV cache."""
    n_layer = 2
    writer = _writer(path, "jamba", n_ctx, n_layer)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv([0, N_HEAD_KV])
    writer.add_feed_forward_length(N_FF)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_state_space(writer)
    add_byte_pair_vocabulary(writer, n_vocab, chat_template)
    weights = _Weights(writer, seed)
    weights.embeddings(n_vocab, raw_bytes=raw_bytes)
    weights.state_space(0)
    for name, length in (("dt", N_RANK), ("b", N_STATE), ("c", N_STATE)):
        weights.vector(f"blk.0.ssm_{name}_norm.weight", 1.0, length)
    weights.attention(1)
    for layer in range(n_layer):
        weights.feed_forward(layer)
    return _finish(writer, path)


def write_embedding(path: Path, *, n_ctx: int = 256, seed: int = 0) -> Path:
    """A bert with mean pooling: no next token, no KV cache."""
    writer = _writer(path, "bert", n_ctx, _BERT_LAYERS)
    writer.add_pooling_type(PoolingType.MEAN)
    _add_bert(writer, _Weights(writer, seed), n_ctx)
    return _finish(writer, path)


def write_reranker(
    path: Path, *, n_ctx: int = 256, n_labels: int = 1, seed: int = 0, template: str | None = None
) -> Path:
    """A bert with a classifier over the first token's hidden state: scores of a query and a document.

    ``template``: how the two become one text, with {query} and {document}.
    """
    writer = _writer(path, "bert", n_ctx, _BERT_LAYERS)
    writer.add_pooling_type(PoolingType.RANK)
    if template is not None:
        writer.add_string("tokenizer.chat_template.rerank", template)
    writer.add_classifier_output_labels([f"label {number}" for number in range(n_labels)])
    weights = _Weights(writer, seed)
    _add_bert(writer, weights, n_ctx)
    weights.matrix("cls.weight", N_EMBD, N_EMBD)
    weights.vector("cls.bias", 0.1)
    weights.matrix("cls.output.weight", n_labels, N_EMBD, gain=3)
    weights.vector("cls.output.bias", -0.2, n_labels)
    return _finish(writer, path)


def write_causal_reranker(path: Path, *, n_ctx: int = 2048, seed: int = 0) -> Path:
    """A qwen3 with a classifier of two labels over the last token's hidden state."""
    n_layer, n_vocab = 2, 512
    writer = _writer(path, "qwen3", n_ctx, n_layer)
    _add_attention(writer)
    writer.add_pooling_type(PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    writer.add_string("tokenizer.chat_template.rerank", "query: {query} document: {document} answer:")
    add_byte_pair_vocabulary(writer, n_vocab, None)
    weights = _Weights(writer, seed)
    weights.embeddings(n_vocab, raw_bytes=False)
    weights.matrix("cls.output.weight", 2, N_EMBD, gain=3)
    for layer in range(n_layer):
        weights.attention(layer)
        weights.query_key_norms(layer)
        weights.feed_forward(layer)
    return _finish(writer, path)


def _add_bert(writer: GGUFWriter, weights: _Weights, n_ctx: int) -> None:
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_eps(1e-12)
    writer.add_feed_forward_length(N_FF)
    writer.add_causal_attention(False)
    n_vocab = add_word_piece_vocabulary(writer)
    weights.matrix("token_embd.weight", n_vocab, N_EMBD, gain=np.sqrt(N_EMBD))
    weights.matrix("token_types.weight", 2, N_EMBD, dtype=np.float32)
    weights.matrix("position_embd.weight", n_ctx, N_EMBD, gain=2, dtype=np.float32)
    weights.vector("token_embd_norm.weight", 1.0)
    weights.vector("token_embd_norm.bias", 0.0)
    for layer in range(_BERT_LAYERS):
        at = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.matrix(f"{at}{name}.weight", N_EMBD, N_EMBD)
            weights.vector(f"{at}{name}.bias", 0.0)
        weights.matrix(at + "ffn_up.weight", N_FF, N_EMBD)
        weights.vector(at + "ffn_up.bias", 0.0, N_FF)
        weights.matrix(at + "ffn_down.weight", N_EMBD, N_FF)
        weights.vector(at + "ffn_down.bias", 0.0)
        for name in ("attn_output_norm", "layer_output_norm"):
            weights.vector(f"{at}{name}.weight", 1.0)
            weights.vector(f"{at}{name}.bias", 0.0)


# Every kind of tiny model by its name.
WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "swa": write_swa,
    "moe": write_moe,
    "recurrent": write_recurrent,
    "hybrid": write_hybrid,
    "embedding": write_embedding,
    "reranker": write_reranker,
    "causal_reranker": write_causal_reranker,
}
