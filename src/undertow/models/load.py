"""Loading models by reference; a model that does not fit into memory is refused before anything is loaded."""

import contextlib
import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from undertow.errors import ModelError, out_of_memory
from undertow.models.adapter_files import CONFIG, embedding_rows, read_adapter
from undertow.models.adapter_tokenizers import own_tokenizer
from undertow.models.chat import Chat
from undertow.models.given_templates import set_template
from undertow.models.local import LocalModel
from undertow.models.memory import free_memory
from undertow.models.number_format import default_device as default_device
from undertow.models.number_format import item_bytes, number_format, torch_format
from undertow.models.references import SMALL, adapter_folder, check_files, model_folder
from undertow.types import ModelRef

GB = 2**30


def count_parameters(folder: Path) -> int | None:
    """Return how many parameters the safetensors files of a folder hold.

    It is None if there is no such file, or one is damaged.
    """
    total = 0
    for path in folder.glob("*.safetensors"):
        if path.name.startswith("adapter_"):
            continue
        try:
            with safe_open(path, framework="pt") as file:
                names = cast(list[str], file.keys())
                total += sum(math.prod(cast(Any, file.get_slice(name)).get_shape()) for name in names)
        except (OSError, SafetensorError):
            return None
    return total or None


def parameters_of(reference: str) -> float:
    """Return the number of parameters of a model without loading it; infinity where its files do not say.

    Args:
        reference: reference of the model, `ref:` or `hf:`.

    Raises:
        UserError: there is no such model.
    """
    count = count_parameters(model_folder(ModelRef.parse(reference), SMALL))
    return math.inf if count is None else count


def too_large(reference: str, copies: int) -> str | None:
    """Return in words that so many copies of a model do not fit into memory; None if they do, or if that is not known.

    Args:
        reference: reference of the model, `ref:` or `hf:`.
        copies: how many whole copies there would be at once.

    Raises:
        UserError: there is no such model.
    """
    ref = ModelRef.parse(reference)
    return _lacking(model_folder(ref, SMALL), ref, copies)


def _lacking(folder: Path, ref: ModelRef, copies: int) -> str | None:
    """Return in words what so many copies need and what is free; None if that is enough, or not known."""
    parameters, device = count_parameters(folder), default_device(ref)
    if parameters is None or not device.startswith(("cpu", "cuda")):
        return None
    need, free = copies * weight_bytes(ref, parameters, folder), free_memory(device)
    if need <= free:
        return None
    times = "" if copies == 1 else f" {copies} times"
    return f"{ref}{times}: {parameters:,} parameters need {need / GB:.1f} GB, {free / GB:.1f} GB are free on {device}"


def weight_bytes(ref: ModelRef, parameters: int, folder: Path) -> int:
    """Return the bytes that the weights of a model take in its number format.

    Args:
        ref: reference to the model, which may name a number format.
        parameters: number of the model's parameters.
        folder: folder of the model's files, whose config may decide the number format.
    """
    return parameters * item_bytes(number_format(ref, folder))


def check_room(folder: Path, ref: ModelRef, copies: int = 1) -> None:
    """Refuse a model whose weights alone need more memory than is free.

    Args:
        folder: folder of the model's files.
        ref: reference to the model, which decides number format and device.
        copies: how many processes load the model.

    Raises:
        ModelError: the weights need more memory than is free on the device.
    """
    if (said := _lacking(folder, ref, copies)) is None:
        return
    if copies > 1:
        raise ModelError("So many workers do not fit into memory.", said, "Give fewer --workers.")
    smaller = "" if number_format(ref, folder) != "fp32" else "Add ?dtype=bf16, or use "
    fix = f"{smaller}{'a' if smaller else 'Use a'} smaller model or a larger machine."
    raise ModelError("The model does not fit into memory.", said, fix)


def load_model(reference: str | ModelRef) -> LocalModel:
    """Load a local model in evaluation mode, with its tokenizer.

    Args:
        reference: `ref:<embedded name>` or `hf:<path or id>[@revision]`, each with an optional `+<adapter>` and options
            (`undertow.types.ModelRef`).

    Raises:
        UnknownNameError: no embedded model has this name, or an option does not exist.
        ModelError: the model cannot be loaded, does not fit into memory, is remote, or its adapter belongs to another
            model.
        ConfigError: the text is no reference, or an option has a value that it cannot have.
    """
    ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
    adapter, folder = adapter_folder(ref), model_folder(ref)
    check_files(folder, ref.name)
    check_room(folder, ref)
    with memory_errors(str(ref)):
        network, tokenizer = _load(folder, ref)
        model = LocalModel(ref.without_adapter, network, tokenizer)
        return model if adapter is None else model.with_adapter(adapter, name=ref.adapter)


def load_chat(reference: str | ModelRef) -> tuple[Any, Chat]:
    """Load the tokenizer of a model without its weights, and the chat format that the model would have.

    Args:
        reference: reference to a local model, as for `load_model`.

    Raises:
        UserError: the model's files are refused, as for `load_model`.
    """
    ref = ModelRef.parse(reference) if isinstance(reference, str) else reference
    adapter, folder = adapter_folder(ref), model_folder(ref, SMALL)
    check_files(folder, ref.name, weights=False)
    tokenizer = _tokenizer(folder, ref)
    if adapter is None or not (adapter / CONFIG).exists():
        return tokenizer, Chat(tokenizer, ref.system or "default")
    found = read_adapter(adapter)
    rows = embedding_rows(found) or _vocabulary_size(folder)
    tokenizer = own_tokenizer(tokenizer, found, rows, keep_template=ref.template is not None)
    return tokenizer, Chat(tokenizer, ref.system or found.notes.get("system") or "default")


def _vocabulary_size(folder: Path) -> int | None:
    """Return the number of tokens in the config of a model's folder, or None if it does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, int) else None


@contextlib.contextmanager
def memory_errors(name: str) -> Generator[None]:
    """Turn a lack of memory into a `ModelError` that names what did not fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = out_of_memory(error, name)
        if full is None:
            raise
        raise full from error


def _load(folder: Path, ref: ModelRef) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from undertow.models.lm_head import check_head

    tokenizer = _tokenizer(folder, ref)
    options: dict[str, Any] = {"dtype": torch_format(number_format(ref, folder))}
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
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _unloadable(ref, error) from error
    if ref.template is not None:
        set_template(tokenizer, ref.template)
    return tokenizer


def _unloadable(ref: ModelRef, error: Exception) -> ModelError:
    reason = f"{ref}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    fix = "Give a folder or an id of a causal language model with safetensors weights, and a device that is there."
    return ModelError("The model cannot be loaded.", reason, fix)
