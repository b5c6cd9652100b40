"""Formats of strings: texts that every checker of the format takes for right, though not all of them."""

from __future__ import annotations

from shimmy.schema.expressions import Node
from shimmy.schema.patterns import pattern_tree

_LABEL = "[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,10}){0,2}"
_EMAIL = "[A-Za-z0-9]{1,20}([._+-][A-Za-z0-9]{1,10}){0,2}"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,3}}\.[a-z]{{2,10}}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_YEAR = "(1[6-9]|2[0-9])[0-9]{2}"
# No 29th of February: which years have one, an expression of bearable size cannot say.
_DAY = "((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_DATE = f"{_YEAR}-{_DAY}"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_HEX = "[0-9a-fA-F]"
_PATH = r"(/[A-Za-z0-9._~-]{1,40}){0,8}/?(\?[A-Za-z0-9._~=&-]{1,60})?(#[A-Za-z0-9._~-]{1,40})?"

_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": "P([0-9]{1,4}W|[0-9]{1,4}D(T[0-9]{1,4}H)?|T[0-9]{1,4}(H[0-9]{1,4}M[0-9]{1,4}S|M[0-9]{1,4}S|[HMS]))",
    "email": f"{_EMAIL}@{_HOST}",
    "idn-email": f"{_EMAIL}@{_HOST}",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": f"{_HEX}{{1,4}}(:{_HEX}{{1,4}}){{7}}",
    "uri": f"https?://{_HOST}{_PATH}",
    "uri-reference": f"(https?://{_HOST})?{_PATH}",
    "iri": f"https?://{_HOST}{_PATH}",
    "iri-reference": f"(https?://{_HOST})?{_PATH}",
    "uuid": f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "json-pointer": r"(/[^/~]{1,40}){0,8}",
    "relative-json-pointer": r"(0|[1-9][0-9]{0,4})(/[A-Za-z0-9._-]{1,40}){0,8}",
}


def format_tree(name: str) -> Node | None:
    """The texts of a format; None: it is not known."""
    pattern = _PATTERNS.get(name)
    return None if pattern is None else pattern_tree(f"^({pattern})$")
