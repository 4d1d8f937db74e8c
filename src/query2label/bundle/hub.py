"""Where a bundle is: a local folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from query2label.bundle.files import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from query2label.errors import BundleError

_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def resolve_bundle_path(path_or_hub_id: str | Path, *, revision: str | None = None) -> Path:
    """The local folder of a bundle; a hub repository's three files are downloaded into the hub's cache.

    A local folder always wins, and needs no network.

    Args:
        path_or_hub_id: Folder, or `owner/name` on the Hugging Face hub.
        revision: Branch, tag or commit on the hub; unset: its main branch.

    Raises:
        BundleError: If there is no such folder and the hub does not have it or cannot be reached.
    """
    path = Path(path_or_hub_id)
    if path.exists():
        return path
    if isinstance(path_or_hub_id, Path) or not _HUB_ID.fullmatch(path_or_hub_id):
        raise BundleError(f"There is no bundle at {path}: give the folder with its {CONFIG_NAME}.")
    return _download(path_or_hub_id, revision)


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    files = [CONFIG_NAME, WEIGHTS_NAME, CARD_NAME]
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=files))
    except RevisionNotFoundError:
        raise BundleError(f"The Hugging Face repository {hub_id} has no revision {revision!r}.") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise BundleError(
            f"There is no folder {hub_id}, and no repository of that name on the Hugging Face hub "
            "(or it is private: log in with `hf auth login`)."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise BundleError(
            f"There is no folder {hub_id}, and the Hugging Face hub cannot be reached to look for it there: "
            "check the path, or the network."
        ) from None
    except HfHubHTTPError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BundleError(f"The Hugging Face hub did not give {hub_id}: {reason}.") from None
