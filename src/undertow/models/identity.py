"""Which weights a reference stands for, so that a result is never reused for other weights under the same name."""

import hashlib
from dataclasses import replace
from pathlib import Path

from undertow.errors import UserError
from undertow.models.source import SMALL, adapter_folder, model_folder
from undertow.types import ModelRef

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
