"""Models by reference."""

from importlib import resources
from pathlib import Path
from typing import Any

from undertow.errors import ModelError, unknown_name
from undertow.models.local import LocalModel
from undertow.types import ModelRef


def embedded_folder() -> Path:
    """Return the folder that holds one folder per embedded model."""
    return Path(str(resources.files("undertow.reference"))) / "weights"


def embedded_models() -> tuple[str, ...]:
    """Return the names of the embedded models."""
    folder = embedded_folder()
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir())) if folder.is_dir() else ()


def load_model(reference: str | ModelRef) -> LocalModel:
    """Load a model, in float32 and evaluation mode.

    Args:
        reference: `ref:<embedded name>` or `hf:<path or id>[@revision]`, each with an optional `+<adapter folder>`.

    Raises:
        UnknownNameError: no embedded model has this name.
        ModelError: the model cannot be loaded, or is remote.
    """
    ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
    if ref.kind == "api":
        raise ModelError("A remote model has no weights here.", str(ref), "Use a ref: or hf: model.")
    if ref.kind == "ref" and ref.name not in embedded_models():
        raise unknown_name("embedded model", ref.name, embedded_models())
    where = str(embedded_folder() / ref.name) if ref.kind == "ref" else ref.name
    network, tokenizer = _load(where, ref.revision if ref.kind == "hf" else None)
    model = LocalModel(ModelRef(kind=ref.kind, name=ref.name, revision=ref.revision), network, tokenizer)
    return model.with_adapter(Path(ref.adapter)) if ref.adapter else model


def _load(where: str, revision: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        network = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            "The model cannot be loaded.", f"{where}: {first}", "Check the path, the id or the network."
        ) from error
    return network.eval(), tokenizer
