"""What this process may take: of the machine, of its control groups, and within its limit, as it is now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shimmy.worker.host_memory import Bound, bounds, free_memory, spill_bytes

MIB = 2**20
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
V2 = ("memory.max", "memory.current", "inactive_file", "active_file")
Names = tuple[str, str, str, str]


def write_group(folder: Path, names: Names, limit: str, used: int, *files: int) -> None:
    """A control group as the kernel shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        "anon 1\n" + "".join(f"{name} {size}\n" for name, size in zip(names[2:], files, strict=False))
    )


def groups_of(tmp_path: Path, lines: str) -> list[Bound]:
    """The bounds of the groups that ``lines`` of /proc/self/cgroup name; the machine's, and this process's limit, left out."""
    own = tmp_path / "own"
    own.write_text(lines)
    return list(bounds(tmp_path, own))[len(list(bounds(tmp_path, tmp_path / "none"))) :]


def test_the_machine_has_some() -> None:
    machine, *_ = bounds()
    assert machine.total == psutil.virtual_memory().total
    assert 0 < free_memory() <= machine.total
    assert 0 < spill_bytes(2**60) <= machine.total // 8
    assert spill_bytes(MIB) == MIB


@pytest.mark.parametrize(("names", "line", "root"), [(V2, "0::/a/b\n", "."), (V1, "4:cpu,memory:/a/b\n", "memory")])
def test_a_control_group_and_those_around_it_are_asked(tmp_path: Path, names: Names, line: str, root: str) -> None:
    write_group(tmp_path / root / "a/b", names, str(400 * MIB), 300 * MIB, 50 * MIB, 20 * MIB)
    write_group(tmp_path / root / "a", names, "max" if names is V2 else str(2**63 - 4096), 500 * MIB)
    write_group(tmp_path / root, names, str(600 * MIB), 700 * MIB)
    found = groups_of(tmp_path, f"9:pids:/other\n{line}")
    assert found == [Bound(400 * MIB, 170 * MIB), Bound(600 * MIB, -100 * MIB)]


def test_in_a_container_that_does_not_see_the_hosts_groups_its_own_is_the_root(tmp_path: Path) -> None:
    write_group(tmp_path / "memory", V1, str(400 * MIB), 100 * MIB)
    assert groups_of(tmp_path, "4:memory:/docker/1234\n") == [Bound(400 * MIB, 300 * MIB)]


def test_a_group_that_cannot_be_read_bounds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/memory.max").write_text("many\n")
    assert groups_of(tmp_path, "0::/a\nnonsense\n") == []


def test_the_limit_of_the_process_bounds_what_it_may_spare() -> None:
    """Asked before and after it took most of the 1 GiB that it may have more than it has."""
    program = """if True:
        import json, psutil, resource
        from shimmy.worker.host_memory import bounds, free_memory, spare_memory, spill_bytes
        def seen():
            total, free = list(bounds())[1]
            return {"total": total, "bound": free, "free": free_memory(), "spare": spare_memory()}
        limit = psutil.Process().memory_info().vms + 1024 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = seen()
        spill = spill_bytes(2**60)
        taken = bytearray(990 * 2**20)
        print(json.dumps([limit, spill, before, seen()]))
    """
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=300, capture_output=True)
    limit, spill, before, after = json.loads(done.stdout)
    assert before["total"] == limit
    assert before["spare"] < before["free"] <= before["bound"] <= 1024 * MIB
    assert spill <= limit // 8
    assert 0 <= after["bound"] <= before["bound"] - 990 * MIB
    assert after["spare"] < 0 <= after["free"]
