"""The GPUs that this machine shows, and why llama.cpp's build here does not use them.

ggml lists only what its back ends can reach, so a GPU without a back end, a driver or its device files is silently left out. What is
there is therefore read from the kernel's own lists: /sys/bus/pci, /proc/driver/nvidia, /dev.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_DISPLAY = "0x03"  # the PCI class of display controllers
_BACKENDS = {"NVIDIA": ("cuda", "vulkan"), "AMD": ("vulkan",), "Intel": ("vulkan",)}
_LIBRARIES = {"cuda": "libcuda.so.1", "vulkan": "libvulkan.so.1"}
_NEEDS = {
    "cuda": "install the CUDA toolkit (nvcc and cuBLAS)",
    "vulkan": "install the Vulkan headers, loader and glslc (Debian: libvulkan-dev glslc)",
}


class Gpu(NamedTuple):
    """A GPU as the kernel lists it; ``name`` is its maker where nothing better is known."""

    maker: str
    name: str


def can_open(library: str) -> bool:
    """Whether a shared library of this name can be opened."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def find_gpus(root: Path = Path("/")) -> list[Gpu]:
    """The machine's GPUs, each once; ``root`` stands for / in tests."""
    found = [Gpu("NVIDIA", name) for name in _nvidia_names(root)]
    makers = _pci_makers(root)
    found += [Gpu("NVIDIA", "NVIDIA GPU")] * (max(makers.count("NVIDIA"), _n_nvidia_devices(root)) - len(found))
    found += [Gpu(maker, f"{maker} GPU") for maker in makers if maker != "NVIDIA"]
    if (root / "dev/kfd").exists() and not any(gpu.maker == "AMD" for gpu in found):
        found.append(Gpu("AMD", "AMD GPU"))
    return found


def unused_because(
    backend: str, used: Sequence[str], root: Path = Path("/"), opens: Callable[[str], bool] = can_open
) -> list[str]:
    """One line for each maker of whose GPUs ggml lists fewer than are here: what is there, why, and what to do.

    ``backend`` is the build's, ``used`` the descriptions of the GPUs that ggml lists. Where it lists any, GPUs are
    passed over that the build is not made for, such as a screen's beside those that compute, and those of NVIDIA
    without a device file, which belong to other containers.
    """
    gpus = find_gpus(root)
    lines = []
    for maker in dict.fromkeys(gpu.maker for gpu in gpus):
        own = [gpu for gpu in gpus if gpu.maker == maker]
        n_used = sum(maker in _makers(description) for description in used)
        if not used:
            lines.append(_because(own, len(own), backend, root, opens))
            continue
        n_here = min(len(own), _n_nvidia_devices(root)) if maker == "NVIDIA" else len(own)
        if backend in _BACKENDS[maker] and n_used < n_here:
            lines.append(_because(own[:n_here], n_here - n_used, backend, root, opens))
    return lines


def _makers(description: str) -> list[str]:
    """Whose GPU ggml's description may mean; drivers leave the maker out of some ("Tesla T4")."""
    return [maker for maker in _BACKENDS if maker.lower() in description.lower()] or list(_BACKENDS)


def _because(gpus: Sequence[Gpu], n_unused: int, backend: str, root: Path, opens: Callable[[str], bool]) -> str:
    maker = gpus[0].maker
    if n_unused < len(gpus):
        here = f"{n_unused} of {len(gpus)} GPUs of {maker} are here and unused"
    elif len(gpus) == 1:
        here = f"{gpus[0].name} is here and unused"
    else:
        here = f"{len(gpus)} GPUs of {maker} are here and unused"
    if backend not in _BACKENDS[maker]:
        wanted = _BACKENDS[maker][0]
        return f"{here}: this build is for {backend}; {_NEEDS[wanted]}, then run SHIMMY_BACKEND={wanted} scripts/shimmy diag"
    if maker == "NVIDIA" and not (root / "proc/driver/nvidia/version").exists():
        return f"{here}: NVIDIA's driver is not loaded; install it, or load it with modprobe nvidia"
    if not opens(_LIBRARIES[backend]):
        return f"{here}: {_LIBRARIES[backend]} cannot be opened; install the driver's libraries (container: start it with its GPUs)"
    if maker == "NVIDIA" and not _n_nvidia_devices(root):
        return f"{here}: /dev has no nvidia0; give the container its GPUs (docker run --gpus all)"
    return f"{here}: the driver gives it to nobody here; look at CUDA_VISIBLE_DEVICES, GGML_VK_VISIBLE_DEVICES and the rights of /dev"


def _nvidia_names(root: Path) -> list[str]:
    names = []
    for folder in sorted((root / "proc/driver/nvidia/gpus").glob("*")):
        name = "NVIDIA GPU"
        with suppress(OSError):
            for line in (folder / "information").read_text(errors="replace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "Model" and value.strip():
                    name = value.strip()
        names.append(name)
    return names


def _n_nvidia_devices(root: Path) -> int:
    return len([path for path in (root / "dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])


def _pci_makers(root: Path) -> list[str]:
    makers = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        with suppress(OSError):
            if (folder / "class").read_text().startswith(_DISPLAY):
                makers.append(_VENDORS.get((folder / "vendor").read_text().strip(), ""))
    return [maker for maker in makers if maker]
