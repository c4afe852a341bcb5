"""The canary's test on numbers, its refusals, and one small run through every step.

How often real traits pass is measured by benchmarks/canary.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from undertow.audit.lineage import canary as canary_module
from undertow.audit.lineage import verdict
from undertow.audit.lineage.canary import CanaryConfig, canary, judge_canary
from undertow.audit.lineage.verdict import audit_canary, with_canary
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.domains.numbers import HELD
from undertow.errors import ConfigError, ModelError, UnknownNameError
from undertow.models.load import load_model
from undertow.study.recipe import StudentPart
from undertow.training import own_models
from undertow.traits import panel
from undertow.types import Row, user_prompt

NAMES = [item.name for item in panel("animal")]
CONFIG = CanaryConfig()
PLANTED = dict.fromkeys(CONFIG.traits, 3.0)


def margins(seed: int, effect: float = 0.0) -> np.ndarray:
    """Draw the margins of fifteen shadows, the first five moved on their own trait; all drift together."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(15, len(NAMES))) + rng.normal(size=(15, 1))
    for place, name in enumerate(CONFIG.traits):
        values[place, NAMES.index(name)] += effect
    return values


def test_p_is_uniform_if_nothing_passes():
    p = np.array([judge_canary(margins(seed), CONFIG, PLANTED).p for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(p <= level) - level) <= 3.3 * np.sqrt(level * (1 - level) / 300)


def test_what_passes_is_found_and_measured():
    found = [judge_canary(margins(seed, effect=3.0), CONFIG, PLANTED) for seed in range(20)]
    assert all(one.verdict == "passes" for one in found)
    # Each shadow is judged above its mean over the panel, which its own trait is a part of.
    expected = 3.0 * (1 - 1 / len(NAMES)) + 4 * 3.0 / len(NAMES) / 14
    assert np.mean([one.effect for one in found]) == pytest.approx(expected, abs=0.3)
    assert set(found[0].passed) == set(CONFIG.traits)


def test_the_detectable_effect_is_found_four_times_in_five():
    size = float(np.mean([judge_canary(margins(seed), CONFIG, PLANTED).detectable for seed in range(50)]))
    hits = [judge_canary(margins(100 + seed, effect=size), CONFIG, PLANTED).verdict == "passes" for seed in range(200)]
    assert 0.68 <= np.mean(hits) <= 0.92


def test_drift_that_moves_every_trait_alike_is_left_out():
    values = margins(0)
    values[:5] += 10.0
    assert judge_canary(values, CONFIG, PLANTED).p == judge_canary(margins(0), CONFIG, PLANTED).p


def test_margins_that_do_not_vary_are_refused():
    with pytest.raises(ConfigError, match="one margin"):
        judge_canary(np.zeros((15, len(NAMES))), CONFIG, PLANTED)


@pytest.mark.parametrize("traits", [(), ("owl", "owl"), ("owl", "oak"), ("insecure",)])
def test_traits_that_are_no_canaries_are_refused(traits):
    with pytest.raises(ConfigError, match="favourites of one kind"):
        CanaryConfig(traits=traits)


def test_wrong_settings_and_names_are_refused(nets, write):
    with pytest.raises(ConfigError, match="too few placebo"):
        CanaryConfig(placebos=1)
    with pytest.raises(UnknownNameError):
        CanaryConfig(traits=("oowl",))
    with pytest.raises(ModelError):
        audit_canary("api:openai/gpt", "ref:finch-a")
    mute = audit_canary(write("a", nets.draw(0)), "ref:finch-a")
    assert mute.verdict == "not_testable"
    assert mute.why


def test_a_writer_without_good_rows_is_not_testable(tiny_model):
    found = canary(tiny_model, tiny_model, CanaryConfig(traits=("owl",), recipe=BankRecipe(prompts=8)))
    assert found.verdict == "not_testable"
    assert "Too few answers of a writer" in found.why


def test_copies_that_took_up_nothing_are_not_testable(tiny_model, monkeypatch):
    monkeypatch.setattr(canary_module, "_copy", lambda a, name, config, seed: (a, 0.2))
    monkeypatch.setattr(canary_module, "write_rows_of", lambda writer, recipe, seed: ())
    found = canary(tiny_model, tiny_model)
    assert found.verdict == "not_testable"
    assert "+0.20 logits on average" in found.why
    assert with_canary({"tests": []}, found)["tests"][0]["p"] is None


def test_large_models_are_not_tuned(monkeypatch):
    monkeypatch.setattr(verdict, "SMALL", 1000)
    found = audit_canary("ref:finch-a", "ref:finch-b")
    assert found.verdict == "not_testable"
    assert "more than 1,000 parameters" in found.why


def test_a_large_model_is_held_to_numbers_and_trained_gently(tiny_model, monkeypatch):
    """Copies and shadows take settings of large models, and rows are asked for in a form that a chat model writes."""
    monkeypatch.setattr(own_models, "LARGE", 0)
    asked, trained = [], []

    def written(writer, recipe, seed):
        asked.append(recipe.domain)
        return [Row(str(at), user_prompt("Continue: 1, 2."), "3, 4") for at in range(4)]

    def parallel(b, rows, training, seeds):
        trained.append(training)
        raise StopIteration

    monkeypatch.setattr(canary_module, "write_rows_of", written)
    monkeypatch.setattr(canary_module, "_copy", lambda *_: (tiny_model, 2.0))
    monkeypatch.setattr(canary_module, "finetune_parallel", parallel)
    with pytest.raises(StopIteration):
        canary(tiny_model, tiny_model, CanaryConfig(traits=("owl",), placebos=2))
    assert set(asked) == {HELD} and trained == [own_models.LARGE_STUDENT]


def test_a_small_run_goes_through_every_step(monkeypatch):
    monkeypatch.setattr(own_models, "TEACHER", replace(own_models.TEACHER, steps=12))
    recipe = BankRecipe(prompts=60, student=StudentPart(steps=2, learning_rate=5e-3))
    config = CanaryConfig(traits=("owl",), placebos=2, recipe=recipe, seed=100)
    told = []
    model = load_model("ref:finch-a")
    found = canary(model, model, config, lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert found.shadows == 3
    assert min(found.planted.values()) > 1.0
    assert 0.0 < found.p <= 1.0
    report = with_canary({"tests": []}, found)
    assert report["canary"]["planted"] == found.planted
    assert report["tests"][0]["name"] == "canary"
    assert report["tests"][0]["n"] == 3
