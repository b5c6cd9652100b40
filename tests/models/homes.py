"""The configuration of somebody whose home holds all there is."""

from __future__ import annotations

import os
from pathlib import Path

from shimmy.config import Config, load_config


def config_of(home: Path, **environ: str) -> Config:
    """The store and the cache are below ``home``; ``environ`` holds variables besides."""
    settings = {"SHIMMY_CONFIG": os.devnull, "SHIMMY_STORE": str(home / "store"), "SHIMMY_CACHE": str(home / "cache")}
    settings["OLLAMA_MODELS"] = str(home / "ollama")  # else a service's on this machine
    settings["SHIMMY_SPARE_WORKER"] = "off"  # a process that tests which count processes would have to know of
    return load_config({}, {**settings, **environ})
