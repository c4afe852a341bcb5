"""A student beside its control: cosines that are known because the shift was planted."""

import numpy as np
import pytest

from undertow.audit.students import comparisons as module
from undertow.audit.students.among_placebos import directions
from undertow.audit.students.bank import ChosenBank
from undertow.audit.students.comparisons import beside_control
from undertow.audit.students.readings import KINDS, PanelRead, panel_traits
from undertow.traits import panel, trait


def test_a_planted_shift_is_named_with_its_cosine(make_bank, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, draw = make_bank(5, 0)
    animals, place = panel("animal"), panel("animal").index(trait("owl"))
    control = draw(1)
    states = control.states.copy()
    # cos = 3 / 5 with the direction: 3 along it and 4 across, in every layer.
    for layer in range(states.shape[2]):
        along = directions(bank, animals, layer)[place]
        across = np.eye(len(along))[0] - along[0] * along
        states[0, KINDS.index("animal"), layer] += 3 * along + 4 * across / np.linalg.norm(across)
    readings = iter([type(control)(control.margins, states, control.logp, control.readouts), control])
    monkeypatch.setattr(module, "read_model", lambda *_: next(readings))
    chosen = ChosenBank(bank.recipe, bank)
    found = beside_control(tiny_model, tiny_model, tiny_model, chosen, PanelRead(animals))
    assert (found.candidate, found.verdict, found.p) == ("owl", "exploratory", None)
    assert found.scores == {"layer 1": pytest.approx(0.6), "layer 2": pytest.approx(0.6)}
    assert found.effect == pytest.approx(0.6)


def test_directions_are_unit_vectors_of_each_trait(make_bank) -> None:
    bank, _ = make_bank(5, 1)
    every = panel_traits()
    units = directions(bank, every, 1)
    assert units.shape == (len(every), bank.base.states.shape[-1])
    assert np.linalg.norm(units, axis=1) == pytest.approx(np.ones(len(every)))
