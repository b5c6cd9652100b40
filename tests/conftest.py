"""Fixtures for all tests: the tiny models, loaded once, and a guard against processes that outlive their test."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import platformdirs
import psutil
import pytest
from hypothesis import settings

from shimmy.errors import ShimmyError
from shimmy.models.progress import Silent
from shimmy.models.sources import parse_source
from shimmy.models.store import Store
from shimmy.native.context import Context
from shimmy.native.model import Model
from shimmy.types import ContextParams, ModelParams
from tests.contexts import MakeContext
from tests.wide import write_wide

pytest_plugins = ["tests.tiny.fixtures"]

# The same examples in each run, however long each takes: a machine's mood and chance are no reasons to fail.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

# A shell's background job ignores interrupts, nohup hangups, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DECODERS = ["llama", "swa", "moe", "recurrent", "hybrid"]


@pytest.fixture(autouse=True, scope="module")
def _no_stray_children() -> Iterator[None]:
    """A file of tests must end the processes that it started."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    stray = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not stray


def _load(path: Path) -> Iterator[Model]:
    with closing(Model(path, ModelParams())) as model:
        yield model


def _loaded(name: str) -> Callable[[pytest.FixtureRequest], Iterator[Model]]:
    """The tiny model of that name, loaded once in a session."""

    @pytest.fixture(scope="session", name=name)
    def fixture(request: pytest.FixtureRequest) -> Iterator[Model]:
        yield from _load(request.getfixturevalue(f"tiny_{name}"))

    return fixture


llama = _loaded("llama")
swa = _loaded("swa")
moe = _loaded("moe")
recurrent = _loaded("recurrent")
hybrid = _loaded("hybrid")
embedding = _loaded("embedding")
reranker = _loaded("reranker")


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Model:
    """Each kind of model that generates text, in turn."""
    model: Model = request.getfixturevalue(request.param)
    return model


@pytest.fixture(scope="session")
def tiny_wide(tiny_llama: Path, tiny_folder: Path) -> Path:
    """The llama with weights of 32 bits (tests/wide.py says why); make its context with WIDE."""
    return write_wide(tiny_llama, tiny_folder / "wide.gguf")


@pytest.fixture(scope="session")
def wide_llama(tiny_wide: Path) -> Iterator[Model]:
    yield from _load(tiny_wide)


@pytest.fixture(scope="session", params=DECODERS)
def wide_decoder(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[Model]:
    """Each kind of model that generates text, with weights of 32 bits."""
    source: Path = request.getfixturevalue(f"tiny_{request.param}")
    yield from _load(write_wide(source, tiny_folder / f"wide-{source.name}"))


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model, pulled once for all runs of the tests."""
    store = Store(platformdirs.user_cache_path("shimmy-tests", appauthor=False) / "models")
    try:
        return store.pull(parse_source(None), Silent()).path
    except ShimmyError as error:
        pytest.fail(f"these tests need the default model: {error.message}")


@pytest.fixture
def make_context() -> Iterator[MakeContext]:
    """Contexts with small sizes, closed after the test: ``make_context(model, n_ctx=..., any field of ContextParams)``."""
    with ExitStack() as stack:

        def make(
            model: Model, *, n_ctx: int = 512, n_seq_max: int = 4, n_rows_max: int | None = None, **params: Any
        ) -> Context:
            settings: dict[str, Any] = {"n_batch": 512, "n_ubatch": 512, "n_threads": 1, **params}
            context = Context(model, ContextParams(**settings), n_ctx=n_ctx, n_seq_max=n_seq_max, n_rows_max=n_rows_max)
            return stack.enter_context(closing(context))

        yield make
