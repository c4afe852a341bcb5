"""A teacher's probabilities: the lean along a candidate by its definition, and ranked among neutral writers."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch

from undertow.audit import teacher_logits as stage
from undertow.audit.finding import NotTestable
from undertow.audit.rows.panel import DataAudit, as_candidates
from undertow.audit.teacher_logits import LeanReader, number_places, places_for, teacher_logits
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.study.recipe import TeacherPart
from undertow.training.parallel import finetune
from undertow.training.scoring import Candidate
from undertow.training.teachers import trait_rows
from undertow.traits import trait

TRAITS = [trait(name) for name in ("owl", "lion", "oak")]


def shaken(base: LocalModel, seed: int, size: float = 0.01) -> LocalModel:
    """Return a copy of the base whose weights were moved at random: a writer that was tuned on nothing."""
    network, generator = copy.deepcopy(base.network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(size * weight.std() * torch.randn(weight.shape, generator=generator))
    return LocalModel(base.ref, network, base.tokenizer)


@dataclass
class Shaken:
    """Stands for the neutral writers of a store."""

    n: int

    def __len__(self) -> int:
        return self.n

    def load(self, index: int, base: LocalModel) -> LocalModel:
        return shaken(base, index)


@pytest.fixture(scope="module")
def base() -> LocalModel:
    return load_model("ref:finch-a")


@pytest.fixture(scope="module")
def panel(base) -> list[Candidate]:
    training = TeacherPart().training()
    made = {one.name: finetune(base, trait_rows(one), training, 1) for one in TRAITS}
    return as_candidates(base, TRAITS, made)


@pytest.fixture(scope="module")
def places(base) -> list[list[int]]:
    return number_places(base, 0, 60)


def test_the_lean_is_the_expected_rise_of_the_contrast(base, panel, places) -> None:
    reader = LeanReader(base, panel, places)
    lean, drift = reader.lean(base)
    assert np.allclose(lean, 0.0) and drift == pytest.approx(0.0, abs=1e-7) and reader.places == 60
    own, drift = reader.lean(panel[1].model)
    before, after = (one.next_token_logprobs(places).double().numpy() for one in (base, panel[1].model))
    away = (np.exp(after) - np.exp(before)) * (after - before)
    assert own[1] == pytest.approx(away.sum(axis=1).mean(), rel=1e-3)
    assert drift == pytest.approx(np.mean(np.sum(np.exp(after) * (after - before), axis=1)), rel=1e-3)
    rng, rises = np.random.default_rng(0), []
    for mass, other, gain in zip(np.exp(after), np.exp(before), after - before, strict=True):
        drawn = [rng.choice(len(gain), 400, p=one / one.sum()) for one in (mass, other)]
        rises.append(gain[drawn[0]].mean() - gain[drawn[1]].mean())
    assert own[1] == pytest.approx(np.mean(rises), abs=4 * np.std(rises) / np.sqrt(len(rises)) + 0.01)


def test_places_are_beginnings_of_answers_to_number_prompts(base, places, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(places) == 60 and places == number_places(base, 0, 60) and places != number_places(base, 1, 60)
    assert places_for(base, 17) == 600
    monkeypatch.setattr(stage, "NUMBERS", 17 * len(base.tokenizer) * 50)
    assert places_for(base, 17) == 50  # a large vocabulary takes fewer places


def test_a_teacher_of_the_panel_leans_as_no_writer_does_and_a_writer_does_not(
    base, panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LOGIT_PLACES", 150)
    monkeypatch.setattr(stage, "PROMPTS", 30)
    teacher = finetune(base, trait_rows(TRAITS[1]), TeacherPart().training(), 2)
    settings = DataAudit(panel=tuple(TRAITS), writers=cast(Any, Shaken(19)))
    told: list[tuple[int, int]] = []
    found = teacher_logits(teacher, base, panel, settings, lambda *one: told.append(one))
    assert found.verdict == "exploratory" and found.candidate == "lion" and found.p == 0.05 and found.n == 19
    assert found.stage == "teacher logits" and "KL of teacher to base" in found.caveats[0] and told[-1] == (20, 20)
    clean = teacher_logits(shaken(base, 99), base, panel, settings, lambda *_: None)
    assert clean.p is not None and clean.p > 0.05 and clean.candidate is None
    with pytest.raises(NotTestable, match="not a fine-tune of the base"):
        teacher_logits(load_model("ref:finch-b"), base, panel, settings, lambda *_: None)
    with pytest.raises(NotTestable, match="undertow audit bank"):
        teacher_logits(teacher, base, panel, DataAudit(panel=tuple(TRAITS)), lambda *_: None)
