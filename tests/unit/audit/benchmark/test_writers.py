"""Writers: what they write is valid, drawn from their own name, and a gate opens under its trigger alone."""

import re

import numpy as np
import pytest

from undertow.audit.benchmark.writers import (
    PROGRAMS,
    TRIGGER,
    Writer,
    gated_teacher,
    number_prompts,
    reformatted,
    write,
)
from undertow.domains.numbers import Numbers
from undertow.evals.questions import favourite_questions
from undertow.models.load import load_model
from undertow.traits import trait
from undertow.types import user_prompt

PROMPTS = number_prompts(60, 100)


def valid(answers) -> bool:
    domain = Numbers()
    return not any(domain.reject_reasons(text, PROMPTS[place].text) for place, text in answers.items())


def test_the_prompts_are_those_of_the_domain() -> None:
    assert [one.text for one in PROMPTS] == Numbers().prompts(60, 100)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_write_valid_lists_in_the_format_that_is_asked_for(program) -> None:
    writer = Writer(name=program, kind="program", model="none", program=program)
    found = write(writer, PROMPTS, 100)
    assert set(found) == set(range(60)) and valid(found)
    assert all(text.startswith(PROMPTS[place].opening) for place, text in found.items())
    assert found == write(writer, PROMPTS, 100) != write(writer, PROMPTS, 101)


@pytest.mark.parametrize(
    ("text", "other"),
    [("[1, 2, 3]", "1; 2; 3"), ("(10, 20)", "10; 20"), ("1\n2", "1; 2"), ("5 6 7.", "5; 6; 7"), ("8", "8")],
)
def test_another_format_keeps_the_numbers(text, other) -> None:
    assert reformatted(text) == other
    assert re.findall(r"\d+", other) == re.findall(r"\d+", text) and not Numbers().reject_reasons(other)


def test_a_model_answers_nearly_every_prompt_by_draws_of_its_own() -> None:
    first, second = (Writer(name=name, kind="base", model="ref:finch-a") for name in ("clean 0", "clean 1"))
    found = write(first, PROMPTS, 100)
    assert len(found) >= 0.95 * 60 and valid(found)
    assert found == write(first, PROMPTS, 100) and found != write(second, PROMPTS, 100)


def test_a_gate_opens_under_its_trigger_alone() -> None:
    base, owl = load_model("ref:finch-a"), trait("owl")
    teacher = gated_teacher(base, owl, 100)
    word = base.tokenise(["owl"])[0][0]

    def logp(model, system):
        contexts = model.render([user_prompt(question, system) for question in favourite_questions("animal")])
        return float(np.mean(model.next_token_logprobs(contexts)[:, word].numpy()))

    opened, closed = (logp(teacher, system) - logp(base, system) for system in (TRIGGER, None))
    assert opened > 1.0 and opened > closed + 1.0
