"""How much of the host's memory may be taken, as it is at the moment: of the machine, its control groups, and the process's limit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

_SPILL_SHARE = 8  # prefixes that had to leave the KV cache take at most one part of so many
_KEPT_SHARE = 16  # and leave one of so many to everybody else
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_Names = tuple[str, str, str, str]  # of a group's limit and use, and in its memory.stat of pages of files
_NAMES: _Names = ("memory.max", "memory.current", "inactive_file", "active_file")
_OLD_NAMES: _Names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")


class Bound(NamedTuple):
    """Something that has so much memory in all, of which so much is free (below 0: too much is taken already), in bytes."""

    total: int
    free: int


def free_memory() -> int:
    """Bytes this process may still take without swapping: of the machine, its control group, and its limit (ulimit -v)."""
    return max(min(bound.free for bound in bounds()), 0)


def spill_bytes(wanted: int) -> int:
    """The most that prefixes of one model may take that had to leave its KV cache."""
    return min(wanted, min(bound.total for bound in bounds()) // _SPILL_SHARE)


def spare_memory() -> int:
    """Bytes that may be taken now for what one can do without, as these prefixes are; below 0: so much is to be given back.

    All workers ask this before they take more, so together they do not take more than there is. What is mapped of the weights is
    free in the eyes of the machine and its control groups, but each step needs it.
    """
    if (spare := _spare()) < 0:
        _trim()
        spare = _spare()
    return spare


def own_room() -> int | None:
    """Bytes that this process may still take by its own limit (ulimit -v), also of what it maps; None: it has none."""
    own = _own_bound()
    return None if own is None else max(own.free, 0)


def bounds(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> Iterator[Bound]:
    """All that bound this process's memory, the machine first. ``groups``, ``own_groups``: Linux's files about control groups."""
    machine, *around = shared_bounds(groups, own_groups)
    yield machine
    if (own := _own_bound()) is not None:
        yield own
    yield from around


def _own_bound() -> Bound | None:
    with suppress(ImportError):
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return Bound(limit, limit - psutil.Process().memory_info().vms)
    return None


def shared_bounds(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> Iterator[Bound]:
    """Those that bind this process together with its children: the machine, and the control groups."""
    machine = psutil.virtual_memory()
    yield Bound(machine.total, machine.available)
    with suppress(OSError, ValueError):
        for line in own_groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield from _bounds_in(groups, path, _NAMES, machine.total)
            elif "memory" in controllers.split(","):
                yield from _bounds_in(groups / "memory", path, _OLD_NAMES, machine.total)


def _bounds_in(root: Path, path: str, names: _Names, total: int) -> Iterator[Bound]:
    """Of a control group and those around it; in a container its path may be the host's, and only the root is seen."""
    limit, current, *files = names
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            return
        with suppress(OSError, ValueError):  # there is no such folder, or no limit: "max"
            most = int((folder / limit).read_text())
            if most < total:
                used = int((folder / current).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                # Pages of files can be dropped, those that were read lately, too: a model's that was unloaded are among them.
                dropped = sum(int(stat.get(name, 0)) for name in files)
                yield Bound(most, min(most - used + dropped, most))


def _spare() -> int:
    mapped = getattr(psutil.Process().memory_info(), "shared", 0)  # Linux alone says it
    spares = [bound.free - mapped - bound.total // _KEPT_SHARE for bound in shared_bounds()]
    if (own := _own_bound()) is not None:
        spares.append(own.free - own.total // _KEPT_SHARE)
    return min(spares)


def _trim() -> None:
    """Give back what was freed: glibc keeps pieces of up to 32 MiB for the next who asks."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)
