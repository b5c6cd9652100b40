"""The corpus of answers that repeat their prompts, and what is no repetition but a loop."""

from __future__ import annotations

from collections import Counter

import pytest
from load import Stream
from speculation import KINDS, circles, decoding, tasks


def test_the_corpus_has_as_many_tasks_of_each_kind() -> None:
    counts = Counter(task.kind for task in tasks())
    assert set(counts) == set(KINDS)
    assert len(set(counts.values())) == 1


def test_no_task_is_a_loop_by_itself() -> None:
    for task in tasks():
        assert len(task.prompt.split()) > 30
        assert circles(task.prompt) < 0.15, task.prompt[:60]


def test_a_text_that_goes_in_circles_is_noticed_and_another_is_not() -> None:
    assert circles("one two three four five six seven eight nine ten " * 5) == 0.66
    assert circles(" ".join(f"word{i}" for i in range(50))) == 0
    assert circles("") == 0


def test_decoding_leaves_prompts_and_first_tokens_out() -> None:
    answers = [Stream(0, 6, [5.0, 5.5, 6.0], "", 9, 1, 0), Stream(6, 14, [10.0, 14.0], "", 5, 1, 0)]
    assert decoding(answers) == pytest.approx((8 + 4) / (1 + 4))
