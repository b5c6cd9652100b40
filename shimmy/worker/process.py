"""A worker process: one loaded model. Started as ``python -m shimmy.worker.process FD`` by worker/client.py.

The main thread loads the model and then is the engine; a reader takes commands and answers heartbeats; preparation turns requests
into sequences; two more watch preparation and the machine's other processes. The process ends when its socket closes, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

from shimmy.engine.answers import cancelled
from shimmy.engine.embedding import EmbeddingQueue
from shimmy.engine.embedding_engine import EmbeddingEngine
from shimmy.engine.engine import Engine
from shimmy.errors import ShimmyError
from shimmy.native import ffi
from shimmy.types import Event, Failed, Finished, Timings, Usage
from shimmy.worker.embedding import prepare_embedding, prepare_rerank
from shimmy.worker.host_memory import spare_memory, spill_bytes
from shimmy.worker.loading import LoadedModel, estimate, load
from shimmy.worker.neighbours import Neighbours
from shimmy.worker.preparation import prepare
from shimmy.worker.protocol import (
    Abort,
    ApplyTemplate,
    Detokenize,
    Embed,
    Estimate,
    EstimateFailed,
    FrameWriter,
    Load,
    LoadFailed,
    Ping,
    Pong,
    Report,
    Request,
    Rerank,
    Submit,
    Tokenize,
    decode_command,
    event_reports,
    ids_of,
    read_frames,
    without,
)
from shimmy.worker.texts import answer_detokenize, answer_template, answer_tokenize
from shimmy.worker.tokens import STACK_BYTES

PREPARATION_HUNG = 4  # exit code
_PREPARATION_LIMIT_S = 60.0


class Worker:
    """The life of a worker, from its first command to the end of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._writer = FrameWriter(sock)
        self._loads: SimpleQueue[Load | Estimate] = SimpleQueue()
        self._requests: SimpleQueue[tuple[float, Request | Abort]] = SimpleQueue()  # and when they came
        self._unwanted: set[int] = set()  # aborted, and perhaps not prepared yet
        self._preparing_since = 0.0
        self._engine: Engine | EmbeddingEngine | None = None
        self._neighbours: Neighbours | None = None

    def run(self) -> None:
        """Load, then work until the process ends."""
        threading.Thread(target=self._guard, args=(self._read,), name="reader", daemon=True).start()
        while isinstance(command := self._loads.get(), Estimate):
            self._send(self._estimate(command))
        if command.log:
            ffi.log_to(2, ffi.LOG_INFO)
        try:
            loaded, report = load(command, self._send)
        except ShimmyError as error:
            self._send(LoadFailed(error.to_wire()))
            os._exit(1)
        engine = self._engine = self._make_engine(command, loaded)
        usual = threading.stack_size(STACK_BYTES)
        threading.Thread(
            target=self._guard, args=(lambda: self._prepare(loaded),), name="preparation", daemon=True
        ).start()
        threading.stack_size(usual)
        facts = report.context
        neighbours = self._neighbours = Neighbours(max(facts.n_threads, facts.n_threads_batch), engine.computing)
        threading.Thread(target=self._guard, args=(neighbours.watch,), name="neighbours", daemon=True).start()
        self._send(report)
        try:
            engine.run()
        except OSError:  # a frame that found nobody
            os._exit(0)

    def _estimate(self, command: Estimate) -> Report:
        try:
            return estimate(command)
        except ShimmyError as error:
            return EstimateFailed(error.to_wire())

    def _make_engine(self, command: Load, loaded: LoadedModel) -> Engine | EmbeddingEngine:
        embeddings = EmbeddingQueue(loaded.embeddings, command.max_step_s)
        if loaded.context is None:
            return EmbeddingEngine(embeddings, self._emit)
        return Engine(
            loaded.model,
            loaded.context,
            self._emit,
            embeddings,
            parallel=command.context.parallel,
            max_step_s=command.max_step_s,
            n_ctx=loaded.n_ctx,
            cache_ram=spill_bytes(command.cache_ram),
            spare_memory=spare_memory,
            speculate=loaded.speculates,
            draft=loaded.draft,
            send_frame=self._writer.write,
            adapters=loaded.adapters,
        )

    def _guard(self, body: Callable[[], None]) -> None:
        """A thread's life; a bug in it must end the process, not leave it half alive."""
        try:
            body()
        except BaseException:  # noqa: BLE001 - whatever it is
            traceback.print_exc()
            os._exit(1)

    def _send(self, report: Report) -> None:
        try:
            self._writer.send(report)
        except OSError:
            os._exit(0)  # nobody is there any more

    def _emit(self, events: list[Event]) -> None:
        for report in event_reports(events):
            self._send(report)

    def _read(self) -> None:
        """Commands until the other side closes."""
        watcher = threading.Thread(target=self._guard, args=(self._watch_preparation,), name="watch", daemon=True)
        for body in read_frames(self._sock):
            command = decode_command(body)
            match command:
                case Ping():
                    self._send(self._pong(command.n))
                case Estimate():
                    self._loads.put(command)
                case Load():
                    self._loads.put(command)
                    watcher.start()
                case Abort():
                    self._unwanted.add(command.id)  # if it is still to be prepared it need not be
                    if self._engine is not None:
                        self._engine.abort(command.id)  # at once: preparation may be busy with somebody else's prompt
                    self._requests.put((0.0, command))  # again behind its request, if that is being prepared
                case _:
                    self._requests.put((time.monotonic(), command))
        os._exit(0)

    def _pong(self, n: int) -> Pong:
        engine, neighbours = self._engine, self._neighbours
        if engine is None:
            return Pong(n, 0.0, None)
        started = engine.step_started_at
        shared = neighbours is not None and neighbours.shared
        return Pong(n, time.monotonic() - started if started else 0.0, engine.stats(), shared)

    def _prepare(self, loaded: LoadedModel) -> None:
        """Requests one by one, in order; an abort behind its request finds it in the engine, or it was not prepared at all."""
        engine = self._engine
        assert engine is not None
        while True:
            arrived_at, command = self._requests.get()
            if isinstance(command, Abort):
                self._unwanted.discard(command.id)
                engine.abort(command.id)
                continue
            unwanted = self._unwanted.intersection(ids_of(command))
            self._emit([cancelled(request_id) for request_id in unwanted])
            if (wanted := without(command, unwanted)) is None:
                continue
            self._preparing_since = time.monotonic()
            try:
                self._start(wanted, loaded, arrived_at)
            except ShimmyError as error:
                self._fail(wanted, error)
            except Exception as error:  # noqa: BLE001 - a bug, too, is one request's and not everybody's
                traceback.print_exc()
                self._fail(wanted, ShimmyError(f"unexpected {type(error).__name__}: {error}"))
            finally:
                self._preparing_since = 0.0

    def _fail(self, command: Request, error: ShimmyError) -> None:
        self._emit([Failed(request_id, error.to_wire()) for request_id in ids_of(command)])

    def _start(self, command: Request, loaded: LoadedModel, arrived_at: float) -> None:
        """Prepare a request and hand it to the engine, or answer it where nothing is to be computed."""
        engine = self._engine
        assert engine is not None
        match command:
            case Embed():
                engine.submit(prepare_embedding(command.request, loaded.model, loaded.n_ctx))
            case Rerank():
                engine.submit(prepare_rerank(command.request, loaded.model, loaded.n_ctx))
            case Tokenize():
                self._emit([answer_tokenize(command.request, loaded.model)])
            case Detokenize():
                self._emit([answer_detokenize(command.request, loaded.model)])
            case ApplyTemplate():
                self._emit([answer_template(command.request, loaded)])
            case Submit():
                further = self._one_by_one(command.further)
                for sequence in prepare(command.request, loaded, submitted_at=arrived_at, further=further):
                    if command.request.max_tokens == 0:
                        sequence.close()
                        usage = Usage(sequence.n_prompt)
                        self._emit([Finished(sequence.id, "", "length", usage, Timings(), unheld=sequence.unheld)])
                    else:
                        assert isinstance(engine, Engine)  # else prepare() has refused
                        engine.submit(sequence)

    def _one_by_one(self, answers: Iterable[tuple[int, int | None]]) -> Iterator[tuple[int, int | None]]:
        """Each answer may render its own prompt, and has the limit to itself."""
        for answer in answers:
            self._preparing_since = time.monotonic()
            yield answer

    def _watch_preparation(self) -> None:
        """A template has no time limit of its own: past the limit the process ends, as the last resort."""
        while True:
            time.sleep(1.0)
            since = self._preparing_since
            if since and time.monotonic() - since > _PREPARATION_LIMIT_S:
                print("preparing a request took too long", file=sys.stderr, flush=True)
                os._exit(PREPARATION_HUNG)


def main() -> None:
    """Entry point: the socket's descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front end decides what an interrupt means
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sock = socket.socket(fileno=int(sys.argv[1]))
    ffi.end_with_parent()
    Worker(sock).run()


if __name__ == "__main__":
    main()
