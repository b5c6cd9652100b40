"""http_get: pages of the hosts that the configuration names."""

from __future__ import annotations

from typing import Any

from shimmy.tools.frames import ToolSettings

_TEXTS = ("text/", "application/json", "application/xml", "application/javascript", "application/x-ndjson")


def http_get(url: str, *, settings: ToolSettings) -> dict[str, Any]:  # noqa: D417 - callers give no settings
    """Get a web page or a JSON document.

    Args:
        url: The address, beginning with https:// or http://.
    """
    from shimmy.tools.fetch import Fetcher

    page = Fetcher(settings.hosts, most=settings.output // 4).get(url)  # as JSON it is longer
    return {
        "url": page.url,
        "status": page.status,
        "content_type": page.content_type,
        "text": _decoded(page.body, page.content_type),
        "truncated": not page.whole,
    }


def _decoded(body: bytes, content_type: str) -> str:
    """A body as text. Raises ValueError where it is none."""
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind and not kind.startswith(_TEXTS) and not kind.endswith(("+json", "+xml")):
        raise ValueError(f"the answer is {kind[:100]}, which is no text")
    charset = "utf-8"
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value:
            charset = value.strip("\"'")
    try:
        text = body.decode(charset, "replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()  # some codecs make half characters
