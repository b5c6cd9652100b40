"""GET /v1/models and /v1/models/{id} by plain requests."""

from __future__ import annotations

from pathlib import Path

from tests.api.serving import Running, serving

FIELDS = {"id", "object", "created", "owned_by"}


def test_the_list_has_openai_s_fields(tiny_llama: Path, tiny_swa: Path) -> None:
    with serving(tiny_llama, tiny_swa) as server:
        body = server.get("/v1/models").json
        assert body.keys() == {"object", "data"}
        assert body["object"] == "list"
        assert {model["id"] for model in body["data"]} == {tiny_llama.stem, tiny_swa.stem}
        for model in body["data"]:
            assert model.keys() == FIELDS
            assert (model["object"], model["owned_by"]) == ("model", "shimmy")
            assert server.get(f"/v1/models/{model['id']}").json == model
        (llama,) = [model for model in body["data"] if model["id"] == tiny_llama.stem]
        assert llama["created"] == int(tiny_llama.stat().st_mtime)


def test_listing_loads_nothing(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        assert server.get("/v1/models").status == 200
        assert server.served.status == "available"


def test_a_model_that_there_is_not_is_404(server: Running) -> None:
    answer = server.get("/v1/models/nobody")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
