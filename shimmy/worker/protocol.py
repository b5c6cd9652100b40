"""Frames between the front end and a worker: a 4-byte little-endian length, then one msgpack array.

Both ends are the same installed version, so the protocol has no negotiation; frames are never pickled.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Container, Iterator

import msgspec

from shimmy.engine.stats import EngineStats
from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.types import (
    AdapterFacts,
    ContextFacts,
    ContextParams,
    DetokenizeRequest,
    DeviceFree,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    ModelFacts,
    ModelParams,
    Plan,
    RerankRequest,
    TemplateRequest,
    TokenizeRequest,
)

MAX_FRAME = 256 * 2**20
_LENGTH = struct.Struct("<I")
HEAD_SIZE = _LENGTH.size


class DraftFile(msgspec.Struct, frozen=True, array_like=True):
    """The model that guesses for another: its name, its file, and what a token of its KV cache takes (as in Load)."""

    name: str
    path: str
    kv_bytes_per_token: int | None


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Load a model; the first command of every worker, but for Estimate and Ping.

    kv_bytes_per_token  f16 KV cache of one token by the file's metadata; None: unknown
    max_step_s          the longest step while others decode
    template_timeout_s  the longest time a chat template may take
    adapters            LoRA adapters beside the model: (path, scale)
    chat_template       in place of the model's own
    reasoning_budget    most tokens that an answer thinks where its request does not say; -1: no limit
    cache_ram           most bytes of the host's memory for prefixes that had to leave the KV cache
    draft               the model that guesses for this one
    outline             the file without weights and vocabulary (models/outline.py), which is as large as ``size_bytes`` says with its
                        weights; None: the file itself is looked at
    architecture, n_vocab    as the file has them; 0: not known
    size_bytes          of the file, or of all parts
    plan                what was reserved; None: the worker plans by itself
    """

    path: str
    model: ModelParams
    context: ContextParams
    kv_bytes_per_token: int | None
    max_step_s: float
    template_timeout_s: float
    log: bool = False
    adapters: list[tuple[str, float]] = []
    chat_template: str | None = None
    cache_ram: int = 0
    reasoning_budget: int = -1
    draft: DraftFile | None = None
    outline: bytes | None = None
    architecture: str = ""
    n_vocab: int = 0
    size_bytes: int = 0
    plan: Plan | None = None


class Estimate(msgspec.Struct, frozen=True, array_like=True, tag="estimate"):
    """What loading would take; as often as wanted before the Load. Answered by Estimated or EstimateFailed.

    room     bytes that may be taken of each device, CPU among them: what needs more is made to fit; None: as configured
    offload  parts may be moved to the CPU for that
    """

    load: Load
    room: dict[str, int] | None = None
    offload: bool = True


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Generate; the answers are events with the request's id, and with those of the ``further`` answers: (id, seed) of each.

    What all of them share is sent and prepared once; each ends, and is aborted, by itself.
    """

    request: GenerateRequest
    further: list[tuple[int, int | None]] = []


class Embed(msgspec.Struct, frozen=True, array_like=True, tag="embed"):
    """Make vectors; the answer is an Embedded or Failed event with the request's id."""

    request: EmbedRequest


class Rerank(msgspec.Struct, frozen=True, array_like=True, tag="rerank"):
    """Score documents; the answer is a Reranked or Failed event with the request's id."""

    request: RerankRequest


class Tokenize(msgspec.Struct, frozen=True, array_like=True, tag="tokenize"):
    """Answered by a Tokenized or Failed event with the request's id."""

    request: TokenizeRequest


class Detokenize(msgspec.Struct, frozen=True, array_like=True, tag="detokenize"):
    """Answered by a Detokenized or Failed event with the request's id."""

    request: DetokenizeRequest


class ApplyTemplate(msgspec.Struct, frozen=True, array_like=True, tag="template"):
    """Answered by a Templated or Failed event with the request's id."""

    request: TemplateRequest


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """End a request as cancelled."""

    id: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Answered by Pong at once, also in the middle of a step."""

    n: int


class Loading(msgspec.Struct, frozen=True, array_like=True, tag="loading"):
    """Progress of loading, 0..1."""

    progress: float


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """The model is ready. ``n_ctx``: the most tokens of one request; ``notes``: what a person should know.

    draft   the name of the model that guesses for it; "": none does
    """

    model: ModelFacts
    context: ContextFacts
    n_ctx: int
    has_chat: bool
    load_ms: float
    notes: list[str]
    adapters: list[AdapterFacts] = []
    draft: str = ""


class Estimated(msgspec.Struct, frozen=True, array_like=True, tag="estimated"):
    """``gpus``: those that are here; ``room``: bytes that this process may still take by its own limit; None: it has none."""

    plan: Plan
    gpus: list[DeviceFree]
    room: int | None = None


class EstimateFailed(msgspec.Struct, frozen=True, array_like=True, tag="estimate_failed"):
    """It does not fit, or cannot be loaded; the worker goes on."""

    error: dict[str, object]


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag="load_failed"):
    """The model cannot be used; the worker ends."""

    error: dict[str, object]


class Events(msgspec.Struct, frozen=True, array_like=True, tag="events"):
    """Events of one step, in their order."""

    events: list[Event]


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """Alive. ``step_s``: how long the running step has taken so far, 0 when idle; ``stats`` once a model is loaded.

    cores_shared  whether other processes were seen to need the cores, so that waiting threads sleep
    """

    n: int
    step_s: float
    stats: EngineStats | None
    cores_shared: bool = False


Request = Submit | Embed | Rerank | Tokenize | Detokenize | ApplyTemplate
Command = Load | Estimate | Request | Abort | Ping
Report = Loading | Loaded | LoadFailed | Estimated | EstimateFailed | Events | Pong


def ids_of(request: Request) -> list[int]:
    """Of all answers that it asks for."""
    return (
        [request.request.id, *(id_ for id_, _ in request.further)]
        if isinstance(request, Submit)
        else [request.request.id]
    )


def without(request: Request, ids: Container[int]) -> Request | None:
    """What is left of it when nobody wants the answers of these ``ids``; None: nothing."""
    if not isinstance(request, Submit):
        return None if request.request.id in ids else request
    asked = request.request
    wanted = [answer for answer in ((asked.id, asked.sampling.seed), *request.further) if answer[0] not in ids]
    if not wanted:
        return None
    return Submit(one_answer(asked, *wanted[0]), wanted[1:])


def one_answer(request: GenerateRequest, id_: int, seed: int | None) -> GenerateRequest:
    """The same for another answer."""
    sampling = request.sampling
    if sampling.seed != seed:
        sampling = msgspec.structs.replace(sampling, seed=seed)
    return msgspec.structs.replace(request, id=id_, sampling=sampling)


encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


_UNENCODABLE = (UnicodeEncodeError, OverflowError, TypeError, RecursionError)
_INDEX = re.compile(r"\[(\d+)\]")
# Fields that clients know by another name.
_PARAMS = {"prompt_tokens": "prompt", "inputs": "input", "template_kwargs": "chat_template_kwargs"}


def frame(message: Command | Report) -> bytes:
    """A message as it goes over the socket.

    Raises ShimmyError when it is too large, InvalidRequest naming the field where a text is no Unicode or an integer has more
    than 64 bits.
    """
    try:
        body = encode(message)
    except _UNENCODABLE as error:
        why = f"a text is not valid Unicode: {error.reason}" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidRequest(f"the request cannot be sent: {why}", param=_unencodable(message)) from None
    if len(body) > MAX_FRAME:
        raise ShimmyError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


def command_frame(command: Command) -> bytes:
    """A frame that the worker can read: it ends at one that it cannot. Raises as ``frame``, InvalidRequest on a wrong type."""
    data = frame(command)
    try:
        decode_command(memoryview(data)[_LENGTH.size :])
    except msgspec.ValidationError as error:
        why, _, path = str(error).rpartition(" - at ")
        param = _named(command, [int(number) for number in _INDEX.findall(path)])
        raise InvalidRequest(f"{param or 'the request'} cannot be used: {why}", param=param) from None
    return data


def _unencodable(value: object) -> str | None:
    """The field of a message that cannot be encoded."""
    for name in value.__struct_fields__ if isinstance(value, msgspec.Struct) else ():
        part = getattr(value, name)
        try:
            encode(part)
        except _UNENCODABLE:
            return _unencodable(part) or _PARAMS.get(name, name)
    return None


def _named(command: Command, path: list[int]) -> str | None:
    """The field of a command at ``path`` in its array, where the tag comes first."""
    name = None
    value: object = command
    for depth, index in enumerate(path):
        if not isinstance(value, msgspec.Struct):
            break
        name = value.__struct_fields__[index if depth else index - 1]
        value = getattr(value, name)
    return None if name is None else _PARAMS.get(name, name)


def event_reports(events: list[Event]) -> Iterator[Events]:
    """Events by frames: vectors may take a good part of MAX_FRAME, so each Embedded has one of its own."""
    together: list[Event] = []
    for event in events:
        if isinstance(event, Embedded):
            if together:
                yield Events(together)
                together = []
            yield Events([event])
        else:
            together.append(event)
    if together:
        yield Events(together)


def body_length(data: bytes | memoryview, start: int = 0) -> int:
    """The length that the first 4 bytes of a frame announce, which begins at ``start``. Raises ShimmyError when over the limit."""
    length: int = _LENGTH.unpack_from(data, start)[0]
    if length > MAX_FRAME:
        raise ShimmyError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
    return length


class FrameWriter:
    """Sends frames whole, from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, message: Command | Report) -> None:
        """Block until the frame is with the kernel. Raises OSError when the other side is gone."""
        self.write(frame(message))

    def write(self, data: bytes) -> None:
        """The same for a frame that is made."""
        with self._lock:
            self._sock.sendall(data)


def read_frames(sock: socket.socket) -> Iterator[bytes]:
    """Frame bodies until the other side closes; blocks."""
    buffer = bytearray()
    while True:
        while len(buffer) >= _LENGTH.size:
            length = body_length(bytes(buffer[: _LENGTH.size]))
            end = _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
        data = sock.recv(2**18)
        if not data:
            return
        buffer += data
