"""The Hugging Face Hub: which files a source means, and where they are.

huggingface_hub knows the hub's addresses, tokens (HF_TOKEN, or what `hf auth login` stored) and errors; the bytes are
fetched by download.py like those of any other server, over plain HTTP. Its own download would keep a second copy in a
cache of links, draw its own progress, and speak a second protocol (xet).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from shimmy import __version__
from shimmy.config import set_unless_set
from shimmy.errors import ChecksumMismatch, DownloadFailed, UsageError
from shimmy.models.hub_files import choose_files
from shimmy.models.remote import HUB, HubSource, RemoteFile, RemoteModel

_SHA256_LENGTH = 64
_HOW_TO_BE_KNOWN = "set HF_TOKEN to a token of yours that may read it, or run 'hf auth login'"


def find_on_hub(source: HubSource, *, endpoint: str | None = None, timeout_s: float = 10.0) -> RemoteModel:
    """The files of ``source``, at one commit. ``endpoint``: the hub's address, None for HF_ENDPOINT or the public one.

    Raises UsageError where the source fits none or several of the repository's models, ChecksumMismatch where the hub
    has another file than that of ``source.sha256``, and DownloadFailed, with what to do, where the hub or the repository
    cannot be read.
    """
    library = _library()
    endpoint = endpoint or library.constants.ENDPOINT
    with _errors_in_one_line(source, endpoint, library):
        headers = library.utils.build_hf_headers(library_name="shimmy", library_version=__version__)
        hub = _Hub(library, endpoint, headers, timeout_s)
        names, commit = hub.choose(source)
        files = tuple(hub.file(source, name, commit) for name in names)
    return RemoteModel(names[0].rpartition("/")[2], source._replace(wanted=names[0]).text, files)


class _Hub(NamedTuple):
    """The library, and how to ask with it; ``headers`` hold the token."""

    library: Any
    endpoint: str
    headers: dict[str, str]
    timeout_s: float

    def choose(self, source: HubSource) -> tuple[tuple[str, ...], str]:
        """The files of the model, and the commit that they are of."""
        api = self.library.HfApi(endpoint=self.endpoint, library_name="shimmy", library_version=__version__)
        info = api.model_info(source.repo, revision=source.revision, timeout=self.timeout_s)
        names = choose_files([sibling.rfilename for sibling in info.siblings or []], source.wanted, source.repo)
        if len(names) > 1 and source.sha256 is not None:
            raise UsageError(f"--sha256 is that of one file, and {names[0]} has {len(names)} parts")
        return names, info.sha or source.revision or "main"

    def file(self, source: HubSource, name: str, commit: str) -> RemoteFile:
        """Where the file is and what is known of it, which also shows whether it may be read."""
        url = self.library.hf_hub_url(source.repo, name, revision=commit, endpoint=self.endpoint)
        found = self.library.get_hf_file_metadata(
            url, timeout=self.timeout_s, headers=self.headers, endpoint=self.endpoint
        )
        # The tag of a large file is its sha256; that of a small one, which lies in git itself, is another.
        sha256 = found.etag.lower() if found.etag and len(found.etag) == _SHA256_LENGTH else None
        if None not in {sha256, source.sha256} and sha256 != source.sha256:
            raise ChecksumMismatch(f"{name} of {source.repo}", expected=str(source.sha256), actual=str(sha256))
        return RemoteFile(
            url=url,
            size=found.size,
            sha256=source.sha256 or sha256,
            version=found.etag or commit,
            authorization=self.headers.get("authorization"),
        )


def _library() -> ModuleType:
    """huggingface_hub, imported only here: it takes 0.3 s, and reads its variables when it is imported."""
    set_unless_set(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_UPDATE_CHECK="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    huggingface_hub.utils.logging.set_verbosity(logging.ERROR)
    return huggingface_hub


@contextmanager
def _errors_in_one_line(source: HubSource, endpoint: str, library: Any) -> Iterator[None]:
    import httpx2

    errors, repo = library.errors, source.repo
    try:
        yield
    except errors.GatedRepoError:
        reason = f"{repo} asks for consent: accept its terms at {endpoint}/{repo}, then {_HOW_TO_BE_KNOWN}"
        raise DownloadFailed(reason) from None
    except errors.DisabledRepoError:
        raise DownloadFailed(f"{repo} has been disabled by the hub: choose another repository") from None
    except errors.RevisionNotFoundError:
        reason = f"{repo} has no revision {source.revision}: name a branch, a tag or a commit after the @"
        raise DownloadFailed(reason) from None
    except errors.RepositoryNotFoundError:
        raise DownloadFailed(_not_found(repo)) from None
    except errors.RemoteEntryNotFoundError:
        raise DownloadFailed(f"{repo} lists a file that is not there: pull again later") from None
    except errors.HfHubHTTPError as error:
        raise DownloadFailed(_by_status(error, repo, endpoint)) from None
    except errors.OfflineModeIsEnabled:
        raise DownloadFailed("HF_HUB_OFFLINE forbids to ask the hub: unset it, or give a path") from None
    except (errors.HFValidationError, errors.OIDCError) as error:
        raise DownloadFailed(f"{HUB}{repo} could not be asked for: {str(error)[:300]}") from None
    except httpx2.TransportError:
        reason = f"no connection to {endpoint}; check the network (and HF_ENDPOINT, HTTPS_PROXY where used)"
        raise DownloadFailed(reason) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        raise DownloadFailed(f"{endpoint} does not answer like a hub: check HF_ENDPOINT") from None


def _not_found(repo: str) -> str:
    return f"there is no repository {repo}, or it is private: check its name, or {_HOW_TO_BE_KNOWN}"


def _by_status(error: Any, repo: str, endpoint: str) -> str:
    status = error.response.status_code
    if status == 401:
        said = error.response.headers.get("X-Error-Message", "")
        return f"the hub does not know your token: {_HOW_TO_BE_KNOWN}" if "credentials" in said else _not_found(repo)
    if status == 403:
        return f"you may not read {repo}: accept its terms at {endpoint}/{repo}, or {_HOW_TO_BE_KNOWN}"
    if status == 404:
        return _not_found(repo)
    if status == 429:
        return f"{endpoint} asks to slow down: pull again in a few minutes, or {_HOW_TO_BE_KNOWN}"
    if status >= 500:
        return f"{endpoint} is in trouble ({status}): pull again later"
    return f"{endpoint} answers {status} for {repo}"
