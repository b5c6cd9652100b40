"""Fetching one file: resumed where it broke, and checked against all that is known of it.

Beside the file, ``FILE.json`` says which state of the remote file its bytes are of. What cannot be shown to
be the beginning of the file as it is now is fetched anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile
from shimmy.models.gguf_file import mistaken_for
from shimmy.models.packages import CHUNK, free_space, require_space
from shimmy.models.progress import Progress
from shimmy.models.remote import RemoteFile, WebSource, shown_url
from shimmy.models.web import Interrupted, NoConnection, Web

if TYPE_CHECKING:
    import httpx2

# Seconds before another try. A try that brings this many bytes starts the row anew.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_PROGRESS_BYTES = 1 << 20
# What a file of unknown size leaves of a disk.
_RESERVE = 256 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class _State(msgspec.Struct, frozen=True):
    """Of what the bytes in a file are the beginning, or all.

    ``validator`` is what If-Range takes: a strong ETag, or a date; empty where the server gives neither.
    """

    url: str
    version: str
    validator: str
    size: int | None


def fetch_file(file: RemoteFile, path: Path, label: str, progress: Progress, web: Web) -> str:
    """Brings ``file`` to ``path``, on the disk, going on with what is there of it. Returns its sha256.

    What arrived stays for the next call, ``FILE.json`` also beside a whole file: the other files of a model may be
    missing yet, and then the next call finds this one whole and asks for none of it again.

    Raises DownloadFailed, after several tries where that may help. Raises ChecksumMismatch, and InvalidModelFile for
    what does not begin like a GGUF file; then nothing stays.
    """
    download = _Download(file, path, label, progress, web)
    try:
        return download.run()
    except (ChecksumMismatch, InvalidModelFile):
        path.unlink(missing_ok=True)
        download.state_path.unlink(missing_ok=True)
        raise
    finally:
        progress.finish()


class _Download:
    """The state of one call of ``fetch_file``: how many bytes are there and what they hash to."""

    def __init__(self, file: RemoteFile, path: Path, label: str, progress: Progress, web: Web) -> None:
        self.state_path = path.with_name(path.name + ".json")
        self._file = file
        self._path = path
        self._label = f"downloading {label}"
        self._progress = progress
        self._web = web
        self._state = self._read_state()
        self._position = 0
        self._digest = hashlib.sha256()

    def run(self) -> str:
        """Try until the file is whole, or it is clear that it will not be; the sha256."""
        self._take_what_is_there()
        failures, answered = 0, False
        while not self._is_whole():
            before = self._position
            try:
                self._try()
                answered = True
            except Interrupted as error:
                # Without a network waiting does not help; one that was there may come back.
                answered = answered or self._position > before or not isinstance(error, NoConnection)
                failures = 1 if self._position - before >= _PROGRESS_BYTES else failures + 1
                if not answered or failures > len(PAUSES_S):
                    raise DownloadFailed(f"{error.reason}{self._kept()}") from None
                self._progress.start(None, f"{self._label}: {error.reason}; trying again")
                self._web.pause(error.after_s if error.after_s is not None else PAUSES_S[failures - 1])
        sha256 = self._digest.hexdigest()
        if self._file.sha256 not in {None, sha256}:
            raise ChecksumMismatch(shown_url(self._file.url), expected=str(self._file.sha256), actual=sha256)
        return sha256

    def _is_whole(self) -> bool:
        return self._state is not None and self._state.size == self._position

    def _kept(self) -> str:
        return f"; pull again to go on from {self._position / 1e6:.0f} MB" if self._position else ""

    def _take_what_is_there(self) -> None:
        """Hash the bytes of an earlier call, or remove them where they are of no use."""
        size = self._path.stat().st_size if self._path.exists() else 0
        usable = self._state is not None and self._state.size is not None and size <= self._state.size
        if not usable or not size:
            self._start_anew()
            return
        self._progress.start(size, f"checking {self._label.removeprefix('downloading ')}")
        with self._path.open("rb") as part:
            while chunk := part.read(CHUNK):
                self._count(chunk)

    def _start_anew(self) -> None:
        self._path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)
        self._state, self._position, self._digest = None, 0, hashlib.sha256()

    def _try(self) -> None:
        """One request, and its body to the end. Interrupted leaves what arrived."""
        headers = {"Accept-Encoding": "identity"}
        if self._position and self._state is not None and self._can_go_on(self._state):
            headers["Range"] = f"bytes={self._position}-"
            # The hub's files lie on other servers, whose tags may differ; its own version has been compared.
            if self._state.validator and self._file.version is None:
                headers["If-Range"] = self._state.validator
        file = self._file
        unprotected = file.sha256 is not None
        with self._web.get(file.url, headers, authorization=file.authorization, unprotected=unprotected) as response:
            self._place(response)
            self._receive(response)

    def _place(self, response: httpx2.Response) -> None:
        """Make file, digest and state fit what the response brings: the rest, or all of it."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadFailed(
                f"{shown_url(self._file.url)} comes packed, which it was not asked to: use another server"
            )
        if response.status_code == 416:
            self._start_anew()
            raise Interrupted("the server cannot go on from there")
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not self._state or not found or (int(found[1]), int(found[2])) != (self._position, self._state.size):
                self._start_anew()
                raise Interrupted("the server sends another part than it was asked for")
            return
        self._start_anew()
        size = self._size_of(response)
        self._state = _State(WebSource(self._file.url).text, self._file.version or "", _validator(response), size)
        if self._can_go_on(self._state):
            self.state_path.write_bytes(msgspec.json.encode(self._state))

    def _can_go_on(self, state: _State) -> bool:
        """Whether there is a way to tell that the rest belongs to what is there."""
        return state.size is not None and bool(self._file.version or self._file.sha256 or state.validator)

    def _size_of(self, response: httpx2.Response) -> int | None:
        """The size of the whole; DownloadFailed when it is not what was said before."""
        length = response.headers.get("Content-Length")
        size = int(length) if length is not None and length.isdigit() else self._file.size
        if self._file.size not in {None, size}:
            raise DownloadFailed(
                f"{shown_url(self._file.url)} has {size} bytes and not the {self._file.size} that were announced"
            )
        return size

    def _receive(self, response: httpx2.Response) -> None:
        size = self._state.size if self._state else None
        if size is not None:
            require_space(self._path.parent, size - self._position, self._label.removeprefix("downloading "))
        most = size if size is not None else max(0, free_space(self._path.parent) - _RESERVE)
        self._progress.start(size, self._label)
        self._progress.advance(self._position)
        with self._path.open("ab") as part:
            for chunk in response.iter_raw():
                if not self._position:
                    self._require_magic(chunk)
                if self._position + len(chunk) > most:
                    raise DownloadFailed(
                        f"{shown_url(self._file.url)} sends more than {most / 1e6:.0f} MB, which is"
                        + (" more than it announced" if size is not None else " all that the disk has room for")
                    )
                part.write(chunk)
                self._count(chunk)
            part.flush()
            os.fsync(part.fileno())
        if size is None and self._state is not None:
            self._state = msgspec.structs.replace(self._state, size=self._position)
        if not self._is_whole():
            raise Interrupted("the connection ended early")

    def _require_magic(self, start: bytes) -> None:
        """Half a gigabyte of something else need not arrive before one says so."""
        if len(start) >= 4 and not start.startswith(b"GGUF"):
            raise InvalidModelFile(shown_url(self._file.url), f"is {mistaken_for(start)}")

    def _count(self, chunk: bytes) -> None:
        self._position += len(chunk)
        self._digest.update(chunk)
        self._progress.advance(len(chunk))

    def _read_state(self) -> _State | None:
        try:
            state = msgspec.json.decode(self.state_path.read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return None
        same = (state.url, state.version) == (WebSource(self._file.url).text, self._file.version or "")
        return state if same and self._file.size in {None, state.size} else None


def _validator(response: httpx2.Response) -> str:
    """A weak ETag promises too little for a range (RFC 9110, 13.1.5)."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))
