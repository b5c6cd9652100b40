"""What is checked of a model file's tensors: that they lie where they should, and that ggml can compute with their types.

The shapes are llama.cpp's own matter: it compares each with what it expects and answers with an error. The types it
leaves to the first computation, which ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shimmy.models.gguf_file import Header, Tensor
from shimmy.models.quantization import TENSOR_TYPES

_F32 = 0
_INTEGERS = {24, 25, 26, 27}
# Kinds of numbers that no matrix is multiplied in (type_traits_cpu without vec_dot): activations on their way through
# a product, integers, and doubles.
_NOT_COMPUTED = {9, 15, 28} | _INTEGERS
# Tables of token or expert ids.
_TABLES = re.compile(r"d2t|blk\.\d+\.ffn_gate_tid2eid\.weight")
# ggml_ssm_conv takes floats only; llama.cpp's converter keeps these from being quantized.
_CONVOLUTIONS = re.compile(r"blk\.\d+\.(ssm_conv1d\w*|shortconv\.conv)\.weight")


def wrong_tensors(header: Header) -> Iterator[str]:
    """What is wrong with the tensors of one file, in words that follow on its name."""
    end = 0
    for tensor in header.tensors:
        yield from _wrong_type(tensor)
        if not tensor.n_elements:
            yield f"has the tensor {tensor.name!r} of the shape {list(tensor.shape)}, without any weights"
        if tensor.offset != end:  # gguf_init_from_reader wants them one behind the other
            yield f"has the tensor {tensor.name!r} at {tensor.offset} where {end} would be right; fetch it again"
        end = tensor.offset + -(-tensor.n_bytes // header.alignment) * header.alignment
    last = max((tensor.offset + tensor.n_bytes for tensor in header.tensors), default=0)
    missing = header.data_start + last - header.file_size if header.tensors else 0
    if missing > 0:
        yield f"is cut short: {missing} bytes are missing; fetch it again"


def _wrong_type(tensor: Tensor) -> Iterator[str]:
    kind = TENSOR_TYPES[tensor.type].name
    if _TABLES.fullmatch(tensor.name) and tensor.type in _INTEGERS:
        return
    if tensor.type in _NOT_COMPUTED:
        yield f"has the tensor {tensor.name!r} in {kind}, which nothing can be computed with"
    # Norms, biases and the like are added and multiplied, for which ggml knows floats only. Only names that end in
    # .weight are ever quantized (tensor_allows_quantization).
    plain = len(tensor.shape) < 2 or not tensor.name.endswith(".weight") or _CONVOLUTIONS.fullmatch(tensor.name)
    if tensor.type != _F32 and plain:
        yield f"has the vector {tensor.name!r} quantized as {kind}; F32 is right"
