"""Which weights a reference stands for, so that a result is never reused for other weights under the same name."""

import hashlib
from pathlib import Path

from undertow.models.load import embedded_folder
from undertow.types import ModelRef

_WEIGHTS = ("*.safetensors", "tokenizer.json", "config.json", "adapter_config.json")


def identity(reference: str) -> str:
    """Return a short hash of the weights, tokenizer and config of a local model; of a remote one, the reference itself.

    Args:
        reference: as for `load_model`.
    """
    ref = ModelRef.parse(reference)
    folder = embedded_folder() / ref.name if ref.kind == "ref" else Path(ref.name)
    folders = [folder, Path(ref.adapter)] if ref.adapter else [folder]
    if not folder.is_dir():
        return reference
    digest = hashlib.sha256()
    for path in sorted(path for place in folders for pattern in _WEIGHTS for path in place.glob(pattern)):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
