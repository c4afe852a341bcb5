"""The stages of the student audit on drawn readings."""

from dataclasses import replace

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.students.among_placebos import audit_student, judge_reading, too_few_placebos
from undertow.audit.students.bank import ChosenBank
from undertow.audit.students.readings import KINDS, PanelRead, panel_traits
from undertow.errors import UnknownNameError
from undertow.stats.estimates import wilson
from undertow.traits import trait

OWL = panel_traits().index(trait("owl"))


def test_a_raised_margin_is_named(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    suspect = draw(1)
    margins = suspect.margins.copy()
    margins[0, OWL] += 60.0
    expression = judge_reading(replace(suspect, margins=margins), bank)[0]
    assert (expression.verdict, expression.candidate, expression.claim) == ("detected", "owl", "expression")
    assert expression.p == pytest.approx(1 / 40)
    assert expression.mde is not None and 2.0 < expression.mde < 10.0


def test_a_lowered_margin_is_no_trait(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    suspect = draw(1)
    margins = bank.placebos.margins.mean(axis=0, keepdims=True)
    margins[0, OWL] -= 60.0
    assert judge_reading(replace(suspect, margins=margins), bank)[0].verdict == "not_detected"


def test_a_shift_along_one_direction_is_exposure_alone(make_bank) -> None:
    bank, draw = make_bank(39, 3)
    moved = (bank.teachers.states - bank.base.states)[:, KINDS.index("animal"), -1]
    animals = [place for place, item in enumerate(panel_traits()) if item.category == "animal" and place != OWL]
    direction = moved[OWL] - moved[animals].mean(axis=0)
    suspect = draw(1)
    states = bank.placebos.states.mean(axis=0, keepdims=True)
    states[0, KINDS.index("animal"), -1] += 60.0 * direction
    margins = bank.placebos.margins.mean(axis=0, keepdims=True)
    found = {one.stage: one for one in judge_reading(replace(suspect, states=states, margins=margins), bank)}
    assert (found["activations"].verdict, found["activations"].candidate) == ("detected", "owl")
    assert found["panel margins"].verdict == "not_detected"
    layers = found["activations by layer"]
    assert layers.p is None and layers.scores is not None
    assert layers.scores["layer 2"] == pytest.approx(1.0, abs=1e-6)


def test_the_panel_is_what_was_declared(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    suspect = draw(1)
    margins = suspect.margins.copy()
    margins[0, OWL] += 60.0
    found = judge_reading(replace(suspect, margins=margins), bank, panel=[trait("lion"), trait("oak")])[0]
    assert set(found.scores or {}) == {"lion", "oak"}
    with pytest.raises(UnknownNameError):
        judge_reading(suspect, bank, panel=[trait("villain")])


def test_a_suspect_that_moved_far_is_warned_of(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    suspect = draw(1)
    far = judge_reading(replace(suspect, states=suspect.states + 100.0), bank)[0]
    assert any("times as far" in text for text in far.caveats)
    assert not any("times as far" in text for text in judge_reading(suspect, bank)[0].caveats)


@pytest.mark.parametrize(
    ("k", "alpha", "fits"), [(19, 0.05, True), (18, 0.05, False), (98, 0.01, False), (1, 0.5, False)]
)
def test_too_few_placebos_are_no_null(k: int, alpha: float, fits: bool) -> None:
    assert (too_few_placebos(k, alpha) is None) == fits


def test_another_base_is_not_testable(make_bank, tiny_model) -> None:
    bank, _ = make_bank(39, 0)
    with pytest.raises(NotTestable, match="placebos of ref:finch-a"):
        audit_student(tiny_model, tiny_model, ChosenBank(bank.recipe, bank), PanelRead(panel_traits()), 0.05)


def beside(bank, rng: np.random.Generator) -> np.ndarray:
    """Return margins behind rows of a suspect and the bank's placebos, of one law."""
    return rng.normal(-3.0, 0.3, size=(len(bank) + 1, len(panel_traits())))


def test_a_trait_behind_rows_alone_is_found_and_said_to_be_there(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    behind = beside(bank, np.random.default_rng(0))
    behind[0, OWL] += 5.0
    suspect = replace(draw(1), margins=bank.placebos.margins.mean(axis=0, keepdims=True))
    found = {one.stage: one for one in judge_reading(suspect, bank, behind=behind)}
    assert (found["panel margins"].verdict, found["panel margins"].candidate) == ("detected", "owl")
    assert (found["in-context margins"].verdict, found["in-context margins"].candidate) == ("detected", "owl")
    assert next(iter(found["panel margins"].scores or {})) == "owl behind rows"
    assert "behind rows alone 0.025" in found["panel margins"].caveats[0]
    plainly = {one.stage: one for one in judge_reading(suspect, bank)}
    assert plainly["panel margins"].verdict == "not_detected"
    assert plainly["in-context margins"].verdict == "not_testable"


def test_a_trait_that_shows_plainly_is_found_with_both_looks(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    suspect = draw(1)
    margins = suspect.margins.copy()
    margins[0, OWL] += 60.0
    found = judge_reading(replace(suspect, margins=margins), bank, behind=beside(bank, np.random.default_rng(1)))
    assert (found[0].verdict, found[0].candidate) == ("detected", "owl") and found[4].verdict == "not_detected"


def test_two_looks_at_once_keep_the_level(make_bank) -> None:
    """Clean students are detected in either look with alpha, though there are twice as many margins to stand out in."""
    rng, k, n, alpha = np.random.default_rng(0), 19, 400, 0.1
    hits = 0
    for at in range(n):
        bank, draw = make_bank(k, at)
        # Both looks move together in each model, as they do in students.
        margins = np.vstack([(one := draw(1)).margins, bank.placebos.margins])
        behind = margins * 0.1 + beside(bank, rng)
        hits += judge_reading(one, bank, alpha=alpha, behind=behind)[0].verdict == "detected"
    rate = wilson(hits, n)
    assert rate.low <= alpha <= rate.high


def test_a_bank_that_was_made_before_says_so_and_still_judges_plainly(make_bank) -> None:
    bank, draw = make_bank(39, 0)
    found = {one.stage: one for one in judge_reading(draw(1), bank)}
    assert found["panel margins"].p is not None and "Asked plainly alone" in found["panel margins"].caveats[0]
    assert "never asked behind rows" in found["in-context margins"].caveats[0]
