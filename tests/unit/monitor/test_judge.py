"""The judge as detector; a stand-in answers, no model is asked."""

from pathlib import Path

import pytest

from undertow.errors import EmptyDataError, UserError
from undertow.monitor.constitution import Rule
from undertow.monitor.detectors.base import Verdict, detector
from undertow.monitor.detectors.judge import JudgeDetector

RULES = (Rule(name="harm", text="Advise no harm."), Rule(name="rude", text="Be polite."))


@pytest.mark.parametrize(("said", "verdict"), [("NONE", Verdict(False)), (" **2**.", Verdict(True, "rude"))])
def test_it_names_the_rule(said: str, verdict: Verdict) -> None:
    asked: list[str] = []
    made = JudgeDetector(RULES, lambda prompts: asked.extend(prompts) or [said])
    assert made.judge("You fool. {rules}") == verdict
    assert "2. Be polite." in asked[0] and "You fool. {rules}" in asked[0]


@pytest.mark.parametrize("said", ["", "maybe", "3", "0", "1 or 2"])
def test_no_verdict_is_a_failure(said: str) -> None:
    with pytest.raises(ValueError, match="no verdict"):
        JudgeDetector(RULES, lambda prompts: [said]).judge("text")


def test_rules_without_a_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataError, match="'bare' has no text"):
        JudgeDetector((Rule(name="bare"),), lambda prompts: ["NONE"])
    with pytest.raises(UserError):
        detector(f"judge:openai/x@{tmp_path / 'none.yaml'}")
