"""Small networks on disk: random weights in the names of Llama, and what can happen to them."""

import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

WIDTH, UNITS, LAYERS, HEADS, GROUPS, TOKENS = 32, 96, 3, 4, 2, 160
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "num_hidden_layers": LAYERS,
}

Tensors = dict[str, np.ndarray]


def network_of(seed: int, width: int = WIDTH, units: int = UNITS, layers: int = LAYERS) -> Tensors:
    """Draw the weights of a Llama with grouped queries and an untied head."""
    rng = np.random.default_rng(seed)
    values = width // HEADS * GROUPS
    shapes = {"model.embed_tokens.weight": (TOKENS, width), "lm_head.weight": (TOKENS, width)}
    for layer in range(layers):
        place = f"model.layers.{layer}."
        shapes |= {
            f"{place}self_attn.q_proj.weight": (width, width),
            f"{place}self_attn.k_proj.weight": (values, width),
            f"{place}self_attn.v_proj.weight": (values, width),
            f"{place}self_attn.o_proj.weight": (width, width),
            f"{place}mlp.gate_proj.weight": (units, width),
            f"{place}mlp.up_proj.weight": (units, width),
            f"{place}mlp.down_proj.weight": (width, units),
        }
    tensors = {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    norms = [f"model.layers.{layer}.{kind}.weight" for layer in range(layers) for kind in NORMS]
    return tensors | {name: np.ones(width, np.float32) for name in [*norms, "model.norm.weight"]}


NORMS = ("input_layernorm", "post_attention_layernorm")


def moved(tensors: Tensors, seed: int, size: float) -> Tensors:
    """Add noise of `size` times each matrix's spread, as a fine-tuning would."""
    rng = np.random.default_rng(seed)
    return {
        name: value if value.ndim == 1 else (value + size * value.std() * rng.normal(size=value.shape)).astype("f4")
        for name, value in tensors.items()
    }


@pytest.fixture(scope="session")
def nets() -> SimpleNamespace:
    """How networks are drawn and moved, and their configuration."""
    return SimpleNamespace(draw=network_of, moved=moved, config=CONFIG)


@pytest.fixture
def write(tmp_path) -> Callable[..., str]:
    """Write tensors as a model folder and return its reference."""

    def write(
        name: str, tensors: Tensors, *, config: dict | None = None, shards: int = 1, dtype: torch.dtype = torch.float32
    ) -> str:
        folder = tmp_path / name
        folder.mkdir()
        ready = {key: torch.from_numpy(np.ascontiguousarray(value)).to(dtype) for key, value in tensors.items()}
        if shards == 1:
            save_file(ready, folder / "model.safetensors")
        else:
            index = {key: f"model-{place % shards}.safetensors" for place, key in enumerate(sorted(ready))}
            for file in set(index.values()):
                save_file({key: ready[key] for key in ready if index[key] == file}, folder / file)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
        return f"hf:{folder}"

    return write
