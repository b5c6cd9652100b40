"""The source distribution and the wheel, built and installed as a stranger would."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SDIST_LIMIT = 15 * 1024**2

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """The output of ``command``; fails the test with it where the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(name="sdist", scope="module")
def sdist_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


@pytest.fixture(name="wheel", scope="module")
def wheel_fixture(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the unpacked source distribution with no package index and no cache to fetch from."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    offline = {"PIP_NO_INDEX": "1", "XDG_CACHE_HOME": str(folder / "cache"), "SHIMMY_LLAMA_CPP_DIR": ""}
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=source, **offline)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_source_distribution_is_small_and_carries_llama_cpp(sdist: Path) -> None:
    assert sdist.stat().st_size < SDIST_LIMIT
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"native/llama.cpp/.pin", "native/llama.cpp/include/llama.h", "native/llama.cpp/LICENSE"} <= names
    assert not {name for name in names if name.endswith((".gguf", ".so"))}


def test_the_wheel_is_one_for_every_python(wheel: Path) -> None:
    assert "-py3-none-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"shimmy/api/pages/docs.html", "shimmy/api/pages/docs.css", "shimmy/api/pages/docs.js"} <= set(names)
    native = {name for name in names if name.endswith((".so", ".dylib", ".dll"))}
    assert len(native) == 1
    assert {Path(name).parts[0] for name in names if ".dist-info" not in name} == {"shimmy"}


def test_the_installed_wheel_finds_its_library(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    # The dependencies come from this environment: what is tested is what the wheel holds.
    numpy_folder = run(
        sys.executable, "-c", "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))"
    )
    code = "import sys; sys.path.append(sys.argv[1]); from shimmy.native import ffi; ffi.library(); print(ffi.library_path())"
    found = run(python, "-I", "-c", code, numpy_folder.strip(), cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(tmp_path)
