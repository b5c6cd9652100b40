"""A file on a web server: what it is called, and its parts where it has several."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from shimmy.errors import DownloadFailed, UsageError
from shimmy.models.parts import part_names, part_number
from shimmy.models.remote import RemoteFile, RemoteModel, WebSource, file_name_of, shown_url
from shimmy.models.web import Interrupted, Web

if TYPE_CHECKING:
    import httpx2


def find_on_web(source: WebSource, web: Web, *, name: str | None) -> RemoteModel:
    """The files of ``source``. Asks the server only where neither ``name`` nor the URL says what the file is called.

    Raises UsageError where nothing does, and DownloadFailed where the server cannot be asked.
    """
    file_name = file_name_of(source.url)
    if not file_name.lower().endswith(".gguf"):
        file_name = f"{name}.gguf" if name is not None else _ask(source, web)
    urls = _urls(source, file_name)
    return RemoteModel(file_name, source.text, tuple(RemoteFile(url, sha256=source.sha256) for url in urls))


def _urls(source: WebSource, file_name: str) -> list[str]:
    """The URL of each part; of a model in several files that of the first is given."""
    if part_number(file_name) is None or file_name != file_name_of(source.url):
        return [source.url]
    names = part_names(file_name)
    if part_number(file_name) != 1:
        raise UsageError(f"{file_name} is one of {len(names)} parts: give the first, {names[0]}")
    if source.sha256 is not None:
        raise UsageError(f"--sha256 is that of one file, and {file_name} has {len(names)} parts")
    parts = urlsplit(source.url)
    folder = parts.path.rpartition("/")[0]
    return [parts._replace(path=f"{folder}/{quote(name)}").geturl() for name in names]


def _ask(source: WebSource, web: Web) -> str:
    try:
        with web.get(source.url, unprotected=source.sha256 is not None) as response:
            name = _said_name(response) or file_name_of(str(response.url))
    except Interrupted as error:
        raise DownloadFailed(error.reason) from None
    if not name.lower().endswith(".gguf"):
        raise UsageError(f"{shown_url(source.url)} does not say what its file is called: give it a name with --name")
    return name


def _said_name(response: httpx2.Response) -> str:
    """The name in Content-Disposition (RFC 6266), without any folders."""
    message = Message()
    message["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    return (message.get_filename() or "").replace("\\", "/").rpartition("/")[2]
