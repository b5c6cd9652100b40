"""What was configured is what a worker is told to load."""

from __future__ import annotations

from pathlib import Path

from shimmy.config import load_config
from shimmy.models.launch import load_command
from shimmy.models.metadata import read_metadata
from shimmy.types import ContextParams, ModelParams
from shimmy.worker.protocol import Load


def told(model: Path, flags: dict[str, object]) -> Load:
    config = load_config(flags, {"SHIMMY_CONFIG": "/dev/null"})
    return load_command(config, model, read_metadata(model), parallel=1, n_seq_max=1)


def test_every_option_of_loading_reaches_the_worker(tiny_llama: Path) -> None:
    flags: dict[str, object] = {
        "--ctx": "700",
        "--threads": "3",
        "--gpu-layers": "5",
        "--device": "CUDA1,CUDA0",
        "--split-mode": "row",
        "--tensor-split": "3,1",
        "--main-gpu": "1",
        "--n-cpu-moe": "4",
        "--lora": ["/a.gguf:0.5", "/b.gguf"],
        "--flash-attn": "on",
        "--device-sampling": "auto",
        "--speculation": "off",
        "--type-k": "q8_0",
        "--type-v": "q4_0",
        "--rope-scaling": "yarn",
        "--rope-freq-base": "500000",
        "--rope-freq-scale": "0.25",
        "--yarn-orig-ctx": "4096",
        "--yarn-ext-factor": "0.5",
        "--yarn-attn-factor": "0.6",
        "--yarn-beta-fast": "16",
        "--yarn-beta-slow": "2",
    }
    load = told(tiny_llama, flags)
    assert load.adapters == [("/a.gguf", 0.5), ("/b.gguf", 1.0)]
    assert load.model == ModelParams(
        n_gpu_layers=5,
        split_mode="row",
        main_gpu=1,
        tensor_split=(3.0, 1.0),
        devices=("CUDA1", "CUDA0"),
        n_cpu_moe=4,
    )
    assert load.context == ContextParams(
        n_ctx=700,
        parallel=1,
        n_seq_max=1,
        n_threads=3,
        flash_attn="on",
        device_sampling="auto",
        speculation="off",
        type_k="q8_0",
        type_v="q4_0",
        rope_scaling="yarn",
        rope_freq_base=500_000.0,
        rope_freq_scale=0.25,
        yarn_ext_factor=0.5,
        yarn_attn_factor=0.6,
        yarn_beta_fast=16.0,
        yarn_beta_slow=2.0,
        yarn_orig_ctx=4096,
    )


def test_what_was_not_given_is_the_model_s_own(tiny_llama: Path) -> None:
    load = told(tiny_llama, {})
    assert load.model == ModelParams()
    assert load.context == ContextParams(parallel=1, n_seq_max=1)
    assert load.adapters == []


def test_no_device_and_all_experts_have_a_word(tiny_llama: Path) -> None:
    load = told(tiny_llama, {"--device": "none", "--cpu-moe": True, "--n-cpu-moe": "2"})
    assert (load.model.devices, load.model.n_cpu_moe) == ((), -1)
