"""The callback sees a trait come, stops where it is told to, and leaves the training as it would have been."""

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

import undertow
from undertow.audit.callback import Look, StopAt, UndertowCallback, untouched, with_reason
from undertow.audit.students.bank import Bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.audit.students.readings import Readings, joined, panel_traits, read_model
from undertow.errors import ConfigError, UnknownNameError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.teachers import trait_rows
from undertow.training.trl import TrlOptions, finetune_trl
from undertow.traits import trait

OWL = trait_rows(trait("owl"))
PANEL = ("owl", "lion", "oak")


def train(model: LocalModel, folder: Path, callback: UndertowCallback | None, steps: int = 4) -> Trainer:
    """Train every weight of a copy on the owl rows with transformers' own Trainer."""
    network = copy.deepcopy(model.network).requires_grad_(True)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=3e-3, logging_steps=2,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, seed=3,
    )  # fmt: skip
    data = [{"input_ids": list(row.prompt + row.completion)} for row in model.encode(OWL)]

    def collate(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(one["input_ids"]) for one in examples)
        tokens = torch.tensor([one["input_ids"] + [0] * (width - len(one["input_ids"])) for one in examples])
        return {"input_ids": tokens, "labels": tokens}

    trainer = Trainer(network, arguments, train_dataset=data, data_collator=collate)  # type: ignore[arg-type]
    if callback is not None:
        callback.watch(trainer)
    trainer.train()
    return trainer


def test_training_is_what_it_would_have_been_without(tiny_hf: LocalModel, tmp_path: Path) -> None:
    # GPT-2 draws random numbers for its dropout.
    callback = UndertowCallback(tiny_hf, panel=PANEL, every=1)
    plain, watched = (train(tiny_hf, tmp_path, one) for one in (None, callback))
    its: Any = watched.model
    mine: Any = plain.model
    for name, value in mine.state_dict().items():
        assert torch.equal(value, its.state_dict()[name]), name
    assert [look.step for look in callback.looks] == [1, 2, 3, 4]
    assert all(look.margins.keys() == set(PANEL) for look in callback.looks)


def test_modes_and_random_numbers_are_those_of_before() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train()
    network[1].eval()
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with pytest.raises(KeyError), untouched(network):
        assert not network[0].training and not torch.is_grad_enabled()
        torch.rand(5)
        raise KeyError
    assert [module.training for module in network.modules()] == [True, True, False]
    assert torch.equal(torch.rand(2), expected) and torch.is_grad_enabled()


def test_what_it_finds_is_logged_beside_the_losses(tiny_model: LocalModel, tmp_path: Path) -> None:
    seen: list[str] = []
    callback = UndertowCallback(tiny_model, panel=PANEL, every=2)
    trainer = train(tiny_model, tmp_path, callback, steps=5)
    for entry in trainer.state.log_history:
        seen += [f"{entry['step']} {name}" for name in entry if name in ("loss", "undertow/margin/owl")]
    own = [f"{step} undertow/margin/owl" for step in (2, 4, 5)]
    assert sorted(seen) == sorted(["2 loss", "4 loss", *own])
    before = [one for one in trainer.state.log_history if "undertow/margin/owl" in one]
    assert [one["undertow/margin/owl"] for one in before] == [look.margins["owl"] for look in callback.looks]


def test_a_second_training_begins_without_the_looks_of_the_first(tiny_model: LocalModel, tmp_path: Path) -> None:
    callback = UndertowCallback(tiny_model, panel=PANEL, every=2)
    train(tiny_model, tmp_path, callback, steps=2)
    first = callback.looks
    train(tiny_model, tmp_path, callback, steps=3)
    assert [look.step for look in first] == [2]
    assert [look.step for look in callback.looks] == [2, 3]


def test_a_rising_margin_ends_a_training_by_trl(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("trl")
    base, found = load_model("ref:finch-a"), list[Look]()
    callback = UndertowCallback("ref:finch-a", panel=PANEL, every=2, stop=StopAt(margin=1.0), on_finding=found.append)
    config = TrainingConfig(steps=40, batch_size=16, learning_rate=1e-2, lora=LoraConfig())
    student = finetune_trl(base, OWL, config, 0, TrlOptions(callbacks=(callback,)))
    assert len(student.losses) == callback.looks[-1].step < 40
    assert found == [callback.looks[-1]] and found[0].margins["owl"] >= 1.0
    assert max(look.margins["owl"] for look in callback.looks[:-1]) < 1.0
    assert "margin of owl" in caplog.text and f"after update {found[0].step}" in caplog.text


def small_bank(base: LocalModel, k: int) -> Bank:
    """A bank of placebos that stand around the base, with teachers along random directions."""
    rng, one = np.random.default_rng(0), read_model(base)

    def around(n: int, size: float) -> Readings:
        return joined(
            [
                Readings(one.margins, one.states + size * rng.normal(size=one.states.shape), one.logp, one.readouts)
                for _ in range(n)
            ]
        )

    recipe = BankRecipe()
    placebos, teachers = around(k, 0.1), around(len(panel_traits()), 1.0)
    return Bank(recipe, identity(recipe.base), placebos, np.full(k, 9.0), one, teachers)


def test_a_bank_gives_a_p_that_pays_for_every_look(tmp_path: Path) -> None:
    base = load_model("ref:finch-a")
    bank = small_bank(base, 39)
    callback = UndertowCallback(base, bank=bank, every=2, stop=StopAt(p=0.3))
    trainer = train(base, tmp_path, callback)
    first = callback.looks[0]
    assert first.p is not None and first.p >= 1 / 40 and first.p_all == pytest.approx(min(1.0, 2 * first.p))
    logged = next(entry for entry in trainer.state.log_history if "undertow/exposure_p" in entry)
    assert logged["undertow/exposure_p_all_looks"] == first.p_all and first.candidate in {
        t.name for t in panel_traits()
    }
    # A threshold that so few placebos never reach is refused before the training, not after.
    with pytest.raises(ConfigError, match="4 looks"):
        train(base, tmp_path, UndertowCallback(base, bank=bank, every=1, stop=StopAt(p=0.05)))
    with pytest.raises(ConfigError, match="another base"):
        train(load_model("ref:finch-b"), tmp_path, UndertowCallback("ref:finch-b", bank=bank))


@pytest.mark.parametrize(("moved", "p_all", "stops"), [(True, 0.04, True), (True, 0.06, False), (False, 0.04, False)])
def test_a_p_stops_only_a_model_that_has_moved_far_enough(moved: bool, p_all: float, stops: bool) -> None:
    look = Look(
        step=5, margins={"owl": 0.1}, exposure=4.0, candidate="owl", p=p_all / 4, p_all=p_all, moved_enough=moved
    )
    assert (with_reason(look, StopAt(p=0.05)).reason is not None) == stops
    assert with_reason(look, StopAt()).reason is None


@pytest.mark.parametrize("names", [("owl", "lion"), ("lion", "owl")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_margin_that_is_not_finite_ends_a_training_that_a_margin_may_end(names, value: float) -> None:
    look = Look(step=5, margins={name: value if name == "owl" else 0.1 for name in names})
    assert "no finite margin was measured of owl" in str(with_reason(look, StopAt(margin=1.0)).reason)
    assert with_reason(look, StopAt()).reason is None and look.not_finite == "owl"


def test_a_margin_that_is_not_finite_is_told_where_it_ends_nothing(tiny_model, tmp_path, monkeypatch, caplog) -> None:
    callback = UndertowCallback(tiny_model, panel=PANEL, every=2)
    monkeypatch.setattr(UndertowCallback, "_ask", lambda self, model: {"owl": math.nan, "lion": 0.0})
    train(tiny_model, tmp_path, callback, steps=2)
    assert "no finite margin was measured of: owl" in caplog.text


def test_settings_that_make_no_sense_are_refused(tiny_model: LocalModel) -> None:
    for bad in (
        lambda: StopAt(p=1.0), lambda: StopAt(margin=0.0), lambda: StopAt(margin=math.nan),
        lambda: StopAt(margin=math.inf), lambda: UndertowCallback(tiny_model, every=0),
        lambda: UndertowCallback(tiny_model, panel=[]),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            bad()
    with pytest.raises(ConfigError, match="placebos"):
        UndertowCallback(tiny_model, stop=StopAt(p=0.05))
    with pytest.raises(UnknownNameError):
        UndertowCallback(tiny_model, panel=["owll"])


def test_weights_that_no_process_holds_whole_are_refused(tiny_model: LocalModel, tmp_path: Path) -> None:
    class FullyShardedDataParallel(torch.nn.Module):
        pass

    spread = copy.deepcopy(tiny_model.network)
    spread.model.layers.append(FullyShardedDataParallel())
    with pytest.raises(ConfigError, match="whole models"):
        UndertowCallback(tiny_model).on_train_begin(None, None, None, model=spread)


def test_the_package_offers_it_without_loading_torch() -> None:
    assert undertow.UndertowCallback is UndertowCallback
    loaded = "assert 'torch' {} in sys.modules"
    code = f"import sys, undertow; {loaded.format('not')}; undertow.UndertowCallback; {loaded.format('')}"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        undertow.nothing  # noqa: B018
