"""JSON schemas as grammars: what a schema says of an answer, held while the answer is made, and what of it cannot be."""

from shimmy.schema.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
