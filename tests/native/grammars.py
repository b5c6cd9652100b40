"""Grammars to compare with, and made-up ones."""

from __future__ import annotations

from hypothesis import strategies as st

GRAMMARS = {
    "json": r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
""",
    "arithmetic": r"""
root ::= (expr "=" ws term "\n")+
expr ::= term ([-+*/] term)*
term ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*
""",
    "list": r"""
root ::= item+
item ::= "- " [^\r\n\x0b\x0c]+ "\n"
""",
    "japanese": r"""
root ::= jp-char+ ([ \t\n] jp-char+)*
jp-char ::= hiragana | katakana | punctuation | cjk
hiragana ::= [ぁ-ゟ]
katakana ::= [ァ-ヿ]
punctuation ::= [、-〾]
cjk ::= [一-鿿]
""",
    "any": "root ::= .*",
    "ambiguous": 'root ::= a*\na ::= "a" | "aa" | b "a" | "a" b\nb ::= "b" | "ab" | ""',
    "nested": 'root ::= "(" root ")" root | [a-c]{2,3} | ""',
    "counted": 'root ::= "the " ([a-z]{1,5} " "){2,4} "end"',
    "empty or not": 'root ::= ("" | "a"?) ("é" | "éé")? "€"{0,3}',
    "token": 'root ::= <|im_start|> <[40]> <[41]>? "x"+ | <[41]> "y" | [a-c] "y"',
}


@st.composite
def made_up(draw: st.DrawFn) -> str:
    """A grammar without left recursion: a rule uses later ones, and itself at its end."""
    n = draw(st.integers(1, 4))
    rules = []
    for i in range(n):
        item = _items([f"r{j}" for j in range(i + 1, n)])
        alternatives = draw(st.lists(st.lists(item, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=3))
        if draw(st.booleans()):
            alternatives.append(f"{draw(_literals)} r{i}")
        rules.append(f"r{i} ::= {' | '.join(alternatives)}")
    return "root ::= r0\n" + "\n".join(rules)


_literals = st.text(st.sampled_from("abthe é€😀"), min_size=1, max_size=3).map('"{}"'.format)
_classes = st.sampled_from(["[a-e]", "[^a-z]", "[ab é]", "[à-ÿ]", "[^\\n]", "[一-鿿a]", "."])


def _items(names: list[str]) -> st.SearchStrategy[str]:
    plain = _literals | _classes | (st.sampled_from(names) if names else st.nothing())
    group = st.lists(plain, min_size=1, max_size=2).map(lambda items: f"({' | '.join(items)})")
    repeat = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}", "{0,2}", "{2,}"])
    return st.tuples(plain | group, repeat).map("".join)
