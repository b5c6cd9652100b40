"""What a server counts, as Prometheus reads it. Names and units follow Prometheus' own conventions."""

from __future__ import annotations

import time
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shimmy.api.gaps import GapCounts, Gaps
from shimmy.types import Timings, Usage

disable_created_metrics()  # type: ignore[no-untyped-call] # when each was made is of no use, and as many lines as the values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_METHODS = {"GET", "HEAD", "POST", "DELETE", "OPTIONS", "MESSAGE"}
_GAPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """Counters and histograms of one server. One loop owns it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "shimmy_http_requests", "Answered requests", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "shimmy_http_request_duration_seconds", "From the request's head to its answer's end", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._first = Histogram(
            "shimmy_time_to_first_token_seconds", "From a request's head to its first text, the queue and a load included", ["model"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._gaps = Gaps("shimmy_inter_token_latency_seconds", "Between two pieces of text of one answer", _GAPS)
        registry.register(self._gaps)
        self._queue = Histogram(
            "shimmy_queue_time_seconds", "From a request's head to the first step with it, a load included", ["model"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._prompt = Counter(
            "shimmy_prompt_tokens", "Tokens of prompts, cached ones too", ["model"], registry=registry
        )
        self._cached = Counter(
            "shimmy_cached_prompt_tokens",
            "Tokens of prompts that were not computed again",
            ["model"],
            registry=registry,
        )
        self._hits = Counter(
            "shimmy_prefix_cache_hits", "Prompts of which a part was cached", ["model"], registry=registry
        )
        self._generated = Counter("shimmy_generated_tokens", "Generated tokens", ["model"], registry=registry)
        self._tool_calls = Counter("shimmy_tool_calls", "Calls of tools", ["tool", "outcome"], registry=registry)
        self._tool_seconds = Histogram(
            "shimmy_tool_call_duration_seconds", "From a call of a tool to its end, the wait for a process included", ["tool"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request has its answer, or one message of a WebSocket, whose method is MESSAGE."""
        method = method if method in _METHODS else "other"  # a client could name any, and each would stay here
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def meter(self, model: str, started: float) -> Meter:
        """For one answer of a model to a request that came at ``started``, on the monotonic clock."""
        return Meter(self._first.labels(model), self._gaps.of(model), started)

    def finished(self, model: str, usage: Usage, timings: Timings, waited_s: float) -> None:
        """A generation has ended that ``waited_s`` before the worker had it."""
        self._queue.labels(model).observe(waited_s + timings.queue_ms / 1e3)
        self.counted(model, usage)

    def counted(self, model: str, usage: Usage) -> None:
        """Tokens of a request that has ended."""
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._generated.labels(model).inc(usage.completion_tokens)
        if usage.cached_tokens:
            self._cached.labels(model).inc(usage.cached_tokens)
            self._hits.labels(model).inc()

    def tool_called(self, tool: str, outcome: str, seconds: float) -> None:
        """A call of a tool has ended; outcomes as ToolRegistry has them."""
        self._tool_calls.labels(tool, outcome).inc()
        self._tool_seconds.labels(tool).observe(seconds)

    def render(self, readings: list[Reading]) -> bytes:
        """Everything, with ``readings`` of now."""
        now = CollectorRegistry()
        now.register(_Readings(readings))
        return generate_latest(self.registry) + generate_latest(now)


class Reading(NamedTuple):
    """One value of now. ``counted``: it only grows, and its name ends in _total on the wire."""

    name: str
    help: str
    labels: dict[str, str]
    value: float
    counted: bool = False


class Meter:
    """Times of one answer's pieces; ``usage`` is what is known of its tokens while it runs."""

    __slots__ = ("_cached", "_first", "_gap", "_generated", "_last", "_prompt", "_started", "ended")

    def __init__(self, first: Histogram, gap: GapCounts, started: float) -> None:
        self._first = first
        self._gap = gap
        self._started = started
        self._last = 0.0
        self._prompt = self._cached = self._generated = 0
        self.ended = False

    @property
    def usage(self) -> Usage:
        """Tokens so far; zeros for what was not said yet."""
        return Usage(self._prompt, self._generated, self._cached)

    def prompt(self, total: int, cached: int) -> None:
        """Tokens of the prompt."""
        self._prompt, self._cached = total, cached

    def piece(self, n_tokens: int) -> None:
        """A piece of text came; ``n_tokens`` are generated by now."""
        self._generated = n_tokens
        now = time.monotonic()
        if self._last:
            self._gap.observe(now - self._last)
        else:
            self._first.observe(now - self._started)
        self._last = now


class _Readings(Collector):
    def __init__(self, readings: list[Reading]) -> None:
        self._readings = readings

    def collect(self) -> list[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for name, help_text, labels, value, counted in self._readings:
            family = families.get(name)
            if family is None:
                kind = CounterMetricFamily if counted else GaugeMetricFamily
                family = families[name] = kind(name, help_text, labels=list(labels))
            family.add_metric(list(labels.values()), value)
        return list(families.values())
