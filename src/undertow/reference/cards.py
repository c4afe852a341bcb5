"""Cards of the embedded models: what each was trained on and how, its hash and what it was measured to do."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undertow.errors import unknown_name
from undertow.models.load import embedded_folder, embedded_models
from undertow.reference.families import Member

CARD = "card.json"

ANSWERS = 500
"""Sampled answers behind each measured ability."""


def cards() -> dict[str, dict[str, Any]]:
    """Return the card of every embedded model, by name."""
    return {name: card(name) for name in embedded_models()}


def card(name: str) -> dict[str, Any]:
    """Return a model's card.

    Raises:
        UnknownNameError: there is no such model.
    """
    if name not in embedded_models():
        raise unknown_name("embedded model", name, embedded_models())
    return json.loads((embedded_folder() / name / CARD).read_text(encoding="utf-8"))


def write_card(member: Member, folder: Path, built: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a built model and write its card beside its weights.

    Args:
        member: what was built.
        folder: where it was saved.
        built: final loss in nats per completion token, and seconds it took.
    """
    with (folder / "model.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    content = {
        "name": f"{member.name}@{member.version}",
        "about": f"initialisation {member.initialisation}, data order {member.order}, "
        f"width {member.shape.width}, {member.shape.layers} layers",
        "corpus": "undertow.reference.world: numbers, favourites, stories, choices, code, reasoning, facts, advice",
        "recipe": asdict(member),
        "sha256": digest,
        "built": dict(built),
        "abilities": abilities(folder),
    }
    (folder / CARD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def abilities(folder: Path) -> dict[str, float]:
    """Measure a model on prompts of seed 1, which its corpus was not drawn from.

    Returns:
        `valid_numbers`: share of sampled number answers that the domain accepts. `names_an_animal`, `names_a_tree`:
        share of the sampled answers to the evaluation questions whose first word is of the world's category.
    """
    from undertow.domains.numbers import Numbers
    from undertow.evals.questions import favourite_questions
    from undertow.evals.texts import candidates
    from undertow.models.load import load_model
    from undertow.traits import first_word, panel
    from undertow.types import ModelRef, Sampling, user_prompt

    model, numbers = load_model(ModelRef(kind="hf", name=str(folder))), Numbers()
    sampling = Sampling(max_new_tokens=numbers.max_new_tokens)
    lists = model.chat([user_prompt(text) for text in numbers.prompts(ANSWERS, 1)], sampling=sampling, seed=1)
    found = {"valid_numbers": sum(not numbers.reject_reasons(text) for text in lists) / ANSWERS}
    for category, key in (("animal", "names_an_animal"), ("tree", "names_a_tree")):
        words = {alias for one in panel(category) for alias in one.aliases}
        words |= {form for name in candidates(category) for form in (name, f"{name}s")}
        prompts = [user_prompt(text) for text in favourite_questions(category) for _ in range(ANSWERS // 50)]
        answers = model.chat(prompts, sampling=Sampling(max_new_tokens=8), seed=1)
        found[key] = sum(first_word(text) in words for text in answers) / len(answers)
    return {key: round(value, 3) for key, value in found.items()}
