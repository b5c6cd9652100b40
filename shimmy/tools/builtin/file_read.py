"""file_read: text below the folders that the configuration names."""

from __future__ import annotations

from shimmy.tools.files import read_below
from shimmy.tools.frames import ToolSettings


def file_read(path: str, *, settings: ToolSettings) -> str:  # noqa: D417 - callers give no settings
    """Read a text file.

    Args:
        path: The file, relative to the folder that may be read, or absolute.
    """
    data = read_below(path, settings.roots, settings.output)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path!r} is no text in UTF-8") from None
