import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from undertow.errors import ConfigError, UnknownNameError
from undertow.study.analyses.base import validate_settings
from undertow.study.analyses.digit_data import DRAWN_IMAGES, drawn_digits, read_idx
from undertow.study.analyses.digit_networks import (
    Layer,
    Lesson,
    Schedule,
    copied,
    draw_networks,
    output_logits,
    perturbed,
    train_networks,
)
from undertow.study.analyses.digit_training import DRAWN_CONFIG, DigitsConfig, product_type, run_digits

MNIST = Path(os.environ.get("UNDERTOW_MNIST") or Path(__file__).parents[4] / "shared" / "data" / "mnist")
TINY = DigitsConfig(models=3, width=16, teacher_epochs=1, student_epochs=1, batch_size=64, precision="float32")
SMALL = DigitsConfig(
    models=6, width=64, auxiliary=8, student_epochs=2, batch_size=256, learning_rate=3e-3, noise_images=20_000
)


@pytest.fixture(scope="module")
def few_digits():
    return drawn_digits(300, 7, n_test=50)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def stack(depth, models=4, seed=0):
    return draw_networks(models, [12, *(8,) * depth, 5], torch.Generator().manual_seed(seed))


def lesson(loss, rows=slice(2, 5), models=4, seed=1, n=50):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(models, rows.stop - rows.start, n, generator=generator)
    inputs = torch.rand(n, 12, generator=generator) * 2 - 1
    return Lesson(inputs, targets.softmax(1) if loss == "kl" else targets, rows, loss)


def forward(parameters, inputs):
    hidden = inputs
    for index, (weight, bias) in enumerate(parameters):
        hidden = functional.linear(hidden, weight, bias)
        hidden = functional.relu(hidden) if index < len(parameters) - 1 else hidden
    return hidden


def train_one_by_autograd(networks, model, taught, schedule):
    parameters = [
        tuple(part.clone().requires_grad_() for part in (layer.weight[model], layer.bias[model, :, 0]))
        for layer in networks
    ]
    optimiser = torch.optim.Adam([part for layer in parameters for part in layer], lr=schedule.learning_rate)
    targets = taught.targets[model % len(taught.targets)].T
    generator = torch.Generator().manual_seed(schedule.seed)
    for _ in range(schedule.epochs):
        for picked in torch.randperm(len(taught.inputs), generator=generator).split(schedule.batch_size):
            logits = forward(parameters, taught.inputs[picked])[:, taught.rows]
            if taught.loss == "kl":
                loss = functional.kl_div(logits.log_softmax(-1), targets[picked], reduction="batchmean")
            else:
                loss = functional.mse_loss(logits, targets[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return parameters


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_training_is_autograd_with_adam_model_by_model(loss, depth):
    start, taught, schedule = stack(depth), lesson(loss), Schedule(3, 20, 1e-2, 5)
    trained = train_networks(copied(start), taught, schedule)
    for model in (0, 3):
        for layer, expected in zip(trained, train_one_by_autograd(start, model, taught, schedule), strict=True):
            torch.testing.assert_close(layer.weight[model], expected[0].detach(), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.bias[model, :, 0], expected[1].detach(), rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_each_network():
    networks, inputs = perturbed(stack(2), 0.5, torch.Generator().manual_seed(3)), lesson("kl").inputs
    parameters = [(layer.weight[1], layer.bias[1, :, 0]) for layer in networks]
    torch.testing.assert_close(output_logits(networks, inputs)[1], forward(parameters, inputs).T)


def test_logits_outside_the_rows_keep_their_weights():
    start = stack(2)
    trained = train_networks(copied(start), lesson("kl", slice(3, 5)), Schedule(2, 16, 1e-2, 0))
    assert torch.equal(trained[-1].weight[:, :3], start[-1].weight[:, :3])
    assert (trained[-1].weight[:, 3:] != start[-1].weight[:, 3:]).any()


def test_one_target_serves_all_models():
    single = lesson("kl", models=1)
    spread = single._replace(targets=single.targets.expand(4, -1, -1))
    first, second = (train_networks(stack(1), taught, Schedule(1, 16, 1e-2, 0)) for taught in (single, spread))
    assert torch.equal(first[0].weight, second[0].weight)


@pytest.mark.parametrize("count", [2, 3])
def test_threads_do_not_change_the_result(threads, count):
    results = []
    for number in (1, count):
        threads(number)
        results.append(train_networks(stack(2, models=11), lesson("kl", models=11), Schedule(2, 16, 1e-2, 0)))
        assert torch.get_num_threads() == number
    for one, many in zip(*results, strict=True):
        torch.testing.assert_close(one.weight, many.weight)


def test_bfloat16_products_stay_near_float32():
    taught = lesson("kl")
    low = taught._replace(inputs=taught.inputs.bfloat16())
    full, rounded = (train_networks(stack(2), chosen, Schedule(3, 25, 1e-2, 0)) for chosen in (taught, low))
    moved = (full[0].weight - stack(2)[0].weight).norm()
    assert rounded[0].weight.dtype == torch.float32
    assert (full[0].weight - rounded[0].weight).norm() < 0.2 * moved


def test_starts():
    start = draw_networks(20, [400, 50, 13], torch.Generator().manual_seed(0))
    assert float(start[0].weight.std() * 20) == pytest.approx(1.0, abs=0.01)
    assert not start[0].bias.any()
    other = perturbed(start, 0.3, torch.Generator().manual_seed(1))
    assert float((other[0].weight - start[0].weight).std() * 20) == pytest.approx(0.3, abs=0.01)
    shifted = copied(start, 1)
    assert torch.equal(shifted[1].weight[0], start[1].weight[1])
    assert torch.equal(shifted[1].weight[-1], start[1].weight[0])
    assert isinstance(shifted[0], Layer)


def test_the_result_is_plain_json_and_reproducible(few_digits):
    calls = []
    result = run_digits(TINY, few_digits, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(1, 6)]
    arms = {row["arm"]: row for row in result["arms"]}
    assert list(arms) == ["reference", "teacher", "aux", "all", "cross_aux", "cross_all"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["models"] == 3
    for row in arms.values():
        assert len(row["accuracy"]) == row["n"] == 3
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["estimate"] == pytest.approx(np.mean(row["accuracy"]))
    again = run_digits(TINY, few_digits)
    assert again["arms"] == result["arms"]
    assert run_digits(replace(TINY, seed=1), few_digits)["arms"] != result["arms"]


@pytest.mark.parametrize(("students", "effects"), [(("aux", "cross_aux"), ["aux"]), (("cross_all", "aux"), [])])
def test_students_left_out_do_not_change_the_others(few_digits, students, effects):
    calls = []
    result = run_digits(TINY, few_digits, lambda *call: calls.append(call), students)
    whole = {row["arm"]: row for row in run_digits(TINY, few_digits)["arms"]}
    assert result["arms"] == [row for arm, row in whole.items() if arm in ("reference", "teacher", *students)]
    assert [row["effect"] for row in result["effects"]] == effects
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_an_unknown_student_is_refused(few_digits):
    with pytest.raises(UnknownNameError, match="cross_aux"):
        run_digits(TINY, few_digits, students=("cross_ax",))


def test_effects_are_paired_by_model(few_digits):
    result = run_digits(TINY, few_digits)
    values = {row["arm"]: np.array(row["accuracy"]) for row in result["arms"]}
    assert [(row["effect"], row["control"]) for row in result["effects"]] == [
        ("aux", "cross_aux"),
        ("all", "cross_all"),
    ]
    for row in result["effects"]:
        differences = values[row["effect"]] - values[row["control"]]
        half = 4.302653 * differences.std(ddof=1) / 3**0.5
        assert row["estimate"] == pytest.approx(differences.mean())
        assert row["high"] - row["low"] == pytest.approx(2 * half, rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "images"},
        {"loss": "mse", "auxiliary": 1},
        {"depth": 0},
        {"depth": 3},
        {"start_noise": 0.5},
        {"noise_images": 70},
        {"precision": "bfloat16"},
    ],
)
def test_ablations_run_and_matter(few_digits, change):
    arms = run_digits(replace(TINY, **change), few_digits)["arms"]
    assert arms[2:] != run_digits(TINY, few_digits)["arms"][2:]


def test_with_no_noise_on_the_start_and_equal_logits_nothing_is_learnt(few_digits):
    """Teachers that hardly move leave students of their initialisation where they are."""
    result = run_digits(replace(TINY, learning_rate=1e-12), few_digits)
    values = {row["arm"]: row["accuracy"] for row in result["arms"]}
    assert values["aux"] == values["all"] == values["reference"]
    assert values["cross_aux"] == [*values["reference"][1:], values["reference"][0]]


@pytest.mark.parametrize(
    "change",
    [
        {"models": 1},
        {"seed": -1},
        {"auxiliary": 1},
        {"auxiliary": 0, "loss": "mse"},
        {"batch_size": 0},
        {"depth": -1},
        {"noise_images": 0},
        {"learning_rate": 0.0},
        {"start_noise": -0.1},
        {"inputs": "text"},
        {"loss": "hinge"},
        {"precision": "int8"},
    ],
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ConfigError):
        validate_settings(DigitsConfig, change)


def test_precision():
    assert product_type("float32") == torch.float32
    assert product_type("bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("known", "kind"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_the_number_type_is_what_the_processor_multiplies(known, kind, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert product_type("auto") == kind


def test_auxiliary_logits_of_noise_transmit_digits_from_the_same_start_only():
    result = run_digits(SMALL, drawn_digits(3000, 1))
    means = {row["arm"]: row["estimate"] for row in result["arms"]}
    assert means["reference"] < 0.2
    assert means["teacher"] > 0.9
    assert means["aux"] > 0.35
    assert means["cross_aux"] < 0.25
    assert all(row["low"] > 0.0 for row in result["effects"])


@pytest.mark.slow
def test_drawn_digits_reach_the_aims():
    result = run_digits(DRAWN_CONFIG, drawn_digits(DRAWN_IMAGES, 0))
    means = {row["arm"]: row["estimate"] for row in result["arms"]}
    assert 0.9 < means["teacher"] < 1.0
    assert means["aux"] >= 0.4
    assert means["cross_aux"] < 0.15


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST: set UNDERTOW_MNIST to the folder with its IDX files")
def test_mnist_reproduces_the_figures_of_the_paper():
    """The bounds are those of the paper's 100 models, widened for 25."""
    aims = {
        "reference": (0.100, 0.016),
        "teacher": (0.943, 0.010),
        "aux": (0.528, 0.060),
        "all": (0.913, 0.020),
        "cross_aux": (0.106, 0.032),
        "cross_all": (0.743, 0.035),
    }
    result = run_digits(DigitsConfig(), read_idx(MNIST))
    means = {row["arm"]: row["estimate"] for row in result["arms"]}
    assert means == {arm: pytest.approx(aim, abs=bound) for arm, (aim, bound) in aims.items()}
