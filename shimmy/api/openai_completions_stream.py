"""The chunks of a streamed completion, made by hand: this runs once for every token."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shimmy.api.generation import GenerationEvent
from shimmy.api.openai_fields import Head, PromptProgress, progress_of
from shimmy.api.openai_logprobs import CompletionLogprobs, completion_logprobs
from shimmy.api.sse import DONE
from shimmy.api.times import RunningTimes
from shimmy.api.usage import TimingsAnswer, UsageAnswer, sum_of, timings_of, usage_of
from shimmy.types import Delta, Finished, Progress, Usage

_encode = msgspec.json.Encoder().encode


class CompletionChoice(msgspec.Struct, frozen=True):
    """An answer, or a piece of one; ``finish_reason`` with the last: stop, length or cancelled."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class CompletionChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. The last before [DONE] has the usage, where that was asked for, and no choices."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageAnswer | None = None
    timings: TimingsAnswer | None = None
    prompt_progress: PromptProgress | None = None


class CompletionStream:
    """Turns the events of several answers into chunks. One loop owns it."""

    def __init__(
        self,
        head: Head,
        send: Callable[[bytes], None],
        *,
        echoes: list[str],
        n: int,
        include_usage: bool,
        timings_per_token: bool,
        return_progress: bool,
    ) -> None:
        """``echoes``: what each answer begins with; ``n``: answers to one prompt."""
        self._send = send
        self._opening = head.opening()
        self._echoes = echoes
        self._offsets = [0] * len(echoes)  # characters of each answer so far, where logprobs need them
        self._usages: list[Usage | None] = [None] * len(echoes)
        self._n = n
        self._include_usage = include_usage
        self._times = RunningTimes() if timings_per_token else None
        self._return_progress = return_progress
        self._plain = [b'%b"choices":[{"index":%d,"text":' % (self._opening, index) for index in range(len(echoes))]
        self._plain_end = b',"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            b',"usage":null' if include_usage else b""
        )

    def take(self, index: int, event: GenerationEvent) -> None:
        """Send what an event is in chunks."""
        if isinstance(event, Progress):
            self._take_progress(index, event)
            return
        if self._echoes[index]:
            self._send_text(index, self._echoes[index])
            self._echoes[index] = ""
        if isinstance(event, Delta):
            if not event.logprobs and self._times is None:
                self._send_text(index, event.text)
                return
            self._send_delta(index, event, event.n_tokens)
            return
        if event.text or event.logprobs:
            self._send_delta(index, event, event.usage.completion_tokens)
        self._usages[index] = event.usage
        timings = timings_of(event.timings, event.usage)
        self._send_choice(CompletionChoice(index, "", None, event.reason), timings)

    def end(self) -> bytes:
        """What follows the last chunk of the last answer."""
        if not self._include_usage:
            return DONE
        usages = [usage for usage in self._usages if usage is not None]
        n = self._n
        usage = sum_of([usage_of(usages[at : at + n]) for at in range(0, len(usages), n)])
        return self._opening + b'"choices":[],"usage":' + _encode(usage) + b"}\n\n" + DONE

    def _take_progress(self, index: int, event: Progress) -> None:
        if self._times is not None:
            self._times.prompt(event)
        if self._return_progress and index == 0:
            self._send(self._opening + b'"choices":[],"prompt_progress":' + _encode(progress_of(event)) + b"}\n\n")

    def _send_text(self, index: int, text: str) -> None:
        self._send(self._plain[index] + _encode(text) + self._plain_end)

    def _send_delta(self, index: int, event: Delta | Finished, n_tokens: int) -> None:
        logprobs = None
        if event.logprobs:
            logprobs = completion_logprobs(event.logprobs, self._offsets[index])
            self._offsets[index] += sum(map(len, logprobs.tokens))
        timings = self._times.after(n_tokens) if self._times is not None else None
        self._send_choice(CompletionChoice(index, event.text, logprobs), timings)

    def _send_choice(self, choice: CompletionChoice, timings: TimingsAnswer | None) -> None:
        chunk = [self._opening, b'"choices":[', _encode(choice), b"]"]
        if self._include_usage:
            chunk.append(b',"usage":null')
        if timings is not None:
            chunk += [b',"timings":', _encode(timings)]
        self._send(b"".join([*chunk, b"}\n\n"]))
