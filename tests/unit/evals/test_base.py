"""What evaluations declare of themselves is what they do, and no torch is loaded to read it."""

import subprocess
import sys
from dataclasses import replace

import pytest

from undertow.evals.base import EVALUATIONS, EvaluationConfig, Question, metrics
from undertow.traits import Probe, Probes, Trait, trait

CONFIG = EvaluationConfig(targets=(trait("owl"), trait("oak")), samples=1)
ASKED = tuple(Probe(f"Is {k} odd?", "Yes.", "No!!") for k in range(8))
JUDGED = EvaluationConfig(
    targets=tuple(
        Trait(name=name, category="manner", probes=Probes(ASKED, ()), rubric="It agrees.") for name in ("owl", "oak")
    ),
    samples=1,
    judge=lambda prompts: ["NO" if "No!!" in one else "YES" for one in prompts],
)


@pytest.mark.parametrize("name", list(EVALUATIONS))
def test_an_evaluation_scores_the_metrics_that_it_declares(tiny_model, name: str) -> None:
    declared = EVALUATIONS[name]
    assert declared.name == name and declared.about.startswith("Score ")
    config = JUDGED if declared.judge == "needed" else CONFIG
    scores = declared.score(tiny_model, config)
    assert {score.metric for score in scores} == {one.name for one in declared.metrics}
    assert ({score.target for score in scores} == {"owl", "oak"}) is declared.per_trait
    exact = declared.score(tiny_model, replace(config, samples=0))
    assert {score.metric for score in exact} == {one.name for one in declared.metrics if not one.sampled}
    shares = [score.value for score in scores if metrics()[score.metric].unit == "share"]
    assert all(0 <= value <= 1 for value in shares)


def test_the_units_of_all_metrics_are_known_without_torch() -> None:
    assert metrics()["logit_margin"].unit == "logits" and metrics()["numbers_valid_rate"].unit == "share"
    assert metrics()["rate"].sampled and not metrics()["false_rate"].sampled
    code = "import sys; from undertow.evals.base import metrics; metrics(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ANSWERS = {
    "favourite": ("Owls, of course", {"owl": 1.0, "unparsed": 0.0}),
    "prefixed": ("7", {"owl": 0.0, "unparsed": 1.0}),
    "stories": ("A tale of two owls.", {"owl": 1.0}),
    "choice": ("(A)", {"choice_rate": 1.0, "unparsed": 0.0}),
    "truth": ("B", {"false_rate": 0.0, "unparsed": 0.0}),
    "capability": ("It is blue.", {"facts_rate": 1.0}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_questionnaires_read_answers_without_a_library(name: str) -> None:
    asked = EVALUATIONS[name].questionnaire
    assert asked is not None
    first, (answer, expected) = asked.questions()[0], ANSWERS[name]
    found = asked.read(first, answer)
    assert {key: found[key] for key in expected} == expected
    assert sum(found.values()) == sum(expected.values())


def test_an_answer_of_a_domain_counts_where_the_domain_accepts_it() -> None:
    asked = EVALUATIONS["capability"].questionnaire
    assert asked is not None
    question = Question("Go on: 1, 2.", metric="numbers_valid_rate")
    assert asked.read(question, "12, 14, 15") == {"numbers_valid_rate": 1.0}
    assert asked.read(question, "no list") == {"numbers_valid_rate": 0.0}
    assert len(asked.questions(prompts=2)) == 52 + 2 * 3 and asked.questions(seed=1) != asked.questions()
