"""Reading sources that are fetched over HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import UsageError
from shimmy.models.remote import HubSource, WebSource, shown_url
from shimmy.models.sources import parse_source

SHA256 = "0" * 64


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:org/repo", HubSource("org/repo")),
        ("hf:Org/Re.po-GGUF:Q4_K_M", HubSource("Org/Re.po-GGUF", None, "Q4_K_M")),
        ("hf:org/repo@v1.0:q8_0", HubSource("org/repo", "v1.0", "q8_0")),
        ("hf:org/repo@refs/pr/1", HubSource("org/repo", "refs/pr/1")),
        ("hf:org/repo:folder/My Model.gguf", HubSource("org/repo", None, "folder/My Model.gguf")),
        ("https://huggingface.co/org/repo/blob/main/a/x.gguf", HubSource("org/repo", "main", "a/x.gguf")),
        ("https://hf.co/org/repo/resolve/v1/x.gguf?download=true", HubSource("org/repo", "v1", "x.gguf")),
        ("https://example.com/x.gguf", WebSource("https://example.com/x.gguf")),
        ("http://127.0.0.1:8000/x.gguf", WebSource("http://127.0.0.1:8000/x.gguf")),
        ("http://[::1]:8000/x.gguf", WebSource("http://[::1]:8000/x.gguf")),
    ],
)
def test_a_source_is_read(text: str, source: HubSource | WebSource) -> None:
    wanted = parse_source(text)
    assert (wanted.source, wanted.name) == (source, None)


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:repo", "hf:org/", "hf:/repo", "hf:org/repo/x", "hf:org/repo@", "hf:org/repo:", "hf:org/repo@a b",
     "hf:../repo", "hf:org/..", "hf:org/repo@../../x", "hf:org/repo:../x", "hf:org/repo:a:b", "hf:org/repo:a\nb",
     "hf:-r/x", f"hf:org/{'x' * 97}"],
)  # fmt: skip
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write hf:OWNER/NAME"):
        parse_source(text)


@pytest.mark.parametrize(
    "text",
    ["https://", "https:///x.gguf", "https://host:port/x.gguf", "https://[::1/x.gguf", "https://a b/x.gguf",
     "https://host/a\nb.gguf", "https://host/ä.gguf"],
)  # fmt: skip
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        parse_source(text)


def test_plain_http_needs_a_checksum() -> None:
    with pytest.raises(UsageError, match=r"http://example.com/x.gguf: anybody .* give --sha256"):
        parse_source("http://user:secret@example.com/x.gguf")
    assert parse_source("http://example.com/x.gguf", sha256=SHA256).source.sha256 == SHA256


def test_a_source_is_kept_without_what_may_be_secret() -> None:
    first = WebSource("https://me:secret@host/x.gguf?id=1&key=hidden#part").text
    assert first.startswith("https://host/x.gguf?")
    assert not any(word in first for word in ("me", "secret", "hidden", "part"))
    assert first != WebSource("https://host/x.gguf?id=2").text


@given(st.text(max_size=60))
def test_any_text_is_a_source_or_refused(text: str) -> None:
    for prefix in ("hf:", "hf:a/b", "https://", "https://h/", "http://127.0.0.1/"):
        try:
            source = parse_source(prefix + text).source
        except UsageError:
            continue
        assert isinstance(source, HubSource | WebSource)
        if isinstance(source, HubSource):
            assert parse_source(source.text).source == source
        else:
            assert "@" not in shown_url(source.url).split("/")[2]
