"""One file for each command: ``run(config, args) -> int`` gives the exit code, ``args`` is docopt's dictionary."""
