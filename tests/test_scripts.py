"""The scripts on machines that lack something: one line that says what to install, and nothing half-made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "readlink", "dirname", "find")

spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
assert spec is not None
assert spec.loader is not None
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)


@pytest.fixture(name="checkout")
def checkout_fixture(tmp_path: Path) -> Path:
    """A checkout that was never built; its folder's name has a space."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copytree(ROOT / "native", root / "native", ignore=shutil.ignore_patterns("llama.cpp*"))
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture(name="path")
def path_fixture(tmp_path: Path) -> Path:
    """A folder of programs that holds what every system has, and neither Python nor a compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


def run(program: Path, *arguments: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        env={"PATH": str(path), "HOME": "", **environment},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_missing_python_is_one_line(checkout: Path, path: Path) -> None:
    done = run(checkout / "scripts" / "shimmy", "list", path=path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(checkout: Path, path: Path) -> None:
    (path / "python3").write_text("#!/bin/sh\nexit 1\n")  # what an old one answers to the question for its version
    (path / "python3").chmod(0o755)
    done = run(checkout / "scripts" / "shimmy", "list", path=path)
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


def test_a_missing_compiler_is_one_line_that_names_the_package(checkout: Path, path: Path) -> None:
    (path / "python3").symlink_to(sys.executable)
    done = run(checkout / "scripts" / "shimmy", "list", path=path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no C++ compiler was found" in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_scripts_work_through_a_link(checkout: Path, path: Path, tmp_path: Path) -> None:
    (path / "python3").symlink_to(sys.executable)
    link = tmp_path / "linked"
    link.symlink_to(checkout / "scripts" / "test")
    done = run(link, path=path)
    assert "no C++ compiler was found" in done.stderr


@pytest.fixture(name="built")
def built_fixture(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the stamp of a finished build, whose shimmy prints its arguments."""
    monkeypatch.setattr(bootstrap, "ROOT", checkout)
    monkeypatch.delenv("SHIMMY_LLAMA_CPP_DIR", raising=False)
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "shimmy"):
        (programs / name).write_text('#!/bin/sh\necho "$@"\n')
        (programs / name).chmod(0o755)
    (checkout / ".venv" / ".shimmy-built").write_text(bootstrap.stamp_text("run", "cpu"))
    return checkout


def test_a_built_checkout_starts_without_looking_for_python(built: Path, path: Path) -> None:
    done = run(built / "scripts" / "shimmy", "list", "a b", path=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "list a b\n", "")


@pytest.mark.parametrize("name", ["native/chat.cpp", "native/added.cpp", "CMakeLists.txt", "pyproject.toml"])
def test_a_changed_source_is_noticed(built: Path, path: Path, name: str) -> None:
    later = (built / ".venv" / ".shimmy-built").stat().st_mtime + 1
    (built / name).touch()
    os.utime(built / name, (later, later))
    assert run(built / "scripts" / "shimmy", "list", path=path).returncode == 1


@pytest.mark.parametrize("script", ["test", "check"])
def test_the_checks_ask_for_the_development_extras(built: Path, path: Path, script: str) -> None:
    assert "Python 3.11" in run(built / "scripts" / script, path=path).stderr


def test_a_moved_checkout_is_built_anew(built: Path, path: Path, tmp_path: Path) -> None:
    moved = built.rename(tmp_path / "moved")
    assert "Python 3.11" in run(moved / "scripts" / "shimmy", "list", path=path).stderr


def test_another_back_end_is_built_and_the_same_is_not(built: Path, path: Path) -> None:
    program = built / "scripts" / "shimmy"
    assert run(program, "list", path=path, SHIMMY_BACKEND="cpu").returncode == 0
    assert run(program, "list", path=path, SHIMMY_BACKEND="cuda").returncode == 1


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("x\n  shimmy: error: no network\nERROR: Failed building\n", "no network"),
        ("CMake Error at a.cmake:1 (message):\n  choose auto\n  or cpu\nCall Stack:\nERROR: y\n", "choose auto or cpu"),
        (
            "[1/2] Building\na.cpp:3:1: error: expected ';'\nninja: stopped\nERROR: y\n",
            "a.cpp:3:1: error: expected ';'",
        ),
        ("ERROR: No matching distribution found for cffi\n", "No matching distribution found for cffi"),
        ("something\nelse\n", "else"),
        ("", "no output"),
    ],
)
def test_the_reason_of_a_failure_is_found_in_the_log(log: str, expected: str) -> None:
    assert bootstrap.reason(log) == expected


def test_a_change_below_native_changes_the_hash_of_the_content(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", checkout)
    before = bootstrap.content_hash()
    (checkout / "native" / "shimmy.h").touch()
    assert bootstrap.content_hash() == before
    (checkout / "native" / "added.cpp").touch()
    assert bootstrap.content_hash() != before


def test_the_development_environment_has_one_version_of_each_requirement() -> None:
    lines = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for line in lines:
        if not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    for requirement in asked:
        if requirement.name != "pip":  # the environment's own
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement.name
