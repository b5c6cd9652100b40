"""The table of settings: flag, variable, key, kind, default and help of each, once.

The command line, the environment, the configuration file and the documentation all read this table.
docopt gets no defaults from it: a ``[default: …]`` would hide whether a flag was given.
"""

from __future__ import annotations

from collections.abc import Mapping

from shimmy.setting import ALL_LAYERS, LARGEST_FLOAT, Setting

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Element types of the KV cache, as llama.cpp's own --cache-type-k has them."""

SETTINGS: tuple[Setting, ...] = (
    Setting("base_gguf", "path", None, "the default model, a .gguf file"),
    Setting("model_paths", "paths", (), "more files and folders to find models in"),
    Setting("store_dir", "path", None, "the folder that 'shimmy pull' fills", env="SHIMMY_STORE"),
    Setting("cache_dir", "path", None, "the folder of what can be computed again", env="SHIMMY_CACHE"),
    Setting("ctx", "int", 0, "tokens of KV cache, shared by all sequences; 0: as the model and memory allow",
            flag="--ctx", high=2**31 - 1),
    Setting("threads", "int", 0, "threads that compute; 0: one per core", flag="--threads", high=512),
    Setting("gpu_layers", "layers", ALL_LAYERS, "layers on the GPU, a number or 'all'", flag="--gpu-layers",
            high=10_000),
    Setting("device", "names", (), "GPUs to use, by the names of 'shimmy diag'; none: only the CPU; empty: all",
            flag="--device", metavar="LIST"),
    Setting("split_mode", "choice", "layer", "how several GPUs share a model: layer, none, row or tensor",
            flag="--split-mode", metavar="MODE", choices=("layer", "none", "row", "tensor")),
    Setting("tensor_split", "floats", (), "share of each GPU; empty: as their free memory is", flag="--tensor-split",
            metavar="LIST", high=1e6),
    Setting("main_gpu", "int", 0, "which of the GPUs has all of the model with split_mode none", flag="--main-gpu",
            high=1000),
    Setting("cpu_moe", "bool", default=False, help="keep the experts of a mixture in the CPU's memory",
            flag="--cpu-moe", metavar=""),
    Setting("n_cpu_moe", "int", 0, "keep the experts of the first layers in the CPU's memory", flag="--n-cpu-moe",
            high=10_000),
    Setting("lora", "adapters", (), "LoRA adapters, each as FILE or FILE:SCALE", flag="--lora", metavar="FILE"),
    Setting("batch", "int", 2048, "most tokens in one call of llama.cpp", low=1, high=65_536),
    Setting("ubatch", "int", 512, "most tokens in one computation", low=1, high=65_536),
    Setting("swa_full", "bool", default=False, help="keep all of the context of sliding-window models"),
    Setting("flash_attn", "choice", "auto", "flash attention: auto, on or off", flag="--flash-attn", metavar="MODE",
            choices=("auto", "on", "off")),
    Setting("type_k", "choice", "f16", "element type of the K cache", flag="--type-k", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("type_v", "choice", "f16", "element type of the V cache", flag="--type-v", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("rope_scaling", "choice", "model", "how positions are scaled: as the model says, none, linear, yarn, longrope",
            flag="--rope-scaling", metavar="MODE", choices=("model", "none", "linear", "yarn", "longrope")),
    Setting("rope_freq_base", "float", 0.0, "base frequency of positions; 0: the model's", flag="--rope-freq-base",
            metavar="X", high=LARGEST_FLOAT),
    Setting("rope_freq_scale", "float", 0.0, "factor of positions: 0.25 is four times the context; 0: the model's",
            flag="--rope-freq-scale", metavar="X", high=LARGEST_FLOAT),
    Setting("yarn_orig_ctx", "int", 0, "YaRN: the context the model was trained for; 0: the model's",
            flag="--yarn-orig-ctx", high=2**31 - 1),
    Setting("yarn_ext_factor", "float", -1.0, "YaRN: mix of extrapolation; -1: the model's", flag="--yarn-ext-factor",
            metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_attn_factor", "float", -1.0, "YaRN: factor of attention; -1: the model's",
            flag="--yarn-attn-factor", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_beta_fast", "float", -1.0, "YaRN: rotations above which nothing is interpolated; -1: the model's",
            flag="--yarn-beta-fast", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_beta_slow", "float", -1.0, "YaRN: rotations below which all is interpolated; -1: the model's",
            flag="--yarn-beta-slow", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("bind", "text", "127.0.0.1", "the address to listen on; another than loopback needs a key", flag="--bind",
            metavar="ADDR"),
    Setting("port", "int", 11_435, "the port to listen on; 0: a free one", flag="--port", high=65_535),
    Setting("url", "text", None, "the running server that ps, load, unload and chat talk to; else bind and port say it",
            flag="--url", metavar="URL"),
    Setting("models", "names", (), "models to load when the server starts, by name or path", flag="--model",
            metavar="MODEL"),
    Setting("parallel", "int", 8, "sequences of one model at work at once", flag="--parallel", low=1, high=256),
    Setting("cache_ram", "int", 2048, "most MiB of memory for prompts that had to leave the KV cache; 0: none",
            flag="--cache-ram", high=2**24),
    Setting("queue", "int", 64, "sequences of one model that may wait; more are refused", flag="--queue", high=65_536),
    Setting("api_keys", "names", (), "keys, of which each request must have one; commands send the first",
            flag="--api-key", metavar="KEY", also="SHIMMY_API_KEY", secret=True),
    Setting("api_key_file", "path", None, "a file of keys, one a line, read again on SIGHUP", flag="--api-key-file",
            metavar="FILE"),
    Setting("allowed_hosts", "names", (), "names besides the own addresses that a Host header may have",
            flag="--allowed-hosts", metavar="LIST"),
    Setting("cors_origins", "names", (), "web origins whose pages may call the server: http://localhost:3000; or *",
            flag="--cors-origins", metavar="LIST"),
    Setting("rate_limit", "int", 0, "requests a minute for one key; 0: no limit", flag="--rate-limit", high=1_000_000),
    Setting("max_active", "int", 256, "requests answered at once", low=1, high=65_536),
    Setting("max_body", "int", 10_000_000, "most bytes of a request's body", low=1024, high=2**31 - 1),
    Setting("generation_timeout_s", "float", 600.0, "how long one generation may take, in seconds", low=0.1, high=86_400),
    Setting("drain_timeout_s", "float", 30.0, "how long a stopping server waits for running requests, in seconds",
            high=86_400),
    Setting("log_format", "choice", "text", "the server's log: text or json", flag="--log-format", metavar="FORMAT",
            choices=("text", "json")),
    Setting("chat_template", "path", None, "a file with the chat template (Jinja) to use in place of the models' own",
            flag="--chat-template", metavar="FILE"),
    Setting("load_timeout_s", "float", 300.0, "how long a model may take to load, in seconds", low=1, high=86_400),
    Setting("template_timeout_s", "float", 5.0, "how long a chat template may take, in seconds", low=0.1, high=600),
    Setting("verbose", "bool", default=False, help="timings, skipped files and tracebacks", flag="--verbose",
            metavar=""),
)  # fmt: skip

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
