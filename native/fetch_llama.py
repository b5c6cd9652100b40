"""Brings the pinned llama.cpp source into native/llama.cpp/; run by CMake, and by hand if wanted.

In order: the folder itself, if its stamp is the present pin; the packed files in the user's cache; the source
distribution in the cache, put there by hand; the package index, through pip. Whatever the way, the files must have
the pin's tree_sha256. A second checkout therefore builds without a network.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIN_FILE = HERE / "llama.pin"
STAMP = ".pin"

# What the build and the benchmarks' peers need. "models/" are for the tests: one vocabulary a kind of tokenizer, of
# which deepseek-coder's has fill-in-the-middle tokens.
KEPT = (
    "CMakeLists.txt",
    "LICENSE",
    "AUTHORS",
    "licenses/",
    "cmake/",
    "common/",
    "ggml/",
    "include/",
    "src/",
    "vendor/",
    "tools/",
    "scripts/ui-assets.cmake",
    "models/templates/",
    "models/ggml-vocab-deepseek-coder.gguf",
    "models/ggml-vocab-llama-spm.gguf",
)
# Back ends that SHIMMY_BACKEND does not offer, and the web page of llama-server (its CMake files stay).
LEFT_OUT = (
    *(
        f"ggml/src/ggml-{name}/"
        for name in ("cann", "et", "hexagon", "opencl", "openvino", "sycl", "virtgpu", "webgpu", "zdnn", "zendnn")
    ),
    "tools/ui/src/",
    "tools/ui/tests/",
    "tools/ui/static/",
    "tools/ui/scripts/",
    "tools/ui/package-lock.json",
)


class FetchError(Exception):
    """The source cannot be had; the message says what to do."""


class Pin:
    """The values of llama.pin; ``text`` is the file as it is, which the stamp repeats."""

    def __init__(self, path: Path = PIN_FILE) -> None:
        self.text = path.read_text(encoding="utf-8")
        lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        values = dict(line.split(" = ", 1) for line in lines)
        self.package = values["package"]
        self.version = values["version"]
        self.sha256 = values["sha256"]
        self.commit = values["commit"]
        self.tree_sha256 = values["tree_sha256"]

    @property
    def sdist_name(self) -> str:
        """The file name of the source distribution."""
        return f"{self.package.replace('-', '_')}-{self.version}.tar.gz"

    @property
    def packed_name(self) -> str:
        """The file name of the packed files in the cache."""
        return f"llama.cpp-{self.commit}-{self.tree_sha256[:12]}.tar.gz"


def cache_folder() -> Path:
    """Where the packed files are kept between checkouts; it may not exist."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        configured = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return base / "shimmy"


def is_kept(name: str) -> bool:
    """Whether ``name``, relative to llama.cpp's root, is one of the files that are needed."""
    return name.startswith(KEPT) and not name.startswith(LEFT_OUT)


def tree_sha256(root: Path) -> str:
    """One hash over the files below ``root``: of the lines "<sha256> <path>", sorted by path; the stamp is no part."""
    total = hashlib.sha256()
    files = (path for path in root.rglob("*") if path.is_file() and path.name != STAMP)
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        total.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n".encode())
    return total.hexdigest()


def unpack(archive: Path, into: Path, prefix: str = "") -> None:
    """Writes the kept files below ``prefix`` of ``archive`` to ``into``. Only regular files, never outside ``into``."""
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            name = member.name.removeprefix(prefix)
            if not member.isfile() or not member.name.startswith(prefix) or not is_kept(name):
                continue
            if ".." in Path(name).parts:
                raise FetchError(f"{archive} holds the path {member.name}: it is not the pinned archive, remove it")
            source = tar.extractfile(member)
            if source is None:
                continue
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as out:
                shutil.copyfileobj(source, out)


def pack(root: Path, archive: Path) -> None:
    """Packs the files below ``root`` into ``archive``, which appears whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=archive.parent, prefix=archive.name)
    try:
        with (
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, 0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                tar.add(path, arcname=path.relative_to(root).as_posix())
        Path(name).replace(archive)
    except BaseException:
        Path(name).unlink()
        raise


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"shimmy: {text}", file=sys.stderr, flush=True)


def python_with_pip() -> str:
    """A Python that has pip: this one, or one of the PATH."""
    candidates = [sys.executable, *filter(None, map(shutil.which, ("python3", "python")))]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", "import pip"], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    raise FetchError("no Python with pip was found: install pip (Debian: python3-pip), or set SHIMMY_LLAMA_CPP_DIR")


def download(pin: Pin, folder: Path) -> Path:
    """Downloads the source distribution into ``folder`` through pip, which checks its sha256 before it opens it."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    command = [python_with_pip(), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    # Not ":all:": the distribution's own build requirements may be wheels.
    command += ["--no-binary", pin.package, "--dest", str(folder), "--requirement", str(requirement)]
    say(f"fetching llama.cpp {pin.commit} ({pin.package} {pin.version}, 73 MB)")
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    archive = folder / pin.sdist_name
    if run.returncode != 0 or not archive.is_file():
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or run.stderr.splitlines()[-1:]
        raise FetchError(
            f"llama.cpp could not be fetched ({' '.join(lines)[:300]}); put {pin.sdist_name} into {cache_folder()},"
            " or set SHIMMY_LLAMA_CPP_DIR to a llama.cpp checkout"
        )
    return archive


def check_archive(pin: Pin, archive: Path) -> None:
    """Raises FetchError unless ``archive`` has the pinned sha256."""
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != pin.sha256:
        raise FetchError(
            f"{archive} has sha256 {actual[:16]}… but {pin.sha256[:16]}… is pinned: remove it and try again"
        )


def from_cache(pin: Pin, into: Path) -> bool:
    """Unpacks the cache's files to ``into``; False where there are none, or where they are not what the pin says."""
    packed = cache_folder() / pin.packed_name
    if not packed.is_file():
        return False
    try:
        unpack(packed, into)
    except (OSError, EOFError, tarfile.TarError, FetchError) as error:
        say(f"{packed} cannot be read ({error}); fetching anew")
    else:
        if tree_sha256(into) == pin.tree_sha256:
            return True
        say(f"{packed} is not what the pin says; fetching anew")
    shutil.rmtree(into, ignore_errors=True)
    return False


def from_archive(pin: Pin, into: Path) -> None:
    """Unpacks the source distribution, from the cache or else from the package index, to ``into``; fills the cache."""
    by_hand = cache_folder() / pin.sdist_name
    with tempfile.TemporaryDirectory(prefix="shimmy-fetch-") as folder:
        archive = by_hand if by_hand.is_file() else download(pin, Path(folder))
        check_archive(pin, archive)
        say("unpacking llama.cpp")
        unpack(archive, into, prefix=pin.sdist_name.removesuffix(".tar.gz") + "/vendor/llama.cpp/")
    actual = tree_sha256(into)
    if actual != pin.tree_sha256:
        raise FetchError(f"the kept files have tree_sha256 {actual}, llama.pin says {pin.tree_sha256 or 'nothing'}")
    try:
        pack(into, cache_folder() / pin.packed_name)
    except OSError as error:
        say(f"not kept for the next checkout: {error}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file ``path``, so that two builds of one checkout do not fetch at once."""
    with path.open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows: the rename at the end is still atomic
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(into: Path, pin: Pin) -> None:
    """Makes ``into`` hold the source that ``pin`` names, whole or not at all. Raises FetchError."""
    stamp = into / STAMP
    with locked(into.with_name(into.name + ".lock")):
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == pin.text:
            return
        fresh = into.with_name(into.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        if not from_cache(pin, fresh):
            from_archive(pin, fresh)
        (fresh / STAMP).write_text(pin.text, encoding="utf-8")
        if into.exists():
            shutil.rmtree(into)
        fresh.rename(into)


def main() -> int:
    """Exit code 0, or 1 after one line on stderr."""
    parser = argparse.ArgumentParser(description="Fetch the pinned llama.cpp source.")
    parser.add_argument("--into", type=Path, default=HERE / "llama.cpp")
    try:
        fetch(parser.parse_args().into, Pin())
    except (FetchError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
