"""Drawing under a grammar: what is refused, what is drawn in its place, and where it ends."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice, pairwise, product
from string import ascii_lowercase

import msgspec
import numpy as np
import pytest

from shimmy.errors import InvalidRequest
from shimmy.native.context import TOKEN_NO_CHOICE, TOKEN_TOO_COSTLY
from shimmy.native.grammar import Grammar, GrammarCache
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import Reasoning, SamplingParams, Trigger
from tests.native.allowed import GREEDY, WHOLE, allowed, control_tokens, draw, end_tokens, nul_token
from tests.native.blank import Blank

N_VOCAB = 512


def token(model: Model, text: str | bytes) -> int:
    """The token with exactly this text."""
    wanted = text.encode() if isinstance(text, str) else text
    return next(t for t in range(N_VOCAB) if model.piece(t) == wanted)


def texts(model: Model, gbnf: str, before: str = "") -> set[bytes]:
    """The texts of the tokens that may follow ``before``."""
    with closing(Grammar(model, gbnf)) as grammar:
        tokens = model.tokenize(before, add_special=False) if before else []
        return {model.piece(t) for t in np.flatnonzero(allowed(model, grammar, tokens)).tolist()}


def write(sampler: Sampler, tokens: Sequence[int]) -> int:
    """Draw these tokens as long as they are allowed; the flags of the first draw that gave none."""
    for wanted in tokens:
        drawn, flags = draw(sampler, wanted, N_VOCAB)
        if drawn < 0:
            return flags
        assert drawn == wanted
    return 0


def test_a_refused_token_is_drawn_again_from_those_that_are_allowed(llama: Model) -> None:
    with closing(Grammar(llama, 'root ::= "a" | "b"')) as grammar:
        params = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=7)
        row = np.full(N_VOCAB, -30.0, np.float32)
        for text, share in (("a", 0.3), ("b", 0.2), ("c", 0.5)):
            row[token(llama, text)] = np.log(share)
        seen: Counter[bytes] = Counter()
        for seed in range(2000):
            fresh = SamplingParams(**{**{f: getattr(params, f) for f in params.__struct_fields__}, "seed": seed})
            with closing(Sampler(llama, fresh, [], n_ctx=64, grammar=grammar)) as sampler:
                seen[llama.piece(sampler.sample(array("f", row.tobytes()))[0])] += 1
    assert set(seen) == {b"a", b"b"}
    assert abs(seen[b"a"] / 2000 - 0.6) < 0.05  # 0.3 + 0.5 * 0.3 / 0.5


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_k=40, temperature=1),
        SamplingParams(top_k=3, temperature=2, min_p=0.2),
        SamplingParams(top_k=5, temperature=2, ignore_eos=True, logit_bias=dict.fromkeys(range(97, 105), -3.0)),
        GREEDY,
    ],
    ids=["40", "3", "biased", "greedy"],
)
def test_testing_the_likeliest_draws_what_a_mask_of_all_would(llama: Model, params: SamplingParams) -> None:
    text = 'root ::= [a-z ]{1,40} | "\\n"'
    rng = np.random.default_rng(5)
    n_refused = 0
    for seed in range(150):
        row = rng.normal(0, 2, N_VOCAB).astype(np.float32)
        drawn = []
        for masked in (False, True):
            with closing(Grammar(llama, text)) as grammar:
                if masked:
                    n_allowed = int(allowed(llama, grammar, []).sum())
                with closing(
                    Sampler(llama, msgspec.structs.replace(params, seed=seed), [], n_ctx=64, grammar=grammar)
                ) as s:
                    work = array("f", row.tobytes())
                    drawn.append(s.sample(work)[0])
                    n_refused += not masked and bool(np.isneginf(np.frombuffer(work, np.float32)).any())
        assert drawn[0] == drawn[1]
    assert n_allowed > 40
    assert n_refused > 20


def test_once_the_grammar_is_done_only_an_end_is_drawn(llama: Model) -> None:
    with (
        closing(Grammar(llama, 'root ::= "a"')) as grammar,
        closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        assert write(sampler, [token(llama, "a")]) == 0
        drawn, _ = draw(sampler, token(llama, "a"), N_VOCAB)
        assert drawn in end_tokens(llama)


def test_where_nothing_can_follow_the_draw_says_so(llama: Model) -> None:
    params = SamplingParams(temperature=0, ignore_eos=True)
    with (
        closing(Grammar(llama, 'root ::= "a"')) as grammar,
        closing(Sampler(llama, params, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        assert write(sampler, [token(llama, "a")]) == 0
        assert draw(sampler, token(llama, "a"), N_VOCAB) == (-1, TOKEN_NO_CHOICE)


def test_an_end_is_not_allowed_before_the_grammar_is_done(llama: Model) -> None:
    assert texts(llama, 'root ::= "the" " cat"?', "th") == {b"e"}
    assert b"" in texts(llama, 'root ::= "the" " cat"?', "the")


def test_a_character_may_come_in_parts(llama: Model) -> None:
    euro = "€".encode()
    assert texts(llama, 'root ::= "€"?') == {euro[:1], b""}
    with closing(Grammar(llama, 'root ::= "€"?')) as grammar:
        start, middle, last = (token(llama, euro[i : i + 1]) for i in range(3))
        assert np.flatnonzero(allowed(llama, grammar, [start])).tolist() == [middle]
        assert np.flatnonzero(allowed(llama, grammar, [start, middle])).tolist() == [last]


def test_a_class_with_exceptions_allows_the_first_byte_of_others(llama: Model) -> None:
    assert "à".encode()[:1] in texts(llama, "root ::= [^é]")  # which shares it with é
    with closing(Grammar(llama, "root ::= [^é]")) as grammar:
        first, a, e = (token(llama, data) for data in (b"\xc3", b"\xa0", b"\xa9"))
        after = allowed(llama, grammar, [first])
        assert after[a]
        assert not after[e]


def test_control_tokens_match_by_their_text_only_where_they_are_shown(llama: Model) -> None:
    start = llama.tokenize("<|im_start|>", add_special=False)
    assert len(start) == 1
    gbnf = 'root ::= "<|im_start|>" | .'
    with closing(Grammar(llama, gbnf)) as hidden, closing(Grammar(llama, gbnf, preserved=start)) as shown:
        assert not allowed(llama, hidden, [])[start[0]]
        assert allowed(llama, shown, [])[start[0]]
    with closing(Grammar(llama, "root ::= <|im_start|> .")) as by_name:
        assert np.flatnonzero(allowed(llama, by_name, [])).tolist() == start


def test_a_symbol_for_a_token_is_met_only_by_that_token(llama: Model) -> None:
    e, t, h = (token(llama, text) for text in "eth")
    with closing(Grammar(llama, f'root ::= "t" <[{e}]> | "x" !<[{e}]>')) as grammar:
        after = allowed(llama, grammar, [t])
        assert np.flatnonzero(after).tolist() == [e]
        after = allowed(llama, grammar, [token(llama, "x")])
        assert after[h]
        assert not after[e]
        assert not after[nul_token(llama)]
        assert not after[list(end_tokens(llama))].any()


def test_symbols_for_all_tokens_but_one_add_up(llama: Model) -> None:
    def names(gbnf: str) -> set[int]:
        with closing(Grammar(llama, gbnf)) as grammar:
            return set(np.flatnonzero(allowed(llama, grammar, [])).tolist())

    e, t = (token(llama, text) for text in "et")
    every = names(f"root ::= !<[{e}]> | <[{e}]>")
    assert {e, t} < every
    assert not end_tokens(llama) & every
    assert nul_token(llama) not in every
    assert names(f'root ::= !<[{e}]> | !<[{e}]> "x" | <[{t}]>') == every - {e}
    assert names(f'root ::= !<[{e}]> | !<[{t}]> "x"') == every
    assert names(f'root ::= !<[{e}]> | !<[{t}]> "x" | !<[{e}]> "y"') == every


def test_thousands_of_symbols_for_tokens_are_drawn_from(blank: Callable[[int], Blank]) -> None:
    n_vocab = 100_000
    model = blank(n_vocab)
    gbnf = "root ::= " + " | ".join(f'{"!" if t % 2 else ""}<[{t}]> "a"' for t in range(4000))
    with (
        closing(Grammar(model, gbnf)) as grammar,  # type: ignore[arg-type] # what it needs of a Model
        closing(Sampler(model, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,  # type: ignore[arg-type]
    ):
        row = np.zeros(n_vocab, np.float32)
        row[[5000, 3998]] = 2, 1  # a token that none stands for, having no text, and the next best
        assert sampler.sample(array("f", row.tobytes()))[0] == 3998


def test_a_grammar_that_can_be_read_in_too_many_ways_ends_the_draw(llama: Model) -> None:
    gbnf = 'root ::= s\ns ::= "x" a b | "x" b a | "x"\na ::= s "y" | s "z" | s\nb ::= s "z" | s "y" | s'
    with (
        closing(Grammar(llama, gbnf)) as grammar,
        closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        assert write(sampler, [token(llama, "x")] * 60) == TOKEN_TOO_COSTLY
        assert draw(sampler, token(llama, "x"), N_VOCAB) == (-1, TOKEN_TOO_COSTLY)  # and stays so
        assert grammar.n_bytes < 64 * 2**20


def test_brackets_nest_beyond_what_one_automaton_holds_but_not_for_ever(llama: Model) -> None:
    with (
        closing(Grammar(llama, 'root ::= "(" root ")" | ""')) as grammar,
        closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        bracket = token(llama, "(")
        assert write(sampler, [bracket] * 45_000) == 0
        assert grammar.n_bytes < 20 * 2**20
        assert write(sampler, [bracket] * 10_000) == TOKEN_TOO_COSTLY


def test_a_text_that_nests_too_deep_does_so_for_the_next_sequence_of_the_grammar(llama: Model) -> None:
    names = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=4), 50_101)]
    chain = [f'{name} ::= {deeper} "x"' for name, deeper in pairwise(names)]
    with closing(Grammar(llama, "\n".join(['root ::= "a" aaaa', *chain, f'{names[-1]} ::= "x"']))) as grammar:
        for _ in range(2):
            with closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler:
                assert write(sampler, [token(llama, "a")]) == TOKEN_TOO_COSTLY


def test_sequences_of_one_grammar_do_not_disturb_each_other(
    llama: Model, run_in_threads: Callable[[Callable[[], object]], list[object]]
) -> None:
    with closing(Grammar(llama, 'root ::= "(" root ")" | [a-z]{3,8}')) as grammar:

        def body() -> bytes:
            out = b""
            with closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler:
                for text in "((((abcdefgh))))":
                    drawn, _ = draw(sampler, token(llama, text), N_VOCAB)
                    out += llama.piece(drawn)
                assert draw(sampler, nul_token(llama), N_VOCAB)[0] in end_tokens(llama)
            return out

        assert run_in_threads(body) == [b"((((abcdefgh))))"] * 4


def test_a_sampler_goes_on_when_its_grammar_is_closed(llama: Model) -> None:
    grammar = Grammar(llama, 'root ::= "ab"')
    with closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler:
        grammar.close()
        assert write(sampler, [token(llama, "a"), token(llama, "b")]) == 0


def test_a_grammar_of_another_model_is_refused(llama: Model, blank: Callable[[int], Blank]) -> None:
    with closing(Grammar(llama, 'root ::= "a"')) as grammar, pytest.raises(InvalidRequest, match="another model"):
        Sampler(blank(64), GREEDY, [], n_ctx=64, grammar=grammar)  # type: ignore[arg-type] # what it needs of a Model


LAZY = 'root ::= "<call>" [a-z]+ "</call>"'


def lazily(llama: Model, *triggers: Trigger, gbnf: str = LAZY) -> Sampler:
    with closing(Grammar(llama, gbnf, lazy=True, triggers=triggers)) as grammar:
        return Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)


@pytest.mark.parametrize(
    "trigger",
    [
        Trigger("word", "<call>"),
        Trigger("pattern", "(<call>)"),
        Trigger("pattern", "[a-z]+(<c)all>"),
        Trigger("pattern_full", r"[\s\S]*(<call>)"),
    ],
)
def test_a_lazy_grammar_takes_in_the_text_from_its_trigger_on(llama: Model, trigger: Trigger) -> None:
    with closing(lazily(llama, trigger)) as sampler:
        free = "any text, <cal, abc"
        assert write(sampler, llama.tokenize(free, add_special=False)) == 0
        assert write(sampler, [token(llama, text) for text in "<call>"]) == 0
        drawn, _ = draw(sampler, token(llama, "7"), N_VOCAB)  # not a letter
        assert llama.piece(drawn).isalpha()


def test_a_trigger_in_the_middle_of_a_token_gives_the_rest_of_it(llama: Model) -> None:
    the = token(llama, " the")
    with closing(lazily(llama, Trigger("word", "he"), gbnf='root ::= "he" "7"')) as sampler:
        assert write(sampler, [the]) == 0
        drawn, _ = draw(sampler, the, N_VOCAB)
        assert llama.piece(drawn) == b"7"


def test_a_token_wakes_a_lazy_grammar(llama: Model) -> None:
    start = llama.tokenize("<|im_start|>", add_special=False)[0]
    trigger = Trigger("token", token=start)
    with closing(lazily(llama, trigger, gbnf='root ::= "<|im_start|>" "7"')) as sampler:
        assert write(sampler, [token(llama, "a"), start]) == 0
        drawn, _ = draw(sampler, token(llama, "a"), N_VOCAB)
        assert llama.piece(drawn) == b"7"


def test_a_trigger_is_seen_after_much_other_text(llama: Model) -> None:
    longest = max(range(N_VOCAB), key=lambda t: len(llama.piece(t)))
    for trigger in (Trigger("word", "<call>"), Trigger("pattern", "<(c)all>")):
        with closing(lazily(llama, trigger, gbnf='root ::= "<call>7" | "call>7"')) as sampler:
            assert write(sampler, [longest] * (12_000 // len(llama.piece(longest)))) == 0
            assert write(sampler, [token(llama, text) for text in "<call>"]) == 0
            drawn, _ = draw(sampler, token(llama, "a"), N_VOCAB)
            assert llama.piece(drawn) == b"7"


def test_a_full_pattern_does_not_match_a_part_of_a_long_text(llama: Model) -> None:
    with closing(lazily(llama, Trigger("pattern_full", "[ a-z]*(<call>)"))) as sampler:
        longest = max(range(N_VOCAB), key=lambda t: len(llama.piece(t)))
        assert write(sampler, [longest] * 1000 + [token(llama, text) for text in "<call>77"]) == 0


def test_a_text_that_does_not_fit_after_its_trigger_leaves_no_choice(llama: Model) -> None:
    with closing(lazily(llama, Trigger("word", "<"))) as sampler:
        assert write(sampler, [token(llama, "<")]) == 0
    with closing(lazily(llama, Trigger("word", "<x"))) as sampler:
        assert write(sampler, [token(llama, "<"), token(llama, "x")]) == 0
        assert draw(sampler, token(llama, "x"), N_VOCAB) == (-1, TOKEN_NO_CHOICE)


def is_awake(llama: Model, text: str, trigger: Trigger, reasoning: Reasoning, size: int) -> bool:
    """Whether the grammar has taken ``text``, in tokens of about ``size`` bytes, for the begin of a call."""
    grammar = Grammar(llama, 'root ::= "<call>" "7"', lazy=True, triggers=[trigger], reasoning=reasoning)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    tokens = [found for piece in pieces for found in llama.tokenize(piece, add_special=False)]
    with closing(grammar), closing(Sampler(llama, GREEDY, [], n_ctx=1024, grammar=grammar)) as sampler:
        assert write(sampler, tokens) == 0
        return draw(sampler, token(llama, "a"), N_VOCAB)[0] != token(llama, "a")


@pytest.mark.parametrize(
    "trigger",
    [Trigger("word", "<call>"), Trigger("pattern", "(<call>)"), Trigger("pattern_full", r"[\s\S]*(<call>)")],
)
@pytest.mark.parametrize(
    ("text", "begun", "awake"),
    [
        ("<think>a <call>", False, False),
        ("a <call>", True, False),
        ("a <call> </think>b", True, False),
        ("<think>a</think> <call>", False, True),
        ("a <call> <end> <call>", True, True),
        ("<call>", False, True),
        ("</think> <think> <call> </thin <call> k> <end <call>", False, False),
        ("<think>a</think><think><call>", False, False),
        ("<think><think></think><call>", False, True),
    ],
)
def test_a_trigger_inside_of_reasoning_wakes_nothing(
    llama: Model, text: str, begun: bool, awake: bool, trigger: Trigger
) -> None:
    reasoning = Reasoning("<think>", ("</think>", "<end>"), begun)
    for size in (1, 2, 5, 200):
        assert is_awake(llama, text, trigger, reasoning, size) == awake


def test_a_token_inside_of_reasoning_wakes_nothing(llama: Model) -> None:
    start = llama.tokenize("<|im_start|>", add_special=False)[0]
    with (
        closing(
            Grammar(
                llama,
                'root ::= "<|im_start|>" "7"',
                lazy=True,
                triggers=[Trigger("token", token=start)],
                reasoning=Reasoning("x", ("y",)),
            )
        ) as grammar,
        closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        assert write(sampler, [token(llama, "x"), start, token(llama, "a"), token(llama, "y"), start]) == 0
        assert llama.piece(draw(sampler, token(llama, "a"), N_VOCAB)[0]) == b"7"


def test_what_ends_reasoning_may_wake_a_grammar(llama: Model) -> None:
    gbnf = 'root ::= "</think>" "7"'
    reasoning = Reasoning("<think>", ("</think>",), begun=True)
    trigger = Trigger("word", "</think>")
    with (
        closing(Grammar(llama, gbnf, lazy=True, triggers=[trigger], reasoning=reasoning)) as grammar,
        closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler,
    ):
        assert write(sampler, [token(llama, text) for text in "a</think>"]) == 0
        assert llama.piece(draw(sampler, token(llama, "a"), N_VOCAB)[0]) == b"7"


@pytest.mark.parametrize("ends", [(), ("",), ("a", "")])
def test_reasoning_without_an_end_is_refused(llama: Model, ends: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Grammar(llama, LAZY, lazy=True, triggers=[Trigger("word", "a")], reasoning=Reasoning("<", ends))
    assert raised.value.facts["param"] == "reasoning"


@pytest.mark.parametrize(
    ("triggers", "message"),
    [
        ([], "triggers must be given for a lazy grammar"),
        ([Trigger("word", "")], "a word is empty"),
        ([Trigger("pattern", "(a")], r"the pattern '\(a' is wrong"),
        ([Trigger("token")], "triggers must be tokens of the vocabulary"),
        ([Trigger("token", token=N_VOCAB)], "triggers must be tokens of the vocabulary"),
        ([Trigger("token", token=2**40)], "triggers must be tokens of the vocabulary"),
        ([Trigger("word", "\ud800")], "not valid Unicode"),
    ],
)
def test_wrong_triggers_are_named(llama: Model, triggers: list[Trigger], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        Grammar(llama, LAZY, lazy=True, triggers=triggers)
    assert raised.value.facts["param"] == "triggers"


def test_a_preserved_token_outside_the_vocabulary_is_refused(llama: Model) -> None:
    for token in (-1, 2**40):
        with pytest.raises(InvalidRequest, match="preserved must be tokens of the vocabulary"):
            Grammar(llama, LAZY, preserved=[token])
    Grammar(llama, LAZY, preserved=control_tokens(llama)).close()


def test_a_grammar_that_comes_again_is_not_compiled_again(llama: Model) -> None:
    cache = GrammarCache(llama)
    first = cache.grammar('root ::= "a"')
    assert cache.grammar('root ::= "b"') is not first
    assert cache.grammar('root ::= "a"') is first
    assert cache.grammar('root ::= "a"', preserved=[1]) is not first
    assert len(cache) == 3
    with pytest.raises(InvalidRequest):
        cache.grammar("root ::= (")
    assert len(cache) == 3


def test_the_least_used_grammar_goes_when_there_are_too_many(llama: Model) -> None:
    cache = GrammarCache(llama, max_entries=2)
    first, second = cache.grammar('root ::= "a"'), cache.grammar('root ::= "b"')
    cache.grammar('root ::= "a"')
    cache.grammar('root ::= "c"')
    assert len(cache) == 2
    assert cache.grammar('root ::= "a"') is first
    assert second.n_bytes == 0  # closed


def test_grammars_that_hold_too_much_memory_go(llama: Model) -> None:
    cache = GrammarCache(llama, max_bytes=100_000)
    for n in range(10):
        cache.grammar(f'root ::= "{n}"{{5000}}')
    assert 1 <= len(cache) <= 3


def test_what_a_grammar_learns_is_part_of_what_it_holds(blank: Callable[[int], Blank]) -> None:
    n_vocab = 65_536
    model = blank(n_vocab)
    with (
        closing(Grammar(model, "root ::= <[7]>{100}")) as grammar,  # type: ignore[arg-type] # what it needs of a Model
        closing(Sampler(model, WHOLE, [], n_ctx=64, grammar=grammar)) as sampler,  # type: ignore[arg-type]
    ):
        for _ in range(90):
            row = np.zeros(n_vocab, np.float32)
            row[8] = 100  # refused: one bit a token is learnt
            assert sampler.sample(array("f", row.tobytes()))[0] == 7
        assert grammar.n_bytes > 90 * n_vocab // 8


def test_grammars_that_have_grown_go_when_another_comes_again(llama: Model) -> None:
    cache = GrammarCache(llama, max_bytes=1_000_000)
    small, grows = cache.grammar('root ::= "a"'), cache.grammar('root ::= "(" root ")" | ""')
    with closing(Sampler(llama, GREEDY, [], n_ctx=64, grammar=grows)) as sampler:
        assert write(sampler, [token(llama, "(")] * 10_000) == 0
    assert len(cache) == 2
    assert cache.grammar('root ::= "a"') is small
    assert len(cache) == 1
    assert grows.n_bytes == 0  # closed
