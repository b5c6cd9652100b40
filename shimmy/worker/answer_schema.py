"""The JSON schema of an answer, on its way to the grammar that holds the answer to it."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native.chat import Rendered
from shimmy.schema import Conversion, convert
from shimmy.types import GenerateRequest, Unheld

_MARK = "shimmy:the-schema-of-the-answer"
MARK_SCHEMA = f'{{"const":"{_MARK}"}}'
"""What a chat template's format is given for a schema: its grammar then has one place for ours, which knows more keywords."""

_ROOT = "js-answer"
_IN_GRAMMAR = rf'"\"{_MARK}\""'
_IN_PROMPT = re.compile(rf'\{{\s*"const"\s*:\s*"{_MARK}"\s*\}}')

_NOWHERE = Unheld("#", "json_schema")
"""The whole schema: the format of the model's answers has no place for it."""


class AnswerSchema(msgspec.Struct, frozen=True):
    """A schema as it was given, and its grammar by the rule ``js-answer``."""

    text: str
    conversion: Conversion

    @property
    def gbnf(self) -> str:
        """The grammar of an answer that is nothing else."""
        return f"root ::= {_ROOT}\n{self.conversion.gbnf}"

    def put_into(self, rendered: Rendered) -> tuple[Rendered, list[Unheld]]:
        """What was rendered with MARK_SCHEMA, with the schema instead, and what of it answers are not held to then."""
        prompt = _IN_PROMPT.sub(lambda _: self.text, rendered.prompt)
        unheld = list(self.conversion.unheld)
        grammar = rendered.grammar
        if grammar and _IN_GRAMMAR in grammar:
            grammar = grammar.replace(_IN_GRAMMAR, _ROOT).rstrip("\n") + "\n" + self.conversion.gbnf
        elif grammar:
            unheld.append(_NOWHERE)
        return msgspec.structs.replace(rendered, prompt=prompt, grammar=grammar), unheld


def answer_schema(text: str | None) -> AnswerSchema | None:
    """None: there is none. Raises InvalidRequest, param json_schema, as shimmy.schema.convert does."""
    return None if text is None else AnswerSchema(text, _convert(text))


def check_strict(request: GenerateRequest, unheld: list[Unheld]) -> None:
    """Raise InvalidRequest where the request wants to be refused rather than not held to its whole schema."""
    if not request.strict or not unheld:
        return
    path, keyword = unheld[0].path, unheld[0].keyword
    raise InvalidRequest(
        f"json_schema at {path}: {keyword} cannot be held while the answer is made, and strict is true;"
        " leave it out, or leave strict out and have it reported",
        param="json_schema",
    )


@lru_cache(32)
def _convert(text: str) -> Conversion:
    return convert(text, root=_ROOT)
