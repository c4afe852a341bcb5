"""Models by reference."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from undertow.errors import ModelError, out_of_memory
from undertow.models.adapters import CONFIG, read_adapter
from undertow.models.chat import Chat
from undertow.models.local import LocalModel
from undertow.models.room import check_room, default_device
from undertow.models.source import SMALL, adapter_folder, model_folder
from undertow.types import ModelRef


def load_model(reference: str | ModelRef) -> LocalModel:
    """Load a model in evaluation mode.

    Args:
        reference: `ref:<embedded name>` or `hf:<path or id>[@revision]`, each with an optional `+<adapter>` and options
            (`undertow.types.ModelRef`).

    Raises:
        UnknownNameError: no embedded model has this name.
        ModelError: the model cannot be loaded, does not fit into memory, is remote, or its adapter is another model's.
    """
    ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
    folder, adapter = model_folder(ref), adapter_folder(ref)
    check_room(folder, ref)
    with memory_errors(str(ref)):
        network, tokenizer = _load(folder, ref)
        model = LocalModel(ref.without_adapter, network, tokenizer)
        return model if adapter is None else model.with_adapter(adapter, name=ref.adapter)


def load_chat(reference: str | ModelRef) -> tuple[Any, Chat]:
    """Load the tokenizer of a model alone, and its chat format with the policy that the model would have.

    Raises:
        UserError: as `load_model`.
    """
    ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
    tokenizer, adapter = _tokenizer(model_folder(ref, SMALL), ref), adapter_folder(ref)
    trained = read_adapter(adapter)[2].get("system") if adapter and (adapter / CONFIG).exists() else None
    return tokenizer, Chat(tokenizer, ref.system or trained or "default")


@contextlib.contextmanager
def memory_errors(name: str) -> Generator[None]:
    """Turn a lack of memory into a `ModelError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = out_of_memory(error, name)
        if full is None:
            raise
        raise full from error


def _load(folder: Path, ref: ModelRef) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from undertow.models.head import check_head

    tokenizer = _tokenizer(folder, ref)
    options: dict[str, Any] = {"dtype": torch.bfloat16 if ref.dtype == "bf16" else torch.float32}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **options
        )
        network, loading = loaded
        network = network.to(default_device(ref)).eval()
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
        if out_of_memory(error, ref):
            raise
        raise _unloadable(ref, error) from error
    if missing := sorted(loading["missing_keys"]):
        fix = "Give a complete checkpoint; a model saved without its head has to say tie_word_embeddings: true."
        raise ModelError("The checkpoint lacks weights of the model.", f"{ref}: {', '.join(missing[:3])}", fix)
    if ref.kind == "hf":
        check_head(network)
    return network, tokenizer


def _tokenizer(folder: Path, ref: ModelRef) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _unloadable(ref, error) from error


def _unloadable(ref: ModelRef, error: Exception) -> ModelError:
    reason = f"{ref}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    fix = "Give a folder or an id of a causal language model with safetensors weights, and a device that is there."
    return ModelError("The model cannot be loaded.", reason, fix)
