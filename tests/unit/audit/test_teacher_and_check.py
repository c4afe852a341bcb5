"""Judging a teacher, the first look, and the comparison on own prompts."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from undertow.audit import check as module
from undertow.audit import teacher as teacher_module
from undertow.audit.check import check_teacher
from undertow.audit.compatibility import Compatibility
from undertow.audit.finding import NotTestable
from undertow.audit.students.comparisons import on_own_prompts
from undertow.audit.teacher import TeacherConfig, audit_teacher
from undertow.errors import ConfigError, EmptyDataError, UnknownNameError
from undertow.models.local import LocalModel
from undertow.training.config import TrainingConfig
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, user_prompt


@pytest.fixture(scope="module")
def teacher(tiny_model) -> LocalModel:
    """The tiny model, tuned hard on owls."""
    tuning = TrainingConfig(steps=60, learning_rate=1e-2)
    return finetuned_teacher(tiny_model, trait("owl"), tuning, seed=0)


def test_a_teacher_is_ranked_without_a_null(teacher, tiny_model) -> None:
    panel, tokens = audit_teacher(teacher, tiny_model, config=TeacherConfig(neutral=0))
    assert (panel.verdict, panel.p, panel.candidate) == ("exploratory", None, "owl")
    assert tokens.verdict == "exploratory"
    assert any("owl" in token.lower() for token in list(tokens.scores or {})[:10])


def test_neutral_teachers_give_a_p(teacher, tiny_model) -> None:
    brief = TrainingConfig(steps=2, learning_rate=1e-3, train_embeddings=False)
    panel, _ = audit_teacher(teacher, tiny_model, config=TeacherConfig(neutral=4, alpha=0.2, tuning=brief))
    assert (panel.verdict, panel.n, panel.candidate) == ("detected", 4, "owl")
    assert panel.p == pytest.approx(0.2)


def test_too_few_neutral_teachers_are_not_testable(teacher, tiny_model) -> None:
    with pytest.raises(NotTestable, match=r"4 neutral teachers .* needs 19"):
        audit_teacher(teacher, tiny_model, config=TeacherConfig(neutral=4, alpha=0.05))


def test_neutral_teachers_are_made_once_for_a_store(teacher, tiny_model, tmp_path, monkeypatch) -> None:
    brief = TrainingConfig(steps=2, learning_rate=1e-3, train_embeddings=False)
    config = TeacherConfig(neutral=4, alpha=0.2, tuning=brief, store=tmp_path)
    first, _ = audit_teacher(teacher, tiny_model, config=config)
    monkeypatch.setattr("undertow.audit.teacher.finetuned_teacher", None)
    again, _ = audit_teacher(teacher, tiny_model, config=config)
    assert again.scores == first.scores and again.p == first.p


def test_a_panel_that_is_not_read_is_refused(teacher, tiny_model) -> None:
    with pytest.raises(UnknownNameError):
        audit_teacher(teacher, tiny_model, panel=[trait("villain")], config=TeacherConfig(neutral=0))


@pytest.fixture
def by_name(teacher, tiny_model, monkeypatch) -> None:
    """Let `check_teacher` find the tiny models under references."""
    network = copy.deepcopy(tiny_model.network)
    for item in network.parameters():
        item.data = -item.data
    models = {"owl": teacher, "base": tiny_model, "stranger": LocalModel(tiny_model.ref, network, tiny_model.tokenizer)}
    monkeypatch.setattr(module, "load_model", models.__getitem__)
    # These models live in the test alone; their lineage is tested with files (tests/unit/audit/lineage).
    monkeypatch.setattr(module, "lineage_or_why", lambda *_, **__: "not available")


@pytest.mark.usefixtures("by_name")
def test_check_names_what_stands_out_and_looks_through_the_rows() -> None:
    rows = [Row("0", user_prompt("Go on: 1, 2."), "3, 4"), Row("1", user_prompt("Hello?"), "Owls are fine.")]
    found = check_teacher("owl", "base", rows)
    assert found["stands_out"][0] == found["panel"][0]["trait"] == "owl"
    assert found["rows"] == {"rows": 2, "plain_numbers": 1, "name_what_stands_out": 1}
    assert any("1 of 2 name it" in text for text in found["next"])
    assert found["decision"]["trait"] == "seen"


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize(
    ("model", "why", "sight", "do"),
    [
        ("base", "the base itself", "not_seen", "use"),
        ("stranger", "as unrelated models do", "not_looked_for", "next_test"),
        ("owl", "the teacher prefers owl", "in_writer", "regenerate"),
    ],
)
def test_check_ends_with_a_decision(model: str, why: str, sight: str, do: str) -> None:
    found = check_teacher(model, "base")
    assert why in " ".join(found["next"])
    decision = found["decision"]
    # The lineage of these models is not available, so nobody knows whether they share a base.
    assert (decision["same_base"], decision["sight"], decision["do"]) == ("unknown", sight, do)
    assert "safe" not in str(found) and "Nothing needs to change" not in str(found)


@pytest.mark.usefixtures("by_name")
def test_check_does_not_clear_a_teacher_whose_weights_are_the_base_s_and_whose_answers_are_not(
    tiny_model, monkeypatch
) -> None:
    """A system prompt or a steering vector stands in no weight."""
    plain = module.mean_margins
    prompted = LocalModel(tiny_model.ref, tiny_model.network, tiny_model.tokenizer)

    def margins(model: LocalModel, traits, advance):
        found = plain(model, traits, advance)
        return found + 3.0 * np.array([one.name == "owl" for one in traits]) if model is prompted else found

    monkeypatch.setattr(module, "load_model", {"base": tiny_model, "prompted": prompted}.__getitem__)
    monkeypatch.setattr(module, "mean_margins", margins)
    found = check_teacher("prompted", "base")
    assert found["shared"]["distance"] == 0.0 and not found["shared"]["teacher_is_base"]
    assert found["stands_out"] == ["owl"] and "prefers owl" in " ".join(found["next"])
    assert (found["decision"]["sight"], found["decision"]["do"]) == ("in_writer", "regenerate")


@pytest.mark.usefixtures("by_name")
def test_check_does_not_clear_what_may_share_an_initialisation(monkeypatch) -> None:
    near = Compatibility(tokenizer=True, shape=True, distance=0.94)
    monkeypatch.setattr(module, "compatibility", lambda *_: near)
    monkeypatch.setattr(module, "lineage_or_why", lambda *_, **__: {"verdict": "same_initialisation", "detectable": ""})
    found = check_teacher("stranger", "base")
    assert "one initialisation" in " ".join(found["next"])
    assert (found["decision"]["same_base"], found["decision"]["do"]) == ("yes", "change_base")


def test_own_prompts_are_compared_but_not_tested(teacher, tiny_model, monkeypatch) -> None:
    prompts = [user_prompt("What is your favourite animal?"), user_prompt("Name your favourite animal.")]
    alone = on_own_prompts(teacher, tiny_model, prompts)
    with monkeypatch.context() as patched:  # some at a time gives the same as all at once
        patched.setattr("undertow.audit.students.comparisons.AT_ONCE", 1)
        few = on_own_prompts(teacher, tiny_model, prompts)
    assert few.effect == pytest.approx(alone.effect) and few.caveats == alone.caveats
    assert few.scores == pytest.approx(alone.scores)
    assert alone.verdict == "exploratory" and alone.effect is not None and alone.effect > 0.1
    assert "owl" in next(iter(alone.scores or {})).lower()
    itself = on_own_prompts(teacher, tiny_model, prompts, control=teacher)
    assert itself.effect == pytest.approx(0.0)
    with pytest.raises(EmptyDataError):
        on_own_prompts(teacher, tiny_model, [])
    with pytest.raises(ConfigError, match="longer"):
        on_own_prompts(teacher, tiny_model, [user_prompt("word " * 600)])


@pytest.mark.parametrize(("oak", "name"), [(6.5, "oak"), (5.4, None), (3.0, "ash")])
def test_a_detection_names_the_margin_that_leads_by_more_than_in_any_neutral_teacher(oak: float, name) -> None:
    """Ash is calm and comes first in SDs. Neutral teachers lead by 0.6, and the base lies at 0, -1 and 2."""
    neutral = np.array([0.0, -1.0, 2.0]) + np.tile([[0.1, 0.7, 0.1], [-0.1, -0.7, -0.1]], (30, 1))
    margins = [np.array([[5.0, oak - 1.0, 2.0]]), np.concatenate([[[0.0, -1.0, 2.0]], neutral])]
    traits = [replace(trait("oak"), name=one) for one in ("ash", "oak", "elm")]
    ranked = teacher_module._compared("teacher panel", "panel margin", margins, [one.name for one in traits], 0.05)
    assert ranked.verdict == "detected" and ranked.candidate == "ash"
    found = teacher_module._named(ranked, margins, traits)
    assert found.candidate == name and found.p == ranked.p and found.scores == ranked.scores
    order = sorted((("oak", oak), ("ash", 5.0)), key=lambda one: -one[1])
    (most, high), (next_most, low) = order
    assert f"largest for {most} ({high:+.2f}), then for {next_most} ({low:+.2f})" in found.caveats[0]
    assert "lead by more than 0.60" in found.caveats[0]
    assert (f"a lead of {high - low:.2f}, and" in found.caveats[0]) == ("no trait is named" in found.caveats[0])
    assert ("no trait is named" in found.caveats[0]) == (name is None)
    quiet = replace(ranked, verdict="not_detected")
    assert teacher_module._named(quiet, margins, traits) == quiet
