"""Fill in the middle: a prompt that asks a model for the text between two texts."""

from __future__ import annotations

from shimmy.errors import InvalidRequest
from shimmy.types import GenerateRequest, ModelFacts
from shimmy.worker.loading import LoadedModel
from shimmy.worker.tokens import MAX_TEXT, check_size, check_tokens, text_size, tokenize


def infill_tokens(request: GenerateRequest, loaded: LoadedModel) -> list[int]:
    """[BOS] PRE prompt SUF suffix MID.

    As llama-server's format_prompt_infill, without its names of repository and file: special tokens in the two texts are plain
    text, and BOS is there where the model adds it. Raises InvalidRequest (suffix, prompt).
    """
    before, behind, middle = _infill_tokens(loaded.model.facts)
    check_size(sum(text_size(text or "", "suffix") for text in (request.prompt, request.suffix)), "suffix", MAX_TEXT)
    prefix = [before, *_plain(request, loaded)]
    plain = {"add_special": False, "parse_special": False}
    suffix = [behind, *tokenize(loaded.model, request.suffix or "", "suffix", loaded.n_ctx, **plain)]
    facts = loaded.model.facts
    bos = facts.special_tokens["bos"]
    start = [bos] if facts.add_bos and bos is not None else []
    return [*start, *prefix, *suffix, middle]


def _plain(request: GenerateRequest, loaded: LoadedModel) -> list[int]:
    """The prompt, which may be empty: then the model writes a beginning."""
    if request.prompt_tokens is not None:
        return check_tokens(loaded.model, request.prompt_tokens, "prompt")
    if request.prompt is None:
        raise InvalidRequest("suffix needs a prompt: send what stands before the gap", param="prompt")
    return tokenize(loaded.model, request.prompt, "prompt", loaded.n_ctx, add_special=False, parse_special=False)


def _infill_tokens(facts: ModelFacts) -> tuple[int, int, int]:
    """The tokens before the prefix, before the suffix, and before the answer."""
    before, behind, middle = (facts.special_tokens[name] for name in ("fim_pre", "fim_suf", "fim_mid"))
    if before is None or behind is None or middle is None:
        raise InvalidRequest(
            "this model cannot fill in the middle: leave suffix out, or use a model whose capabilities name fim",
            param="suffix",
        )
    return before, behind, middle
