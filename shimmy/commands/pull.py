"""``shimmy pull``: bring a model into the store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from shimmy.commands.progress import make_progress
from shimmy.config import Config
from shimmy.models.sources import parse_source
from shimmy.models.store import Store


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Pulls ``args["NAME"]`` (None: the default model) under ``--name``, checked against ``--sha256``.

    Prints the id on stdout, the rest on stderr.
    """
    wanted = parse_source(args.get("NAME"), name=args.get("--name"), sha256=args.get("--sha256"))
    pulled = Store(config.store_dir).pull(wanted, make_progress())
    said = "pulled" if pulled.fetched else "already there:"
    print(f"{said} {pulled.path}", file=sys.stderr)
    print(pulled.name)
    return 0
