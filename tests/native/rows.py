"""Rows of logits as a real model gives them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextParams, ModelParams, SamplingParams

TEXT = """The harbour was quiet that morning. A single boat, painted blue and white, lay at the end of the pier; its owner,
an old man named Tom, was mending a net. "Good morning," he said. "You are early. Have you had your coffee?"

def area(width: float, height: float) -> float:
    return width * height

In 1969, three men flew to the Moon: Neil Armstrong, Buzz Aldrin and Michael Collins. The first step was seen by 600 million
people. 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12. Der Hund lief über die Brücke. Le chat dort sur le canapé."""


def capture(path: Path, n_rows: int) -> NDArray[np.float32]:
    """The rows [n_rows][n_vocab] after as many prefixes of TEXT, evenly spread."""
    with closing(Model(path, ModelParams())) as model:
        tokens = model.tokenize(TEXT)
        ends = np.linspace(1, len(tokens), n_rows).astype(int).tolist()
        rows = np.empty((n_rows, model.facts.n_vocab), np.float32)
        params = ContextParams(n_batch=512, n_ubatch=512)
        greedy = Sampler(model, SamplingParams(temperature=0), [], n_ctx=512)
        with closing(Context(model, params, n_ctx=512, n_seq_max=1)) as context, closing(greedy):
            begin = 0
            for number, end in enumerate(ends):
                if end > begin:
                    context.step([Run(0, begin, tokens[begin:end], greedy)])
                rows[number] = context.logits_of(0)
                begin = end
    return rows
