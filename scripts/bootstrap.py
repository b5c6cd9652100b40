"""Makes the project's own environment, .venv, and builds and installs the package there: ``bootstrap.py run|dev``.

Called by the scripts of this folder when something is missing or has changed. Every step can be repeated, and the
stamp that says "done" is written last: a run that was broken off is continued by the next one. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
WHOLE = VENV / ".whole"  # says that the environment was made to its end
STAMP = VENV / ".shimmy-built"
LOG = ROOT / "build" / "setup.log"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"

MEMORY_PER_COMPILER = 1200 * 1024**2  # the largest of llama.cpp's files
QUIET_SECONDS = 10  # between two lines of progress where stderr is no terminal

# What names a failure, the first that is found; the later ones are said of everything.
REASONS = (
    r"shimmy: error: (.*)",
    r"CMake Error.*?:\n+((?:[ \t]+\S.*\n)+)",
    r"(\S+: (?:fatal )?error: .*)",
    r"ERROR: (.*)",
    r"(\w+(?:Error|Exception): .*)",
)


def stop(message: str) -> NoReturn:
    """Ends with exit code 1 after one line that says what to do."""
    print(f"shimmy: {message}", file=sys.stderr)
    raise SystemExit(1)


class Progress:
    """What is going on, on stderr: one line that is rewritten on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._said = 0.0

    def show(self, text: str, *, new: bool = False) -> None:
        """Shows ``text``; ``new`` says that it is another step."""
        now = time.monotonic()
        line = f"shimmy: {text} ({now - self._started:.0f} s)"
        if self._terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif new or now - self._said >= QUIET_SECONDS:
            self._said = now
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leaves an empty line for what comes."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


PROGRESS = Progress()


def run(command: list[str], what: str) -> None:
    """Runs ``command`` with its output in the log and progress on stderr; stops with its reason where it fails."""
    PROGRESS.show(what, new=True)
    with LOG.open("a", encoding="utf-8", errors="replace") as log:
        start = log.tell()
        log.write(f"$ {' '.join(command)}\n")
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
        environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(compilers()))
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that an interrupt can end the compilers too
        )
        try:
            follow(process, log.write, what)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    PROGRESS.clear()
    if process.returncode != 0:
        with LOG.open(encoding="utf-8", errors="replace") as log:
            log.seek(start)
            stop(f"{what} failed: {reason(log.read())} (all of it: {LOG})")


def follow(process: subprocess.Popen[str], write: Callable[[str], object], what: str) -> None:
    """Passes the output of ``process`` to ``write`` until it ends, and shows how far it is."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            PROGRESS.show(what)
            continue
        if line is None:
            break
        write(line)
        if counted := re.match(r"\s*\[(\d+)/(\d+)\] Building", line):
            what = f"compiling {counted[1]} of {counted[2]}"
            PROGRESS.show(what)
        elif said := re.match(r"\s*shimmy: (?!error)(.*)", line):
            what = said[1]
            PROGRESS.show(what, new=True)
    process.wait()


def reason(log: str) -> str:
    """The line of ``log`` that says best what went wrong."""
    for pattern in REASONS:
        if found := re.search(pattern, log):
            return " ".join(found[1].split())[:300]
    return (log.strip().splitlines() or ["no output"])[-1][:300]


def compilers() -> int:
    """How many compilers to run at once: one a core, as far as the memory allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux
        return cores
    return max(1, min(cores, available // MEMORY_PER_COMPILER))


def install_hint(debian: str, fedora: str, arch: str, alpine: str) -> str:
    """The command that installs a package on this system, or the package's names where the system is not known."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        release = ""
    family = " ".join(re.findall(r'^ID(?:_LIKE)?="?([^"\n]*)', release, re.MULTILINE))
    root = "" if os.geteuid() == 0 else "sudo "
    for names, command in (
        (("debian", "ubuntu"), f"apt install {debian}"),
        (("fedora", "rhel", "centos"), f"dnf install {fedora}"),
        (("suse",), f"zypper install {fedora}"),
        (("arch",), f"pacman -S {arch}"),
        (("alpine",), f"apk add {alpine}"),
    ):
        if any(name in family for name in names):
            return root + command
    return f"the package is {debian} on Debian and Ubuntu, {fedora} on Fedora"


def check_compilers() -> None:
    """Stops with the package to install where there is no C or C++ compiler."""
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        wanted = os.environ.get(variable, "").split()[:1] or names
        if not any(map(shutil.which, wanted)):
            hint = install_hint("build-essential", "gcc-c++ make", "base-devel", "build-base linux-headers")
            stop(f"no C++ compiler was found ({', '.join(wanted)}): {hint}")


def make_environment() -> None:
    """Makes .venv, from nothing where a former run left half of one."""
    if WHOLE.is_file() and PYTHON.exists():
        return
    try:
        import ensurepip
        import venv
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        hint = install_hint(f"python{version}-venv", "python3-pip", "python", "py3-pip")
        stop(f"this Python has no venv module: {hint}")
    del ensurepip, venv
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(VENV)], "making the environment .venv")
    WHOLE.touch()


def install(extras: str) -> None:
    """Builds and installs the package with its dependencies, editable."""
    pip = [str(PYTHON), "-m", "pip", "install", "--no-color", "--progress-bar", "off"]
    run([*pip, *static_build_requirements()], "installing the build requirements")
    # cmake and ninja are requirements where this machine has none, or too old ones; scikit-build-core knows.
    ask = "from scikit_build_core.build import get_requires_for_build_editable as r; print('\\n'.join(r()), end='')"
    answer = subprocess.run([PYTHON, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        stop(f"the build requirements cannot be read: {reason(answer.stderr)}")
    if missing := answer.stdout.splitlines():
        run([*pip, *missing], f"installing {' and '.join(re.split('[<>=]', name)[0] for name in missing)}")
    target = (
        ["--constraint", str(CONSTRAINTS), "--editable", f"{ROOT}[dev]"]
        if extras == "dev"
        else ["--editable", str(ROOT)]
    )
    # Without isolation: the tools' paths stay the same, and so does what is compiled already.
    run([*pip, "-v", "--no-build-isolation", *target], "building shimmy")
    # Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every start would compile shimmy's files anew.
    run([str(PYTHON), "-m", "compileall", "-q", str(ROOT / "shimmy")], "compiling shimmy's Python")
    # backend.cmake's warning, which went to the log.
    if "an NVIDIA GPU but no CUDA" in LOG.read_text(encoding="utf-8", errors="replace"):
        print(
            "shimmy: WARNING: this machine has an NVIDIA GPU but no CUDA toolkit, so shimmy was built for the CPU;"
            " install the toolkit, put nvcc on the PATH and run once with SHIMMY_BACKEND=cuda",
            file=sys.stderr,
        )


def static_build_requirements() -> list[str]:
    """The requirements of pyproject.toml's build system."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements: list[str] = tomllib.load(file)["build-system"]["requires"]
    return requirements


def content_hash() -> str:
    """A hash over all files that the build reads, apart from llama.cpp's, which llama.pin stands for."""
    total = hashlib.sha256()
    sources = [ROOT / "CMakeLists.txt", ROOT / "pyproject.toml", CONSTRAINTS]
    sources += sorted(path for path in (ROOT / "native").iterdir() if path.is_file() and path.suffix != ".lock")
    for path in sources:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def stamp_text(extras: str, backend: str) -> str:
    """What STAMP holds; environment.sh reads its first four lines."""
    llama = os.environ.get("SHIMMY_LLAMA_CPP_DIR") or "pinned"
    return f"root {ROOT}\nbackend {backend}\nllama.cpp {llama}\nextras {extras}\ncontent {content_hash()}\n"


def bring_up_to_date(wanted: str) -> None:
    """Builds and installs unless the last build was of the same content with the same choices."""
    former = STAMP.read_text(encoding="utf-8") if STAMP.is_file() else ""
    # A back end once chosen, and extras once installed, stay until something else is asked for.
    backend = os.environ.get("SHIMMY_BACKEND") or (re.findall(r"^backend (.+)$", former, re.MULTILINE) or ["auto"])[0]
    extras = "dev" if wanted == "dev" or "\nextras dev\n" in former else "run"
    os.environ["SHIMMY_BACKEND"] = backend
    started = time.time()
    text = stamp_text(extras, backend)
    if text != former or not WHOLE.is_file() or not PYTHON.exists():
        STAMP.unlink(missing_ok=True)
        check_compilers()
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("", encoding="utf-8")
        make_environment()
        install(extras)
        STAMP.write_text(text, encoding="utf-8")
        now = time.time()
        if stamp_text(extras, backend) == text:
            started = now
    # A file that was changed while it was being compiled must be newer than the stamp.
    os.utime(STAMP, (started, started))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file ``path``; a second set-up waits for the first."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("shimmy: waiting for another set-up of this checkout", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Exit code 0, 1 after one line on stderr, or 130 after an interrupt."""
    try:
        with locked(ROOT / ".venv.lock"):
            bring_up_to_date(sys.argv[1])
    except KeyboardInterrupt:
        PROGRESS.clear()
        print("shimmy: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    except OSError as error:
        PROGRESS.clear()
        stop(f"the set-up failed: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
