"""The example of the agent loop in docs/tools.md, on the default model."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.api.serving import serving

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "tools.md"


def test_the_default_model_and_a_tool_take_turns_as_documented(default_model: Path, tmp_path: Path) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## The agent loop")[1]
    code, asked, stream = (
        found[1]
        for found in (
            re.search(r"```python\n(.*?)```", section, re.DOTALL),
            re.search(r"-d '(.*?)'", section, re.DOTALL),
            re.search(r"(data: .*)```", section, re.DOTALL),
        )
        if found
    )
    (tmp_path / "towns.py").write_text(code, encoding="utf-8")
    with serving(default_model, threads=2, tool_files=tmp_path / "towns.py") as server:
        events = server.post("/api/agent", json.loads(asked)).events
    call, result, token, done = [json.loads(line) for line in re.findall(r"data: (.*)", stream.replace("{…}", "{}"))]
    (city,) = [event for event in events if event["type"] == "tool_call" and event["arguments"] == call["arguments"]]
    (weather,) = [event for event in events if event["type"] == "tool_result" and event["id"] == city["id"]]
    assert {**city, "id": call["id"]} == call
    assert {**weather, "id": result["id"], "execution_time_ms": result["execution_time_ms"]} == result
    assert token in events
    end = events[-1]
    assert done["message"]["content"].strip("…") in end["message"]["content"]
    assert {**end, "message": done["message"], "usage": {}} == done
