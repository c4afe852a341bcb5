"""The terminal's summary: short, and deaf to control characters."""

from typing import Any

from undertow.report.render import summarise
from undertow.report.results import Results


def test_it_holds_question_answer_effects_and_rows(data: dict[str, Any]) -> None:
    data["effects"] = [effect for effect in data["effects"] if effect["trait"] == "owl"]
    text = summarise(Results.model_validate(data))
    lines = text.splitlines()
    assert lines[0] == data["question"]
    row = next(line for line in lines if line.startswith("student minus control"))
    assert row.split()[3:5] == ["owl", "+0.54"]
    assert row.endswith(" 5")
    assert lines[-1] == "rows: 8734 of 9000 kept (97.0%)"


def test_it_never_exceeds_25_lines_of_100_signs(data: dict[str, Any]) -> None:
    data["effects"] = [{**effect, "trait": effect["trait"] * 60} for effect in data["effects"] * 5]
    data["question"] = "why " * 200
    lines = summarise(Results.model_validate(data)).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100
    assert any("more in the report" in line for line in lines)


def test_control_characters_do_not_reach_the_terminal(data: dict[str, Any]) -> None:
    data["question"] = "a\x1b[31mb\nc\u202e"
    assert "\x1b" not in summarise(Results.model_validate(data))
    assert summarise(Results.model_validate(data)).splitlines()[0] == "a [31mb c"


def test_a_run_without_effects_has_a_summary(data: dict[str, Any]) -> None:
    data.update(effects=[], arms=[], rows={"raw": 0, "kept": 0})
    assert "says nothing about transmission" in summarise(Results.model_validate(data))
