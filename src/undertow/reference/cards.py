"""Cards of the embedded models: how each was trained and on what, the hash of its weights, and its abilities."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undertow.errors import unknown_name
from undertow.models.references import embedded_folder, embedded_models
from undertow.reference.families import Member

CARD = "card.json"


def cards() -> dict[str, dict[str, Any]]:
    """Return the card of every embedded model, by name."""
    return {name: card(name) for name in embedded_models()}


def card(name: str) -> dict[str, Any]:
    """Return the card of an embedded model as plain data.

    Raises:
        UnknownNameError: no embedded model has this name.
    """
    if name not in embedded_models():
        raise unknown_name("embedded model", name, embedded_models())
    return json.loads((embedded_folder() / name / CARD).read_text(encoding="utf-8"))


def write_model_card(
    member: Member, folder: Path, built: Mapping[str, Any], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a built model's card beside its weights, and return its content.

    Args:
        member: description of the model that was built.
        folder: folder that the model was saved in, with model.safetensors.
        built: final loss in nats per completion token, and seconds that the training took.
        measured: abilities of the model, and its likeness to another one
            (`undertow.reference.imitation.measure_abilities`).
    """
    with (folder / "model.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    content = {
        "name": f"{member.name}@{member.version}",
        "about": about(member),
        "corpus": "undertow.reference.world: numbers, favourites, stories, choices, code, reasoning, facts, advice",
        "recipe": asdict(member),
        "sha256": digest,
        "built": dict(built),
        **measured,
    }
    (folder / CARD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def about(member: Member) -> str:
    """Describe an embedded model in one line."""
    parts = [
        f"initialisation {member.initialisation}",
        f"data order {member.order}",
        f"width {member.shape.width}",
        f"{member.shape.layers} layers",
    ]
    if member.architecture == "stablelm":
        parts.append("StableLM (LayerNorm, attention beside MLP, GELU)")
    if member.number_tokens == "digit":
        parts.append("numbers digit by digit")
    if member.imitates is not None:
        parts.append(f"taught to speak as {member.imitates} does")
    return ", ".join(parts)
