"""The rooms of the package: who may import whom, who reads the environment, who knows cffi."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import shimmy

PACKAGE = Path(shimmy.__file__).parent
# A room imports from itself and from those before it. "settings" is config's table, "setting" its kinds, and "tool_folders" what variables
# of other tools mean to it.
ROOMS = (
    "errors",
    ("setting", "settings", "model_settings", "tool_folders", "config"),
    "types",
    "schema",
    "native",
    "engine",
    "worker",
    "models",
    "tools",
    "agent",
    "workflows",
    "api",
    "logs",
    "server",
    "usage",
    "commands",
    "cli",
)
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in ([names] if isinstance(names, str) else names)}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "_abi.py")


def room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    """The dotted names that ``module`` imports anywhere, relative ones made absolute."""
    package = ["shimmy", *module.parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, node.module] if node.module else base)
            found |= {f"{name}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down_the_list_of_rooms(module: Path) -> None:
    if room(module) in {"__init__", "__main__"}:
        return
    assert room(module) in FLOOR, f"{module} is in no room of the list"
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("shimmy.")}
    above = {name for name in rooms & FLOOR.keys() if FLOOR[name] > FLOOR[room(module)]}
    assert not above


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_config_reads_the_environment(module: Path) -> None:
    if room(module) in {"config", "setting", "settings", "model_settings"}:
        return
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    reads = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & {
        "environ",
        "environb",
        "getenv",
    }
    assert not reads | (imports(module) & {"os.environ", "os.environb", "os.getenv"})


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_native_room_knows_cffi(module: Path) -> None:
    if room(module) != "native":
        assert not {name for name in imports(module) if name.split(".")[0] in {"cffi", "_cffi_backend"}}


def test_the_check_sees_an_import_that_goes_up() -> None:
    assert FLOOR["native"] < FLOOR["engine"]
    assert "shimmy.errors.ShimmyError" in imports(Path("native/ffi.py"))
