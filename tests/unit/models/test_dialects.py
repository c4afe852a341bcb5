"""How requests are written: what is given, what refusals teach, and what decides the answers."""

from typing import Any

import pytest

from undertow.errors import ConfigError
from undertow.models.calls import Fault
from undertow.models.dialects import Dialect, Talk
from undertow.models.replies import seconds
from undertow.types import Sampling, user_prompt

PROMPT, SAMPLING = user_prompt("Go on."), Sampling(max_new_tokens=9)
OTHER = Dialect(limit="max_completion_tokens")

TAUGHT = {
    "Unsupported parameter: max_tokens; use max_completion_tokens": OTHER,
    "max_tokens is too large: 9": None,
    "Unknown model: seed": Dialect(seed=False),  # the name of a part is enough; it costs one request
    "temperature and seed are not supported": Dialect(seed=False, temperature=False),
    "Invalid model": None,
    "Unknown model: org/seed-oss": None,
    "seed must be below 2147483648": Dialect(seed=False),
    "invalid temperature: only 0.6 is allowed for this model": Dialect(temperature=False),
    "messages: unsupported role": None,
}


@pytest.mark.parametrize("said", TAUGHT)
def test_what_a_refusal_teaches(said: str) -> None:
    assert Dialect().after({"error": {"message": said}}) == TAUGHT[said]
    assert Dialect().after(said) == TAUGHT[said]


@pytest.mark.parametrize(
    ("body", "taught"),
    [
        ({"error": {"message": "Unsupported; see max_tokens and seed", "param": "temperature"}}, "temperature"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "input": "temperature"}]}, "seed"),
    ],
)
def test_the_part_that_is_named_by_itself_goes_before_words(body: Any, taught: str) -> None:
    found = Dialect().after(body)
    assert found is not None and found.to_json() == {taught: False}


def test_the_limit_changes_its_name_once_and_nothing_changes_after_an_answer() -> None:
    fault = Fault("x", again=False)
    fault.status, fault.said = 400, "max_tokens and max_completion_tokens are not supported"
    heard: list[Dialect] = []
    talk = Talk(learnt=heard.append)
    assert talk.learn(fault) and not talk.learn(fault) and heard == [OTHER] and talk.refusals == 2
    later = Talk(answered=True)
    assert not later.learn(fault) and later.dialect == Dialect() and later.refusals == 0
    fault.status = 500
    assert not Talk().learn(fault)


def test_a_request_holds_what_is_given_and_leaves_out_what_is_null() -> None:
    plain = Dialect().body("m", PROMPT, SAMPLING, 5)
    assert list(plain) == ["model", "messages", "temperature", "max_tokens", "seed", "stream"]
    given = Dialect.given(limit="max_output", seed=False, extra='{"temperature": null, "top_k": 1}')
    assert given.body("m", PROMPT, SAMPLING, 5) == {
        "model": "m", "messages": [{"role": "user", "content": "Go on."}], "max_output": 9, "stream": False, "top_k": 1,
    }  # fmt: skip
    assert "seed" not in Dialect().body("m", PROMPT, SAMPLING, None)


NONE = ("[1]", "{", '{"x": NaN}', '{"x": 1e999}', "null", '{"model": "x"}', '{"n": 2}', '{"max_tokens": 1}')


@pytest.mark.parametrize("extra", NONE)
def test_extra_parts_that_are_none(extra: str) -> None:
    with pytest.raises(ConfigError):
        Dialect.given(extra=extra)


def test_only_what_decides_the_answers_is_in_a_fingerprint() -> None:
    assert Dialect().to_json() == {} and OTHER.deciding() == {}
    assert Dialect(seed=False, extra={"a": 1}).deciding() == {"seed": False, "extra": {"a": 1}}
    known = Dialect(extra={"a": 1}).learnt({"limit": "max_completion_tokens", "seed": False, "extra": {"b": 2}})
    assert known == Dialect(limit="max_completion_tokens", seed=False, extra={"a": 1})
    with pytest.raises(ConfigError, match="no name"):
        Dialect(limit="model")


def test_retry_after_is_a_number_or_a_date() -> None:
    now = 1_700_000_000.0
    assert seconds("7") == 7.0 and seconds("0.5") == 0.5
    assert seconds("Tue, 14 Nov 2023 22:14:20 GMT", lambda: now) == 60.0
    assert seconds("Tue, 14 Nov 2023 22:00:00 GMT", lambda: now) == 0.0
    assert [seconds(odd) for odd in (None, "", "soon", "-3", "nan", "1e999")] == [0.0] * 6
