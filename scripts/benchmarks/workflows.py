"""Workflows: how long steps that do not wait for one another take beside the same steps one by one, and what each step costs besides."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import urllib.request
from typing import Any

from arguments import parse_pairs, parser
from peers import find_model
from serving import Served, ours

STEPS = 8
CHEAP = 60
_N_CTX = 4096


def main() -> None:
    """Prints the medians of all pairs."""
    arguments = parse_pairs(parser("workflows", __doc__), pairs=5, tokens=64, quick=(1, 8))
    model = find_model(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SHIMMY_DATA"] = folder
        with ours(model, n_ctx=_N_CTX, parallel=STEPS, threads=arguments.threads) as server:
            _measure(server, arguments.pairs, arguments.tokens)


def _measure(server: Served, pairs: int, tokens: int) -> None:
    together: list[float] = []
    chained: list[float] = []
    for pair in range(pairs + 1):  # the first warms up
        for times, chain in ((together, False), (chained, True)):
            times.append(_run(server, _asking(pair, tokens, chain=chain))["execution_time_ms"])
    ratios = [one / other for one, other in zip(together[1:], chained[1:], strict=True)]
    print(f"{STEPS} llm steps of {tokens} tokens: {statistics.median(together[1:]):.0f} ms at the same time,")
    print(
        f"  {statistics.median(chained[1:]):.0f} ms one by one: {statistics.median(ratios):.3f} of it ({pairs} pairs)"
    )
    for name, step in (
        ("a path", {"type": "transform", "expression": "inputs.x"}),
        ("a condition", {"type": "conditional", "condition": "inputs.x > 2", "if_true": {"type": "transform", "expression": "inputs.x"}}),
        ("a query", {"type": "transform", "expression": "length(inputs.list)"}),
        ("a tool", {"type": "tool", "tool": "calculator", "arguments": {"expression": "${inputs.x} + 1"}}),
    ):  # fmt: skip
        costs = [_cheap(server, step) for _ in range(pairs + 1)][1:]
        print(f"{CHEAP} steps of {name}, one by one: {statistics.median(costs):.3f} ms a step, kept on disk")


def _asking(seed: int, tokens: int, *, chain: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {
            "id": f"s{at}",
            "type": "llm",
            "prompt": f"Tell a story of the number {1000 * seed + at}.",
            "max_tokens": tokens,
            "ignore_eos": True,
            "cache_prompt": False,
            "seed": at,
            "depends_on": [f"s{at - 1}"] if chain and at else [],
        }
        for at in range(STEPS)
    ]
    return {"steps": steps}


def _cheap(server: Served, step: dict[str, Any]) -> float:
    steps = [{"id": f"s{at}", **step, "depends_on": [f"s{at - 1}"] if at else []} for at in range(CHEAP)]
    if step["type"] == "conditional":
        steps = steps[: CHEAP // 2]  # the step within counts, too
    done = _run(server, {"steps": steps, "inputs": {"x": 3, "list": [1, 2, 3]}})
    return float(done["execution_time_ms"] / len(steps))


def _run(server: Served, workflow: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/workflows/execute",
        json.dumps({"workflow": workflow}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310 - on loopback
        done: dict[str, Any] = json.load(response)
    if not done["success"]:
        raise SystemExit(done["error"])
    return done


if __name__ == "__main__":
    main()
