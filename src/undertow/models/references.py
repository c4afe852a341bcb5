"""What a reference stands for: where a model's files lie, and which weights they hold.

The files are in the package, in a folder, or on the Hub and from then on in its cache. The identity of the weights
keeps a result from being reused for other weights under the same name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from undertow.errors import ModelError, UserError, unknown_name
from undertow.types import ModelRef

SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "README.md")
"""Everything but the weights."""

_ALL = ("*.safetensors", *SMALL)
_NOT = ("consolidated*", "*/*")
"""Other forms of the same weights that some repositories hold."""


def embedded_folder() -> Path:
    """Return the folder that holds one folder per embedded model."""
    return Path(str(resources.files("undertow.reference"))) / "weights"


def embedded_models() -> tuple[str, ...]:
    """Return the names of the embedded models."""
    folder = embedded_folder()
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir())) if folder.is_dir() else ()


def model_folder(ref: ModelRef, files: Sequence[str] = _ALL) -> Path:
    """Return the folder of a model's files, fetched from the Hub if they are not in its cache yet.

    Args:
        ref: the model.
        files: patterns of what is fetched.

    Raises:
        UnknownNameError: no embedded model has this name.
        ModelError: the model is remote, or cannot be fetched.
    """
    if ref.kind == "api":
        raise ModelError("A remote model has no weights here.", str(ref), "Use a ref: or hf: model.")
    if ref.kind == "ref":
        if ref.name not in embedded_models():
            raise unknown_name("embedded model", ref.name, embedded_models())
        return embedded_folder() / ref.name
    return _folder(ref.name, ref.revision, files)


def adapter_folder(ref: ModelRef) -> Path | None:
    """Return the folder of the adapter, fetched like a model; None without one."""
    return None if ref.adapter is None else _folder(ref.adapter, None, _ALL)


def _folder(name: str, revision: str | None, files: Sequence[str]) -> Path:
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    from huggingface_hub import errors, snapshot_download

    fixes = {
        errors.GatedRepoError: ("The repository is gated.", "Accept its terms on the Hub and set HF_TOKEN."),
        errors.RevisionNotFoundError: ("The repository has no such revision.", "Check what follows the @."),
        errors.RepositoryNotFoundError: (
            "There is no such folder, nor such a repository on the Hub.",
            "Check the spelling; a private repository needs HF_TOKEN.",
        ),
        errors.HFValidationError: ("There is no such folder, and this is no id of the Hub.", "Check the path."),
    }
    where = name if revision is None else f"{name}@{revision}"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(_NOT)))
    except tuple(fixes) as error:
        what, fix = next(text for kind, text in fixes.items() if isinstance(error, kind))
        raise ModelError(what, where, fix) from error
    except (OSError, ValueError, errors.RevisionResolutionError) as error:
        fix = "Check the path or the network (HF_HUB_OFFLINE must not be set), or give the folder of a download."
        reason = str(error).strip().splitlines()[0]
        raise ModelError("The model is neither a folder nor in the cache.", f"{where}: {reason}", fix) from error


_WEIGHTS = ("*.safetensors", "tokenizer.json", "config.json", "adapter_config.json")
_TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")
"""What else decides what a model sees; those of the embedded models come with the package's version."""


def identity(reference: str) -> str:
    """Return a short hash of all that decides what a model answers.

    A remote model, and one that was made in memory and lies nowhere, is known by its reference alone.

    That is the weights, tokenizer, config and chat template, the revision's commit for a repository of the Hub, and the
    options other than the device.

    Args:
        reference: as for `load_model`.
    """
    ref = ModelRef.parse(reference)
    if ref.kind == "api":
        return reference
    digest, patterns = hashlib.sha256(), _WEIGHTS if ref.kind == "ref" else _WEIGHTS + _TEMPLATE
    files: list[Path] = []
    try:
        folders = [model_folder(ref, SMALL), *filter(None, [adapter_folder(ref)])]
    except UserError:
        return reference
    for folder in folders:
        if folder.parent.name == "snapshots":  # the Hub's cache, where a folder has the commit's name
            digest.update(folder.name.encode())
        else:
            files += (path for pattern in patterns for path in folder.glob(pattern))
    for path in sorted(files):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if ref.system or ref.dtype:
        digest.update(str(replace(ref, name="-", adapter=None, revision=None, device=None)).encode())
    return digest.hexdigest()[:16]
