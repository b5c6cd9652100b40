"""Fixtures of the native layer's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import pytest

from tests.native.blank import Blank, Blanks, write_blank
from tests.native.chain import ChainModel


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Blank]]:
    """Models that have only a vocabulary: ``blank(width)``."""
    folder: Path = tmp_path_factory.mktemp("blank")
    with ExitStack() as stack:

        @cache
        def make(n_vocab: int) -> Blank:
            path = write_blank(folder / f"{n_vocab}.gguf", n_vocab)
            return stack.enter_context(closing(Blank(path, n_vocab)))

        yield make


@pytest.fixture(scope="session")
def chain_model(blank: Blanks) -> Iterator[Callable[[int], ChainModel]]:
    """The chain's view of ``blank(width)``."""
    with ExitStack() as stack:

        @cache
        def make(width: int) -> ChainModel:
            return stack.enter_context(closing(ChainModel(blank(width).path)))

        yield make


@pytest.fixture
def run_in_threads() -> Callable[[Callable[[], object]], list[object]]:
    """Run a function in four threads at once; their results, or the first exception."""

    def run(body: Callable[[], object]) -> list[object]:
        with ThreadPoolExecutor(4) as threads:
            return [future.result(timeout=300) for future in [threads.submit(body) for _ in range(4)]]

    return run
