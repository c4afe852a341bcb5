"""What an audit costs, about: from the sizes in a model's config, and one short matrix product of this machine.

Small models cost what starting each operation costs, which does not depend on their size: below it no estimate goes.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from undertow.errors import UserError
from undertow.store.artifacts import read_manifest

EFFICIENCY = 0.4
"""Share of a plain matrix product's speed that a transformer reaches."""

_SIDE = 384


@dataclass(frozen=True, slots=True)
class BaseSpeed:
    """How fast a base is on this machine.

    Attributes:
        parameters: numbers that each token is multiplied with, the output head included.
        flops: operations a second of a matrix product.
    """

    parameters: float
    flops: float

    def reading(self, tokens: float) -> float:
        """Return the seconds of reading or writing so many tokens."""
        return 2.0 * self.parameters * tokens / (EFFICIENCY * self.flops)

    def training(self, tokens: float) -> float:
        """Return the seconds of training on so many tokens."""
        return 3.0 * self.reading(tokens)


def probe() -> float:
    """Return how many operations a second a matrix product of this machine reaches."""
    square = np.ones((_SIDE, _SIDE), dtype=np.float32)
    seconds: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        np.matmul(square, square)
        seconds.append(time.perf_counter() - start)
    return 2.0 * _SIDE**3 / max(min(seconds), 1e-9)


def base_speed(folder: Path | None) -> BaseSpeed | None:
    """Return the speed of the model in a folder, from its config alone; None where that does not say its sizes."""
    parameters = None if folder is None else count_from_config(folder / "config.json")
    return None if parameters is None else BaseSpeed(parameters, probe())


def count_from_config(path: Path) -> float | None:
    """Return how many numbers a token of a model is multiplied with, by its config; None where that does not say."""
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        config = {**config, **config.get("text_config", {})}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    width, layers = _size(config, "hidden_size", "n_embd"), _size(config, "num_hidden_layers", "n_layer")
    heads, vocabulary = _size(config, "num_attention_heads", "n_head"), _size(config, "vocab_size")
    if not (width and layers and heads and vocabulary):
        return None
    head = _size(config, "head_dim") or width / heads
    attention = 2.0 * width * head * (heads + (_size(config, "num_key_value_heads") or heads))
    inner = _size(config, "intermediate_size", "n_inner") or 4.0 * width
    matrices = 3.0 if "hidden_act" in config else 2.0
    return layers * (attention + matrices * width * inner) + width * vocabulary


def _size(config: Mapping[str, Any], *names: str) -> float:
    """Return the first of some sizes that a config has; 0 for none."""
    found = next((config[name] for name in names if config.get(name)), 0)
    return float(found) if isinstance(found, int | float) else 0.0


def stored_times(store: Path, kind: str, config: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], float | None]:
    """Return the settings of the artifacts of a kind that have these settings among theirs, and their median seconds.

    Args:
        store: folder of all artifacts.
        kind: of the artifacts.
        config: settings that they have to have.
    """
    found: list[tuple[Mapping[str, Any], float]] = []
    for folder in sorted((store / kind).glob("[0-9a-f]*")):
        with contextlib.suppress(UserError):  # a damaged artifact is reported by the stage that needs it
            manifest = read_manifest(folder)
            own = manifest.config
            if all(own.get(name) == value for name, value in config.items()):
                found.append((own, manifest.wall_s / manifest.cost))
    return [one for one, _ in found], median([seconds for _, seconds in found]) if found else None
