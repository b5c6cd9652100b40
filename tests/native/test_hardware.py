"""GPUs that the machine shows and the build does not use: what is said of them. The machine is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.native.hardware import find_gpus, unused_because

PCI = "sys/bus/pci/devices"


def add(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_pci(root: Path, slot: str, vendor: str, kind: str = "0x030000") -> None:
    add(root, f"{PCI}/{slot}/vendor", f"{vendor}\n")
    add(root, f"{PCI}/{slot}/class", f"{kind}\n")


@pytest.fixture
def nvidia(tmp_path: Path) -> Path:
    """A machine with one NVIDIA GPU, its driver and its device files."""
    add_pci(tmp_path, "0000:01:00.0", "0x10de", "0x030200")
    add_pci(tmp_path, "0000:01:00.1", "0x10de", "0x040300")  # its sound
    add(tmp_path, "proc/driver/nvidia/version", "NVRM")
    add(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H200\nIRQ: 7\n")
    add(tmp_path, "dev/nvidia0")
    add(tmp_path, "dev/nvidiactl")
    add(tmp_path, "dev/nvidia-uvm")
    return tmp_path


def reason(root: Path, backend: str, *, opens: bool = True) -> str:
    lines = unused_because(backend, [], root, lambda _: opens)
    assert len(lines) == 1
    assert "\n" not in lines[0]
    return lines[0]


def test_a_machine_without_a_gpu_says_nothing(tmp_path: Path) -> None:
    add_pci(tmp_path, "0000:00:02.0", "0x1234")  # a virtual machine's screen
    add_pci(tmp_path, "0000:00:03.0", "0x8086", "0x020000")  # a network card
    for backend in ("cpu", "cuda", "vulkan", "metal"):
        assert unused_because(backend, [], tmp_path) == []


def test_a_gpu_that_is_used_says_nothing(nvidia: Path) -> None:
    for description in ("NVIDIA H200", "Tesla T4"):
        assert unused_because("cuda", [description], nvidia) == []


def test_a_gpu_that_is_hidden_beside_one_that_is_used_is_named(nvidia: Path) -> None:
    add_pci(nvidia, "0000:02:00.0", "0x10de", "0x030200")
    add(nvidia, "dev/nvidia1")
    (line,) = unused_because("cuda", ["NVIDIA H200"], nvidia, lambda _: True)
    assert line.startswith("1 of 2 GPUs of NVIDIA are here and unused")
    assert "CUDA_VISIBLE_DEVICES" in line
    assert unused_because("cuda", ["NVIDIA H200"] * 2, nvidia) == []


def test_each_maker_is_counted_for_itself(nvidia: Path) -> None:
    add_pci(nvidia, "0000:03:00.0", "0x1002")
    (line,) = unused_because("vulkan", ["NVIDIA H200"], nvidia, lambda _: True)
    assert line.startswith("AMD GPU is here and unused")
    assert unused_because("vulkan", ["NVIDIA H200", "AMD Radeon"], nvidia) == []


def test_gpus_of_other_builds_and_of_other_containers_are_no_matter_beside_one_that_is_used(nvidia: Path) -> None:
    add_pci(nvidia, "0000:02:00.0", "0x10de", "0x030200")  # without a device file
    add_pci(nvidia, "0000:03:00.0", "0x8086")
    assert unused_because("cuda", ["NVIDIA H200"], nvidia) == []


def test_a_build_for_the_cpu_says_how_to_build_for_the_gpu(nvidia: Path) -> None:
    line = reason(nvidia, "cpu")
    assert line.startswith("NVIDIA H200 is here and unused: this build is for cpu; install the CUDA toolkit")
    assert line.endswith("SHIMMY_BACKEND=cuda scripts/shimmy diag")


def test_a_driver_that_is_not_loaded_is_named(nvidia: Path) -> None:
    (nvidia / "proc/driver/nvidia/version").unlink()
    assert "driver is not loaded" in reason(nvidia, "cuda")


def test_a_library_that_is_missing_is_named(nvidia: Path) -> None:
    assert "libcuda.so.1 cannot be opened" in reason(nvidia, "cuda", opens=False)
    assert "libvulkan.so.1 cannot be opened" in reason(nvidia, "vulkan", opens=False)


def test_a_container_without_device_files_is_named(nvidia: Path) -> None:
    (nvidia / "dev/nvidia0").unlink()
    assert "docker run --gpus all" in reason(nvidia, "cuda")


def test_a_gpu_that_is_hidden_is_named(nvidia: Path) -> None:
    assert "CUDA_VISIBLE_DEVICES" in reason(nvidia, "cuda")


@pytest.mark.parametrize(
    "trace", ["proc/driver/nvidia/gpus/0000:01:00.0/information", "dev/nvidia0", f"{PCI}/0000:01:00.0"]
)
def test_one_trace_of_a_gpu_is_enough(tmp_path: Path, trace: str) -> None:
    if trace.startswith("sys"):
        add_pci(tmp_path, "0000:01:00.0", "0x10de")
    else:
        add(tmp_path, trace)
    assert [gpu.maker for gpu in find_gpus(tmp_path)] == ["NVIDIA"]


def test_several_gpus_are_counted_once_each_and_each_maker_has_its_line(nvidia: Path) -> None:
    add_pci(nvidia, "0000:02:00.0", "0x10de", "0x030200")
    add_pci(nvidia, "0000:03:00.0", "0x1002")
    add(nvidia, "dev/kfd")
    assert [gpu.maker for gpu in find_gpus(nvidia)] == ["NVIDIA", "NVIDIA", "AMD"]
    lines = unused_because("cpu", [], nvidia)
    assert lines[0].startswith("2 GPUs of NVIDIA are here and unused")
    assert lines[1].startswith("AMD GPU is here and unused")
    assert lines[1].endswith("SHIMMY_BACKEND=vulkan scripts/shimmy diag")


def test_a_gpu_for_rocm_without_a_list_of_cards_is_seen(tmp_path: Path) -> None:
    add(tmp_path, "dev/kfd")
    assert "AMD GPU is here and unused: this build is for cuda" in reason(tmp_path, "cuda")


def test_this_machine_can_be_asked() -> None:
    assert isinstance(unused_because("cpu", []), list)
