"""A folder on this machine, for a folder or a hub id."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from harmonyiqa.errors import UserError

_READ = ("*.json", "*.safetensors", "*.txt", "*.model", "*.yaml", "*.md")  # never code, never pickles


def fetch(name_or_path: str | Path, revision: str | None = None, *, local_files_only: bool = False) -> Path:
    """Where the model's files are; those of a hub id are downloaded once.

    Args:
        name_or_path: a folder, or a hub id.
        revision: hub branch, tag or commit.
        local_files_only: never ask the hub.

    Raises:
        UserError: there is no such folder, or the hub does not give it.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    name = str(name_or_path)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"there is no model folder {name}; give a folder, a hub id (owner/name), or nothing for the bundled model"
        )
    try:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=local_files_only, allow_patterns=list(_READ)
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"cannot get model {name} from the hub: {str(error).splitlines()[0]}") from error
