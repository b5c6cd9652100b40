"""``shimmy completion``: a script for a shell; and the words that such a script asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shimmy.commands import completion_bash, completion_fish, completion_zsh
from shimmy.config import Config
from shimmy.errors import UsageError
from shimmy.models.catalog import Catalog
from shimmy.models.places import STORE
from shimmy.models.sources import KNOWN_MODELS

SCRIPTS = {"bash": completion_bash.script, "zsh": completion_zsh.script, "fish": completion_fish.script}


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Prints the script for the shell ``args["SHELL"]``, or for "models", "stored" and "known" these names, one a line."""
    wanted = args["SHELL"]
    if wanted in SCRIPTS:
        print(SCRIPTS[wanted](), end="")
        return 0
    if wanted == "known":
        names = sorted(KNOWN_MODELS)
    elif wanted in {"models", "stored"}:
        entries = Catalog(config).entries
        names = [entry.id for entry in entries if wanted == "models" or entry.model.source == STORE]
        names += [alias.name for alias in config.aliases] if wanted == "models" else []
    else:
        raise UsageError(f"there is no completion for {wanted!r}: choose {', '.join(SCRIPTS)}")
    print("".join(f"{name}\n" for name in names), end="")
    return 0
