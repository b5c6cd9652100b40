"""Clients that others wrote find what they expect: nothing but a base URL is given to them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from pydantic import BaseModel

from tests.api.serving import PATIENCE_S, Running
from tests.javascript import run_javascript

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_answers_and_streams(client: openai.OpenAI, server: Running) -> None:
    whole = client.chat.completions.create(model=server.model, messages=MESSAGES, **GREEDY)
    content = whole.choices[0].message.content
    assert content
    stream = client.chat.completions.create(
        model=server.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openai_completes_lists_and_embeds(client: openai.OpenAI, server: Running) -> None:
    completion = client.completions.create(model=server.model, prompt="hello", logprobs=2, **GREEDY)
    assert completion.choices[0].logprobs is not None
    assert len(completion.choices[0].logprobs.tokens or []) == 12
    assert [model.id for model in client.models.list()] == [server.model]
    assert client.models.retrieve(server.model).id == server.model
    # This client asks for base64 and turns it into numbers.
    vectors = client.embeddings.create(model=server.model, input=["one", "two"]).data
    assert sum(value * value for value in vectors[0].embedding) == pytest.approx(1, abs=1e-4)
    floats = client.embeddings.create(model=server.model, input="one", encoding_format="float").data[0].embedding
    assert vectors[0].embedding == pytest.approx(floats, abs=1e-3)


def test_openai_s_errors_have_their_classes(client: openai.OpenAI, server: Running) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=server.model, messages=MESSAGES, temperature=-1)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=server.model, messages=[{"role": "user", "content": "a b c " * 5000}])
    assert long.value.code == "context_length_exceeded"


def test_openai_s_helper_for_structured_output_gets_its_type(client: openai.OpenAI, server: Running) -> None:
    class Answer(BaseModel):
        fits: bool
        count: int

    parsed = client.chat.completions.parse(
        model=server.model, messages=MESSAGES, response_format=Answer, max_tokens=400, temperature=0.8, seed=1
    )
    assert isinstance(parsed.choices[0].message.parsed, Answer)


def test_openai_s_async_client_runs_many_at_once(server: Running) -> None:
    async def body() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            create = client.chat.completions.create
            answers = await asyncio.gather(*(create(model=server.model, messages=MESSAGES, **GREEDY) for _ in range(6)))
            streams = [await create(model=server.model, messages=MESSAGES, stream=True, **GREEDY) for _ in range(3)]
            for stream in streams:
                await stream.close()
        return [answer.choices[0].message.content for answer in answers]

    assert all(asyncio.run(body()))


def test_langchain_answers_and_streams(server: Running) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    place: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "none", "model": server.model}
    short: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
    chat = ChatOpenAI(**short, **place)
    whole = chat.invoke("hello").content
    assert whole
    assert "".join(str(chunk.content) for chunk in chat.stream("hello")) == whole
    embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, **place)
    assert len(embeddings.embed_documents(["one", "two"])) == 2


def test_litellm_answers_and_streams(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    asked: dict[str, Any] = {"model": f"openai/{server.model}", "messages": MESSAGES, **GREEDY}
    asked |= {"api_base": f"{server.url}/v1", "api_key": "none", "num_retries": 0}
    whole = litellm.completion(**asked).choices[0].message.content
    assert whole
    pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asked, stream=True)]
    assert "".join(pieces) == whole


def test_websockets_gets_tokens_and_an_end(server: Running) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{server.port}/ws/generate", open_timeout=PATIENCE_S) as socket:
        socket.send(json.dumps({"model": "default", "prompt": "hello", **GREEDY}))
        text = ""
        while not (message := json.loads(socket.recv(PATIENCE_S))).get("done"):
            text += message["token"]
        assert message["finish_reason"] == "length"
        assert message["usage"]["completion_tokens"] == 12
    whole = server.post("/api/generate", {"model": "default", "prompt": "hello", **GREEDY}).json
    assert text == whole["choices"][0]["text"]


def test_curl_streams(server: Running) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"model": "default", "prompt": "hello", "stream": True, **GREEDY})
    command = [curl, "-sSN", f"{server.url}/api/generate", "-H", "Content-Type: application/json", "-d", body]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.decode().rstrip().endswith("data: [DONE]")


_JAVASCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const asked = { model: "default", messages: [{ role: "user", content: "hello" }], temperature: 0, max_tokens: 12 };
const whole = await client.chat.completions.create(asked);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
  text += chunk.choices[0]?.delta?.content ?? "";
const vectors = await client.embeddings.create({ model: "default", input: ["one", "two"] });
console.log(JSON.stringify({ whole: whole.choices[0].message.content, text, width: vectors.data[1].embedding.length }));
"""


@pytest.mark.slow  # fetches a package
def test_openai_for_javascript_answers_streams_and_embeds(server: Running, tmp_path: Path) -> None:
    said = msgspec.json.decode(run_javascript(tmp_path, _JAVASCRIPT, server.url))
    assert said["whole"]
    assert said["text"] == said["whole"]
    assert said["width"] > 0
