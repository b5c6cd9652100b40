"""The command line: from its words to a command, and from an error to one line and an exit code.

Only what every command needs is imported here, so that ``shimmy --version`` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from shimmy import __version__
from shimmy.errors import ShimmyError, UsageError, one_line
from shimmy.usage import COMMANDS, USAGE, parse

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
_OUTPUT_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments or "-v" in arguments
    _prepare_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()  # an output that cannot be written is an error that can be told here, and noise at exit
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not disturb the way out
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()  # its reader is gone
        return FAILED
    except ShimmyError as error:
        if verbose:
            _print_traceback()
        _say(error.message)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    except Exception as error:  # noqa: BLE001 - a bug, too, is one line unless more is asked for
        if verbose:
            _print_traceback()
        if isinstance(error, OSError) and error.errno in _OUTPUT_FULL and error.filename is None:
            _discard_output()
            _say(f"the output cannot be written: {error.strerror}")
        else:
            _say(f"unexpected {type(error).__name__}: {error} (--verbose shows where)")
        return FAILED
    else:
        return code
    finally:
        _let_go_of_errors()


def _prepare_streams() -> None:
    """Make the standard streams safe to use, however the process was started."""
    # A closed descriptor's number would go to the next socket; Python has None for its stream.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8, or a file name that is not: print it escaped instead of failing.
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """What is still buffered must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _let_go_of_errors() -> None:
    """What nobody reads on stderr must not make Python end with a code of its own, 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _run(arguments: list[str]) -> int:
    args = parse(arguments)
    if args["--help"]:
        print(USAGE, end="")
        return 0
    if args["--version"]:
        print(f"shimmy {__version__}")
        return 0
    from shimmy.config import load_config

    command = next(name for name in COMMANDS if args[name])
    run = import_module(f"shimmy.commands.{command}").run
    code: int = run(load_config(args), args)
    return code


def _say(message: str) -> None:
    print(f"shimmy: {one_line(message)}", file=sys.stderr)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
