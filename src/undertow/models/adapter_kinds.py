"""Which kinds of PEFT adapter, and which of their settings, are read.

These are lists of what is known to be read correctly, never of what is not: a kind or a setting that a later PEFT
brings is refused by its name until somebody has tried it.
"""

import dataclasses
from typing import Any, cast

from undertow.errors import ModelError, listed
from undertow.models.adapter_files import CONFIG, AdapterFiles

MERGED = (
    "ADALORA", "ADAMSS", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA",
    "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA",
    "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT",
)  # fmt: skip
"""Kinds that can be merged into the weights. PEFT merges them, and each adapter is compared with its unmerged form."""

_PROMPT = "it puts vectors of its own before the text"
UNMERGEABLE = {
    "ADAPTION_PROMPT": "it adds attention of its own",
    "CARTRIDGE": _PROMPT,
    "CPT": _PROMPT,
    "LILY": "its experts are chosen by the text",
    "MULTITASK_PROMPT_TUNING": _PROMPT,
    "POLY": "it needs the number of a task with every text",
    "PREFIX_TUNING": _PROMPT,
    "PROMPT_TUNING": _PROMPT,
    "P_TUNING": _PROMPT,
    "SHADOW": "it runs a second network beside the model",
    "XLORA": "it mixes its adapters by the text",
}
"""Kinds that cannot be merged into any weights, each with the reason."""

LORA_SETTINGS = (
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layer_replication",
    "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout",
    "lora_ga_config", "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "revision", "runtime_config", "target_modules", "target_parameters", "task_type",
    "trainable_token_indices", "use_dora", "use_rslora",
)  # fmt: skip
"""Settings of LoRA that may have any value; every other one has to be at PEFT's default."""


def check_kind(adapter: AdapterFiles) -> None:
    """Refuse an adapter of a kind, or with a setting, that is not known to be read correctly.

    Raises:
        ModelError: the kind or a setting is not read; the value names it.
    """
    if adapter.kind in UNMERGEABLE:
        fix = f"Give an adapter of another kind, or a merged model; these are read: {', '.join(MERGED)}."
        value = f"{adapter.folder}: {adapter.kind}: {UNMERGEABLE[adapter.kind]}"
        raise ModelError("An adapter of this kind cannot become part of the weights.", value, fix)
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    configs = {str(kind.value): config for kind, config in cast(dict[Any, Any], PEFT_TYPE_TO_CONFIG_MAPPING).items()}
    if adapter.kind not in MERGED or adapter.kind not in configs:
        known = ", ".join(kind for kind in MERGED if kind in configs)
        fix = f"Give a merged model, or an adapter of one of these kinds: {known}."
        value = f"{adapter.folder / CONFIG}: peft_type {adapter.settings.get('peft_type')!r}"
        raise ModelError("There is no adapter of this kind, or it is not read.", value, fix)
    usual = {field.name: _default(field) for field in dataclasses.fields(configs[adapter.kind])}
    strange = sorted(
        name
        for name, value in adapter.settings.items()
        if (name not in usual and value)
        or (adapter.kind == "LORA" and name not in LORA_SETTINGS and value and value != usual.get(name))
    )
    if strange:
        fix = "Merge it with PEFT's merge_and_unload where it was trained, and give the merged model."
        raise ModelError("A setting of the adapter is not read.", f"{adapter.folder / CONFIG}: {listed(strange)}", fix)


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
