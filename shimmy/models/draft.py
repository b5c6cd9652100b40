"""Which file the configured draft model is."""

from __future__ import annotations

from shimmy.config import Config
from shimmy.errors import InvalidModelFile, ModelFailed, ModelNotFound
from shimmy.models.catalog import Catalog
from shimmy.models.check import check_model_file
from shimmy.worker.protocol import DraftFile

_NONE = "none"


def find_draft(config: Config) -> DraftFile | None:
    """The model that guesses for others, where one is configured. Reads its file, and perhaps the folders.

    Raises ModelFailed where there is no such model: no client can mend it.
    """
    name = config.draft_model
    if name is None or name.lower() == _NONE or config.speculation == "off":
        return None
    try:
        entry = Catalog(config).resolve(name)
        metadata = check_model_file(entry.path)
    except (ModelNotFound, InvalidModelFile) as error:
        raise ModelFailed(f"the draft model cannot be used: {error.message}") from error
    return DraftFile(entry.id, str(entry.path), metadata.kv_bytes_per_token)
