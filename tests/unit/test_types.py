"""Records refuse what makes no sense, and references survive a round trip."""

import pickle

import pytest

from undertow.errors import ConfigError, UnknownNameError, UserError, unknown_name
from undertow.types import ModelRef, Sampling, user_prompt


@pytest.mark.parametrize(
    "text",
    [
        "ref:finch-a",
        "hf:org/name@main+adapters/x",
        "api:openai/some-model",
        "hf:./folder",
        "hf:org/name@main+adapters/x?system=none&dtype=bf16&device=cuda:1",
        "hf:a?system=You are a cat, %26 100%25 so%3F",
    ],
)
def test_a_model_reference_survives_a_round_trip(text: str) -> None:
    assert str(ModelRef.parse(text)) == text


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="finch"):
        ModelRef.parse("finch")


def test_options_are_read_and_refused() -> None:
    ref = ModelRef.parse("hf:org/name?system=Be kind + brief%3F&dtype=bf16")
    assert (ref.system, ref.dtype, ref.adapter) == ("Be kind + brief?", "bf16", None)
    assert str(ModelRef.parse("hf:a+b?dtype=bf16").without_adapter) == "hf:a?dtype=bf16"
    with pytest.raises(UnknownNameError, match="dtype"):
        ModelRef.parse("hf:a?dtyp=bf16")
    for wrong in ("hf:a?dtype=int4", "hf:a?system=", "api:a?dtype=bf16", "hf:a?"):
        with pytest.raises(ConfigError):
            ModelRef.parse(wrong)


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
