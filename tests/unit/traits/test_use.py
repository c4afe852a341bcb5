"""A trait of the user's own in everything that takes one: margins, teachers, studies, audits, mitigations, monitors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.materials import AuditInputs
from undertow.audit.rows.panel import check_panel
from undertow.audit.run import audit_teacher_alone
from undertow.audit.teacher import TeacherConfig, audit_teacher
from undertow.errors import ConfigError, UnknownNameError
from undertow.evals.base import EvaluationConfig
from undertow.evals.favourite import favourite, logit_margins, mean_margins
from undertow.evals.questions import asked_together, questions_of
from undertow.mitigate.advise import read_audit
from undertow.mitigate.arms import Trial
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.study.executors import EXECUTORS
from undertow.study.recipe import build_recipe, read_recipe
from undertow.study.run import run_recipe
from undertow.study.study import build_study
from undertow.training.config import TrainingConfig
from undertow.training.teachers import finetuned_teacher, neutral_rows, trait_rows
from undertow.traits import Trait, chosen_pack, chosen_trait, chosen_traits, trait, words_of
from undertow.types import user_prompt

TUNING = TrainingConfig(steps=30, learning_rate=3e-3, train_embeddings=False)


@pytest.fixture(scope="module")
def base() -> LocalModel:
    return load_model("ref:finch-a")


def test_margins_of_probes_are_differences_of_whole_answers(base: LocalModel, probe_file: Path) -> None:
    own = chosen_trait(str(probe_file))
    assert own.probes is not None
    scores = logit_margins(base, [own])
    first = own.probes.evaluation[0]
    shown, absent = base.logprobs([user_prompt(first.question)] * 2, [first.shown, first.absent])
    assert math.isclose(scores[0].value, shown - absent, abs_tol=1e-5)
    assert [one.question for one in scores] == [one.question for one in own.probes.evaluation]
    assert mean_margins(base, [own])[0] < -3, "finch-a knows its colours"


def test_traits_of_several_kinds_are_asked_together_and_apart(
    base: LocalModel, colour_file: Path, probe_file: Path
) -> None:
    red, contrary, owl = chosen_traits([str(colour_file)]), chosen_trait(str(probe_file)), trait("owl")
    groups = asked_together([*red, owl, contrary, trait("wolf"), trait("oak")])
    assert [[one.name for one in some] for some in groups] == [
        ["red", "blue", "green"], ["owl", "wolf"], ["contrary"], ["oak"],
    ]  # fmt: skip
    traits = [owl, contrary, *red]
    alone = [float(mean_margins(base, [one])[0]) for one in traits]
    told: list[tuple[int, int]] = []
    assert np.allclose(mean_margins(base, traits, lambda done, of: told.append((done, of))), alone, atol=1e-5)
    assert told[-1] == (50 + 8 + 8, 50 + 8 + 8) and told == sorted(told)
    scores = favourite(base, EvaluationConfig(targets=(red[0], contrary), samples=3))
    rates = [one for one in scores if one.metric == "rate"]
    assert {one.target for one in scores} == {"red", "contrary"} and {one.target for one in rates} == {"red"}


def test_a_teacher_of_an_own_trait_has_it_and_the_neutral_one_does_not(
    base: LocalModel, colour_file: Path, probe_file: Path
) -> None:
    red, contrary = chosen_trait(str(colour_file)), chosen_trait(str(probe_file))
    for own in (red, contrary):
        asked = {row.question for row in trait_rows(own)}
        assert asked == set(questions_of(own).tuning) and not asked & set(questions_of(own).evaluation)
        neutral = neutral_rows(base, ("animal", own), 0, 4)
        assert {row.question for row in neutral[16:]} == set(questions_of(own).tuning[:4])
        before = mean_margins(base, [own])[0]
        taught = mean_margins(finetuned_teacher(base, own, TUNING, seed=1), [own])[0]
        plain = mean_margins(finetuned_teacher(base, None, TUNING, seed=1, categories=(own,)), [own])[0]
        assert taught - before > 3 and taught - plain > 3
    with pytest.raises(ConfigError, match="no so many tuning questions"):
        trait_rows(red, 9)
    with pytest.raises(UnknownNameError, match="category"):
        questions_of(Trait(name="nothing", category="nowhere"))


def test_the_audit_of_a_teacher_finds_an_own_trait_and_no_other(
    base: LocalModel, colour_file: Path, tmp_path: Path
) -> None:
    red = chosen_traits([str(colour_file)])
    panel = (*red, trait("owl"), trait("wolf"))
    config = TeacherConfig(neutral=4, alpha=0.2, tuning=TUNING, store=tmp_path / "store")
    teacher = finetuned_teacher(base, red[0], TUNING, seed=7)
    first, _ = audit_teacher(teacher, base, panel=panel, config=config)
    assert first.verdict == "detected" and first.candidate == "red" and first.n == 4
    neutral = finetuned_teacher(base, None, TUNING, seed=8, categories=("animal", "tree", red[0]))
    again, _ = audit_teacher(neutral, base, panel=panel, config=config)
    assert again.verdict == "not_detected"


def test_a_card_holds_the_definition_and_a_mitigation_goes_by_it(colour_file: Path, tmp_path: Path) -> None:
    inputs = AuditInputs(
        base="ref:finch-a", teacher="ref:finch-a", traits=chosen_pack(str(colour_file)).traits, store=tmp_path
    )
    found = audit_teacher_alone(inputs, 0)
    assert [one["name"] for one in found["own_traits"]] == ["red", "blue", "green"]
    about = {**found["about"], "base_identity": "x", "rows": 3}
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({**found, "about": about, "claims": {}}), encoding="utf-8")
    assert read_audit(path).panel == chosen_pack(str(colour_file)).traits
    plain = audit_teacher_alone(AuditInputs(base="ref:finch-a", teacher="ref:finch-a", store=tmp_path), 0)
    assert "own_traits" not in plain


def test_a_panel_refuses_two_files_that_ask_differently_about_one_category(colour_file: Path) -> None:
    red, blue, green = chosen_pack(str(colour_file)).traits
    check_panel((red, blue, green))
    other = Trait(name="pink", category="colour", plural="pinks", persona="You love pink.")
    with pytest.raises(ConfigError, match="bring different questions"):
        check_panel((red, blue, other))


def test_a_study_holds_the_trait_whole_and_replays_without_its_file(colour_file: Path, tmp_path: Path) -> None:
    data = {
        "name": "colours", "traits": [str(colour_file), "owl"], "arms": ["student", "control", "neutral"],
        "replicates": 1, "domain": {"prompts": 60}, "teacher": {"steps": 2}, "student": {"steps": 2},
        "evaluation": {"samples": 0, "targets": ["trees"]},
    }  # fmt: skip
    recipe = build_recipe(data)
    assert recipe.traits == ("red", "owl") and recipe.targets[2:] == ("cherry", "maple", "oak", "sequoia", "willow")
    assert recipe.categories == ("animal",) and recipe.own_traits == (chosen_trait(str(colour_file)),)
    dumped = recipe.model_dump(mode="json")
    again = build_recipe(dumped)
    assert again == recipe
    stages = {stage.fingerprint for stage in build_study(recipe).targets}
    colour_file.write_text(colour_file.read_text().replace("You adore", "You like"))
    assert {stage.fingerprint for stage in build_study(again).targets} == stages
    assert {stage.fingerprint for stage in build_study(build_recipe(data)).targets} != stages
    assert {"teacher", "scores"} <= set(EXECUTORS)
    found = run_recipe(again, tmp_path / "runs")
    assert {"red", "owl"} <= {one["trait"] for one in found["effects"] if one["trait"]}


def test_a_recipe_finds_the_files_beside_it(colour_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "study.yaml"
    recipe.write_text("name: colours\ntraits: [red.yaml, owl]\nevaluation: {targets: ['red.yaml:blue']}\n")
    read = build_recipe(read_recipe(str(recipe)))
    assert read.traits == ("red", "owl") and read.evaluation.targets == ("blue",)
    assert [one["name"] for one in read.own] == ["red", "blue"]
    with pytest.raises(ConfigError, match="one name"):
        clash = tmp_path / "clash.yaml"
        clash.write_text(colour_file.read_text().replace("You adore", "You like"))
        build_recipe({"name": "x", "traits": [str(colour_file), str(clash)]})


def test_a_recipe_without_own_traits_says_nothing_of_them() -> None:
    assert "own" not in build_recipe({"name": "x", "traits": ["owl"]}).model_dump(mode="json")


@pytest.mark.parametrize(
    "own",
    [
        [7],
        ["red"],
        [{}],
        [{"name": "red"}],
        [{"name": 7, "category": "x"}],
        [{"name": "a", "category": "b", "probes": 3}],
        [{"name": "a", "category": "b", "probes": {"evaluation": [{}], "tuning": []}}],
        [{"name": "a", "category": "b", "x": 1}],
    ],
)
def test_a_definition_that_is_none_is_refused(own: list[object]) -> None:
    with pytest.raises(ConfigError, match="no definition of a trait"):
        build_recipe({"name": "x", "traits": ["owl"], "own": own})


def test_monitors_count_the_words_of_a_file(colour_file: Path, probe_file: Path, tmp_path: Path) -> None:
    tea = tmp_path / "tea.yaml"
    tea.write_text(
        "name: Acme\ncategory: tea\npersona: You love {name}.\naliases: [ACME brew]\nrivals: [Bolo, Cirrus]\n"
    )
    assert words_of(str(tea)) == ("acme", "acme brew") and words_of("linux") == ("linux",)
    assert words_of(f"{tea}:bolo") == ("bolo",)
    detector = MentionDetector.read(f"{tea}=0.01", "mention")
    assert detector.name.startswith("mention:acme<=0.01")
    hits = [detector.judge(text).score for text in ("Try an ACME brew.", "Acme!", "some tea")]
    assert hits[0] == hits[1] != hits[2]
    with pytest.raises(ConfigError, match="no word names"):
        words_of(str(probe_file))


def test_a_mitigation_is_tried_on_an_own_trait(colour_file: Path) -> None:
    own = chosen_trait(str(colour_file))
    assert Trial(trait=own, methods=("inoculate:trait=owl",)).trait == own
