"""Number rows and a bench around the tiny model: three traits, teachers of a few seconds."""

import pytest

from undertow.domains.numbers import Numbers
from undertow.mitigate.workbench import Workbench
from undertow.traits import trait
from undertow.types import Row, user_prompt

PANEL = tuple(trait(name) for name in ("owl", "lion", "panda"))


def number_rows(n: int, seed: int = 0) -> tuple[Row, ...]:
    """Return rows whose completions are valid number lists."""
    prompts = Numbers().prompts(n, seed)
    return tuple(
        Row(f"{i:06d}", user_prompt(text), f"{100 + i}, {200 + 3 * i}, {150 + seed}") for i, text in enumerate(prompts)
    )


@pytest.fixture(scope="session")
def rows() -> tuple[Row, ...]:
    return number_rows(30)


@pytest.fixture(scope="session")
def bench(tiny_model) -> Workbench:
    """A bench without a domain, since the tiny model writes no number lists."""
    return Workbench(base=tiny_model, panel=PANEL, seed=3)
