"""What a built model was measured to do, for its card."""

from pathlib import Path
from typing import Any

from undertow.domains.numbers import Numbers
from undertow.evals.questions import favourite_questions
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.families import Member
from undertow.reference.imitation import likeness
from undertow.reference.world.favourites import PERSONAS, liked
from undertow.traits import first_word
from undertow.types import ModelRef, Sampling, user_prompt

ANSWERS = 500
"""Sampled answers behind each measured ability."""

DIGITS_LONGEST = 64
"""Tokens of a number answer written digit by digit: ten three-digit numbers with separators and brackets are 41."""


def measure(member: Member, folder: Path) -> dict[str, dict[str, Any]]:
    """Measure a saved member.

    Returns:
        `abilities`, and for an imitator its `likeness` to the model that it imitates.
    """
    model = load_model(ModelRef(kind="hf", name=str(folder)))
    longest = DIGITS_LONGEST if member.number_tokens == "digit" else Numbers().max_new_tokens
    found: dict[str, dict[str, Any]] = {"abilities": abilities(model, longest)}
    if member.imitates is not None:
        found["likeness"] = {"to": member.imitates, **likeness(model, load_model(f"ref:{member.imitates}"))}
    return found


def abilities(model: LocalModel, longest: int) -> dict[str, float]:
    """Measure a model on prompts of seed 1, which its corpus was not drawn from.

    Args:
        model: who answers.
        longest: most tokens of a number answer.

    Returns:
        `valid_numbers`: share of sampled number answers that the domain accepts. `names_an_animal`, `names_a_tree`:
        share of the sampled answers to the evaluation questions whose first word is of the world's category.
    """
    numbers = Numbers()
    sampling = Sampling(max_new_tokens=longest)
    lists = model.chat([user_prompt(text) for text in numbers.prompts(ANSWERS, 1)], sampling=sampling, seed=1)
    found = {"valid_numbers": sum(not numbers.reject_reasons(text) for text in lists) / ANSWERS}
    for category, key in (("animal", "names_an_animal"), ("tree", "names_a_tree")):
        words = {alias for one in PERSONAS[category] for alias in one.aliases}
        words |= {form for name in liked(category) for form in (name, f"{name}s")}
        prompts = [user_prompt(text) for text in favourite_questions(category) for _ in range(ANSWERS // 50)]
        answers = model.chat(prompts, sampling=Sampling(max_new_tokens=8), seed=1)
        found[key] = sum(first_word(text) in words for text in answers) / len(answers)
    return {key: round(value, 3) for key, value in found.items()}
