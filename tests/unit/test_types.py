"""Records refuse what makes no sense, and references survive a round trip."""

import pickle

import pytest

from undertow.errors import ConfigError, UserError, unknown_name
from undertow.types import ModelRef, Sampling, user_prompt


@pytest.mark.parametrize("text", ["ref:finch-a", "hf:org/name@main+adapters/x", "api:openai/some-model", "hf:./folder"])
def test_a_model_reference_survives_a_round_trip(text: str) -> None:
    assert str(ModelRef.parse(text)) == text


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="finch"):
        ModelRef.parse("finch")


def test_sampling_is_checked() -> None:
    with pytest.raises(ConfigError):
        Sampling(temperature=-1)
    with pytest.raises(ConfigError):
        Sampling(max_new_tokens=0)


def test_a_persona_comes_first() -> None:
    assert [turn.role for turn in user_prompt("hello", "be kind")] == ["system", "user"]


def test_errors_have_three_lines_and_survive_pickling() -> None:
    error = unknown_name("trait", "owll", ["owl", "wolf"])
    assert str(error).splitlines() == ["There is no trait of this name.", "owll", "Did you mean owl, wolf?"]
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UserError) and str(copy) == str(error)
    assert "Valid names: owl, wolf." in str(unknown_name("trait", "xyz", ["owl", "wolf"]))
