"""Adapters that are not plain LoRA (W + scale * B A): PEFT merges them, and the result is verified.

Nothing is taken on trust. The kind must be one that is known to merge, every tensor of the file must be in the model
that PEFT made, and the merged model must give the logits of the unmerged one.
"""

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Generator
from typing import Any, cast

import torch
from torch import nn

from undertow.errors import ModelError, listed, out_of_memory
from undertow.models.adapter_files import PREFIX, AdapterFiles
from undertow.models.adapter_kinds import check_kind
from undertow.models.lm_head import check_head

# Tiny models differ by up to 2e-5. Where the probe's tokens show more, as with RandLora's sums of many large numbers,
# other tokens may show a hundred times that.
AGREEMENT, RELATIVE = 3e-5, 1e-5
"""Largest difference of a logit between the merged and the unmerged model, both in float32: absolute, or as a part of
the largest logit, whichever is larger, since rounding grows with the logits."""

PROBED = 48
"""Number of tokens, spread over the vocabulary, at which the logits are compared."""

_FIX = "Merge it where it was trained, with PEFT's merge_and_unload, and give the merged model."


def apply_with_peft(network: Any, adapter: AdapterFiles) -> Any:
    """Return a copy of the network with the adapter merged into it by PEFT.

    Args:
        network: the base model of transformers, which is not changed.
        adapter: content of the adapter's folder, of any kind.

    Raises:
        ModelError: the kind or a setting is not read, the file does not fit the model, or the merged model would answer
            differently from the unmerged one.
    """
    check_kind(adapter)
    made = _unmerged(network, adapter, seed=0)
    _check_consumed(made, adapter)
    with _peft_at_work(adapter):
        tokens = _probe(made, adapter)
        wanted = _logits(made, tokens)
    if _may_be_random(adapter) and not _agree(wanted, _logits(_unmerged(network, adapter, seed=1), tokens)):
        raise _refused(adapter, "its files do not hold all of it, and PEFT draws the rest anew")
    merged, reason = _merged(made, network, adapter)
    if merged is None or not _agree(wanted, _logits(merged, tokens)):
        del made, merged
        made = _unmerged(network, adapter, seed=0)
        _give_each_its_own(made)
        merged, reason = _merged(made, network, adapter)
    if merged is None or not _agree(wanted, _logits(merged, tokens)):
        raise _refused(adapter, reason or "merged, it gives other logits than PEFT")
    check_head(merged)
    return _as_it_was(merged, network)


def _prepared(network: Any, adapter: AdapterFiles) -> Any:
    """Return a copy with float32 parameters and as many tokens as the adapter has.

    Buffers such as rotary frequencies stay as they are.
    """
    changed = copy.deepcopy(network)
    for parameter in changed.parameters():
        parameter.data = parameter.data.float()
    _resize(changed, adapter)
    return changed


def _as_it_was(merged: Any, network: Any) -> Any:
    like = next(network.parameters())
    for parameter in merged.parameters():
        parameter.data = parameter.data.to(like.dtype)
        parameter.requires_grad_(like.requires_grad)
    return merged.eval()


def _resize(base: Any, adapter: AdapterFiles) -> None:
    """Give the embeddings as many rows as the adapter's file has, if it brings them whole."""
    ends = {"input": base.get_input_embeddings(), "output": base.get_output_embeddings()}
    tied = ends["output"] is not None and ends["input"].weight is ends["output"].weight
    names = {id(module): name for name, module in base.named_modules()}
    rows = {end: _rows(adapter, names[id(module)]) for end, module in ends.items() if module is not None}
    now, found = ends["input"].weight.shape[0], {count for count in rows.values() if count is not None}
    if not found or found == {now}:
        return
    if len(found) > 1 or (None in rows.values() and not tied and max(found) > now):
        said = ", ".join(f"{end}: {count or 'not in the file'}" for end, count in rows.items())
        fix = "Save it again with save_embedding_layers=True, after the vocabulary was resized."
        raise ModelError(
            "The adapter does not bring all rows of a resized vocabulary.", f"{adapter.folder}: {said}", fix
        )
    with torch.random.fork_rng(devices=[]):
        base.resize_token_embeddings(found.pop(), mean_resizing=False)


def _rows(adapter: AdapterFiles, name: str) -> int | None:
    """Return how many rows the file has for an embedding, or None if it does not hold it whole."""
    for key in (f"{PREFIX}{name}.weight", f"{PREFIX}{name}.base_layer.weight"):
        if key in adapter.tensors:
            return int(adapter.tensors[key].shape[0])
    return None


def _unmerged(network: Any, adapter: AdapterFiles, seed: int) -> Any:
    from peft import PeftModel

    base = _prepared(network, adapter)
    with _peft_at_work(adapter), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PeftModel.from_pretrained(base, str(adapter.folder)).eval()


@contextlib.contextmanager
def _peft_at_work(adapter: AdapterFiles) -> Generator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:  # PEFT checks settings as it goes, and each kind in its own way
            if out_of_memory(error, adapter.folder):
                raise
            raise _refused(adapter, f"PEFT cannot put it on this model: {_first_line(error)}") from error


def _check_consumed(made: Any, adapter: AdapterFiles) -> None:
    """Refuse an adapter if its file and the model do not hold the same tensors; PEFT itself only warns."""
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = get_peft_model_state_dict(made, save_embedding_layers=False)
    whole = cast(dict[str, torch.Tensor], made.state_dict())
    read = {name: held.get(name, whole.get(name)) for name in adapter.tensors}
    missing = sorted(held.keys() - adapter.tensors.keys())
    if left := sorted(name for name, value in read.items() if value is None):
        raise _refused(adapter, f"nothing on this model takes {listed(left, 3)}")
    if missing:
        raise _refused(adapter, f"the file lacks {listed(missing, 3)}")
    if other := sorted(name for name, value in adapter.tensors.items() if not _same(value, read[name])):
        raise _refused(adapter, f"PEFT does not take over the values of {listed(other, 3)}")


def _same(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or one.shape != other.shape:
        return False
    return bool(torch.equal(one.to(other.device, other.dtype), other))


def _probe(made: Any, adapter: AdapterFiles) -> torch.Tensor:
    """Return tokens to compare logits at, int64 (1, tokens): some of the whole vocabulary, and those trained alone."""
    base = made.get_base_model()
    rows = base.get_input_embeddings().weight.shape[0]
    limit = getattr(base.config.get_text_config(), "max_position_embeddings", None) or PROBED
    settings = adapter.settings
    own: object = settings.get("trainable_token_indices") or settings.get("token_indices") or []
    lists: list[Any] = list(cast(dict[str, Any], own).values()) if isinstance(own, dict) else [own]
    trained = [int(token) for some in lists for token in some if 0 <= int(token) < rows]
    spread = torch.linspace(0, rows - 1, min(PROBED, limit)).long().tolist()
    tokens = [*trained[: limit // 2], *spread][:limit]
    return torch.tensor([tokens], device=base.get_input_embeddings().weight.device)


@torch.no_grad()
def _logits(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    return network(input_ids=tokens, use_cache=False).logits.float()


def _agree(wanted: torch.Tensor, found: torch.Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    return bool((wanted - found).abs().max() <= max(AGREEMENT, RELATIVE * float(wanted.abs().max())))


def _may_be_random(adapter: AdapterFiles) -> bool:
    """Tell whether PEFT might draw random numbers while it loads: all but LoRA with an ordinary start."""
    return adapter.kind != "LORA" or not isinstance(adapter.settings.get("init_lora_weights", True), bool)


def _give_each_its_own(made: Any) -> None:
    """Give modules that share a weight one each, since what is merged into one is not meant for the others."""
    seen: set[int] = set()
    for module in made.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            place = parameter.data_ptr()
            if place in seen and parameter.numel():
                fresh = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
                setattr(module, name, fresh)
            seen.add(place)
    network = made.get_base_model()
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings = False
    for module in network.modules():
        if hasattr(module, "all_tied_weights_keys"):
            module.all_tied_weights_keys = {}


def _merged(made: Any, network: Any, adapter: AdapterFiles) -> tuple[Any | None, str]:
    """Return the network without anything of PEFT on it, and ""; or None, and why that is not possible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            merged = made.merge_and_unload()
        except Exception as error:  # each kind refuses to merge in its own way
            if out_of_memory(error, adapter.folder):
                raise
            return None, f"PEFT cannot merge it: {_first_line(error)}"
    for module in merged.modules():
        if type(module).__module__.startswith("peft.") or module._forward_hooks or module._forward_pre_hooks:
            return None, f"merged, it still needs PEFT's {type(module).__name__}"
    more = sorted(merged.state_dict().keys() - network.state_dict().keys())
    if more and not adapter.settings.get("layer_replication"):
        return None, f"merged, the model has {listed(more, 3)}, which its architecture has not"
    return merged, ""


def _refused(adapter: AdapterFiles, reason: str) -> ModelError:
    return ModelError("This adapter cannot be read right.", f"{adapter.folder}: {_named(adapter)}: {reason}", _FIX)


def _named(adapter: AdapterFiles) -> str:
    """Return the kind of the adapter, and those of its settings that are not PEFT's defaults, for messages."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    known = dataclasses.fields(cast(Any, PEFT_TYPE_TO_CONFIG_MAPPING)[adapter.kind])
    usual = {field.name: field.default for field in known}
    told = [
        f"{name}={value!r}"[:60]
        for name, value in adapter.settings.items()
        if value not in (None, False, {}, []) and name not in _NEVER_AT_FAULT and value != usual.get(name)
    ]
    return " ".join([adapter.kind, *(["with " + ", ".join(told)] if told else [])])


_NEVER_AT_FAULT = ("peft_type", "task_type", "base_model_name_or_path", "peft_version", "inference_mode", "revision",
                   "auto_mapping")  # fmt: skip


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return line if line.isprintable() else ascii(line)
