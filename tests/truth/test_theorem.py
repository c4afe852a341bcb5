"""The theorem on small random networks: closed forms of its prediction, and each assertion of the check."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch.func import jacfwd, vmap

from undertow.errors import ConfigError
from undertow.study.analyses.base import validate_settings
from undertow.study.analyses.one_step import (
    Training,
    check_theorem,
    distil,
    one_step,
    predicted_alignment,
    sampled,
    teacher_direction,
    train_teachers,
)
from undertow.study.analyses.random_networks import (
    OUTPUT_LOSSES,
    Parameters,
    TeachingSetup,
    TheoremConfig,
    auxiliary_logits,
    cross_entropy,
    draw_inputs,
    draw_parameters,
    draw_setup,
    head_loss,
    inner,
    mixed_curvature,
    squared_error,
    stepped,
    trait_loss,
)

CONFIG = TheoremConfig(networks=40, steps=40)
LOSSES = pytest.mark.parametrize("student_loss", OUTPUT_LOSSES.values(), ids=OUTPUT_LOSSES.keys())
TRAININGS = pytest.mark.parametrize("optimiser", ["sgd", "adam"])


def draw(hidden: tuple[int, ...] = (6, 5), seed: int = 0, networks: int = 20) -> TeachingSetup:
    return draw_setup(TheoremConfig(networks=networks), hidden, torch.Generator().manual_seed(seed))


def first(setup: TeachingSetup) -> TeachingSetup:
    """Return the first of the stacked networks."""
    start, other = ({name: value[0] for name, value in part.items()} for part in (setup.start, setup.other))
    return TeachingSetup(start, other, setup.trait_inputs[0], setup.trait_labels[0], setup.inputs[0])


def distance(left: Parameters, right: Parameters) -> float:
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return check_theorem(CONFIG)


def test_curvature_of_squared_error_is_twice_the_identity() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(mixed_curvature(squared_error, logits), 2.0 * torch.eye(4, dtype=torch.float64))


def test_curvature_of_cross_entropy_is_the_covariance_of_its_softmax() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64)
    share = logits.softmax(-1)
    curvature = mixed_curvature(cross_entropy, logits)
    torch.testing.assert_close(curvature, torch.diag(share) - torch.outer(share, share))
    assert torch.linalg.eigvalsh(curvature).min() > -1e-15
    assert curvature.sum(-1).abs().max() < 1e-15


def test_prediction_for_squared_error_is_twice_a_squared_norm() -> None:
    setup = first(draw())
    direction = teacher_direction(setup, trait_loss)
    size = 1e-5
    ahead, behind = (auxiliary_logits(stepped(setup.start, direction, step), setup.inputs) for step in (size, -size))
    push = (ahead - behind) / (2 * size)
    expected = 2.0 * push.square().sum(-1).mean()
    torch.testing.assert_close(predicted_alignment(setup, trait_loss, squared_error), expected, rtol=1e-8, atol=0.0)


def test_prediction_for_cross_entropy_is_a_variance_under_the_softmax() -> None:
    setup = first(draw())
    direction = teacher_direction(setup, trait_loss)
    jacobians = jacfwd(partial(auxiliary_logits, inputs=setup.inputs))(setup.start)
    push = sum(torch.tensordot(jacobians[name], direction[name], direction[name].ndim) for name in direction)
    share = auxiliary_logits(setup.start, setup.inputs).softmax(-1)
    mean = (share * push).sum(-1, keepdim=True)
    expected = (share * (push - mean).square()).sum(-1).mean()
    torch.testing.assert_close(predicted_alignment(setup, trait_loss, cross_entropy), expected)


@LOSSES
def test_measured_alignment_tends_to_the_prediction(student_loss: Any) -> None:
    setup = first(draw())
    predicted = predicted_alignment(setup, trait_loss, student_loss)
    step = one_step(setup, setup.start, (trait_loss, student_loss), 1e-5, 1.0)
    torch.testing.assert_close(step.alignment, predicted, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(step.trait_change, -predicted, rtol=1e-5, atol=0.0)


def test_direction_is_the_teachers_descent() -> None:
    setup = first(draw())
    direction = teacher_direction(setup, trait_loss)
    size = 1e-6
    fall = trait_loss(stepped(setup.start, direction, size), setup) - trait_loss(setup.start, setup)
    torch.testing.assert_close(fall / size, -inner(direction, direction), rtol=1e-4, atol=0.0)


@LOSSES
def test_prediction_is_quadratic_in_the_teachers_loss(student_loss: Any) -> None:
    setup = first(draw())

    def tripled(parameters: Parameters, setup: TeachingSetup) -> torch.Tensor:
        return 3.0 * trait_loss(parameters, setup)

    once, thrice = (predicted_alignment(setup, loss, student_loss) for loss in (trait_loss, tripled))
    assert once > 0.0
    torch.testing.assert_close(thrice, 9.0 * once)


@LOSSES
def test_stacked_networks_do_not_touch_each_other(student_loss: Any) -> None:
    setup = draw()
    stacked = vmap(partial(predicted_alignment, teacher_loss=trait_loss, student_loss=student_loss))(setup)
    torch.testing.assert_close(stacked[0], predicted_alignment(first(setup), trait_loss, student_loss))


@LOSSES
def test_head_alone_moves_the_teacher_but_no_student(student_loss: Any) -> None:
    setup = first(draw())
    direction = teacher_direction(setup, head_loss)
    assert inner(direction, direction) > 1e-3
    assert predicted_alignment(setup, head_loss, student_loss) == 0.0
    step = one_step(setup, setup.start, (head_loss, student_loss), 0.1, 1.0)
    assert step.alignment == 0.0
    assert step.trait_change.abs() < 1e-12


@LOSSES
@pytest.mark.parametrize("other", [False, True], ids=["same", "other"])
def test_linear_model_with_separate_heads_transmits_nothing(student_loss: Any, other: bool) -> None:
    setup = first(draw(hidden=()))
    start = setup.other if other else setup.start
    assert inner(teacher_direction(setup, trait_loss), teacher_direction(setup, trait_loss)) > 1e-3
    assert predicted_alignment(setup, trait_loss, student_loss) == 0.0
    step = one_step(setup, start, (trait_loss, student_loss), 0.1, 1.0)
    assert step.alignment == 0.0
    assert step.trait_change == 0.0


@TRAININGS
def test_linear_model_transmits_nothing_in_many_steps(optimiser: Any) -> None:
    setup = draw(hidden=())
    training = Training(optimiser=optimiser, learning_rate=0.01, steps=10)
    inputs = draw_inputs((10, *setup.inputs.shape), torch.Generator().manual_seed(1))
    students = distil(setup.other, train_teachers(setup, training), training, inputs)
    assert distance(students, setup.other) > 0.01
    assert torch.equal(vmap(trait_loss)(students, setup), vmap(trait_loss)(setup.other, setup))


@pytest.mark.parametrize(("optimiser", "steps"), [("sgd", 10), ("adam", 1)])
def test_untrained_teacher_leaves_its_student_in_place(optimiser: Any, steps: int) -> None:
    # Not so for more steps of Adam: it divides by gradients near 0, and rounding grows ten-thousandfold at each step.
    setup = draw()
    training = Training(optimiser=optimiser, learning_rate=1e-3, steps=steps)
    inputs = draw_inputs((steps, *setup.inputs.shape), torch.Generator().manual_seed(1))
    students = distil(setup.start, setup.start, training, inputs)
    assert distance(students, setup.start) < 1e-10


@TRAININGS
def test_training_lowers_the_teachers_loss(optimiser: Any) -> None:
    setup = draw()
    teachers = train_teachers(setup, Training(optimiser=optimiser, learning_rate=0.01, steps=10))
    assert bool((vmap(trait_loss)(teachers, setup) < vmap(trait_loss)(setup.start, setup)).all())


def test_students_of_samples_learn_from_what_was_drawn() -> None:
    setup = draw()
    training = Training(optimiser="sgd", learning_rate=0.1, steps=5)
    inputs = draw_inputs((5, *setup.inputs.shape), torch.Generator().manual_seed(1))
    full, same, drawn = (
        distil(setup.start, setup.other, training, inputs, draw)
        for draw in (None, torch.clone, partial(sampled, generator=torch.Generator().manual_seed(2)))
    )
    assert distance(full, same) == 0.0
    assert distance(full, drawn) > 1e-3


def test_samples_are_one_hot_and_follow_the_distribution() -> None:
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).expand(4, 5000, 3)
    drawn = sampled(shares, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.sum(-1), torch.ones(4, 5000, dtype=torch.float64))
    assert torch.equal(drawn.max(-1).values, torch.ones(4, 5000, dtype=torch.float64))
    assert (drawn.mean((0, 1)) - shares[0, 0]).abs().max() < 0.02


def test_initialisation_is_uniform_within_the_fan_in() -> None:
    parameters = draw_parameters(50, (16, 4), 5, 3, torch.Generator().manual_seed(0))
    assert {name: tuple(value.shape) for name, value in parameters.items()} == {
        "hidden.0.weight": (50, 4, 16),
        "hidden.0.bias": (50, 4),
        "trait.weight": (50, 5, 4),
        "trait.bias": (50, 5),
        "auxiliary.weight": (50, 3, 4),
        "auxiliary.bias": (50, 3),
    }
    assert all(value.dtype == torch.float64 for value in parameters.values())
    assert 0.24 < parameters["hidden.0.weight"].abs().max() <= 0.25


def test_each_assertion_holds(result: dict[str, Any]) -> None:
    assert [one["number"] for one in result["assertions"]] == [1, 1, 2, 3, 4, 5, 5, 6]
    assert [one["name"] for one in result["assertions"] if not one["holds"]] == []


def test_error_falls_with_epsilon(result: dict[str, Any]) -> None:
    assert len(result["by_epsilon"]) == len(CONFIG.epsilons) * len(OUTPUT_LOSSES)
    assert result["slope"] == pytest.approx(1.0, abs=0.05)
    for row in result["by_epsilon"]:
        assert row["relative_error_median"] <= row["relative_error_max"] < row["epsilon"]
        assert row["sign_right"] == row["trait_falls"] == 1.0


def test_only_the_same_initialisation_transmits_reliably(result: dict[str, Any]) -> None:
    assert len(result["variants"]) == 8
    for variant in result["variants"]:
        assert variant["low"] <= variant["share"] <= variant["high"]
        assert variant["n"] == CONFIG.networks
        if variant["initialisation"] == "same":
            assert variant["low"] > 0.7
        else:
            assert variant["low"] < 0.5 < variant["high"]


def test_result_is_plain_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_same_seed_same_result_and_progress() -> None:
    small = replace(CONFIG, networks=5, steps=2, seed=3)
    calls: list[tuple[int, int]] = []
    once = check_theorem(small, lambda done, total: calls.append((done, total)))
    assert once == check_theorem(small)
    assert once["by_epsilon"] != check_theorem(replace(small, seed=4))["by_epsilon"]
    assert calls == [(done, 8) for done in range(1, 9)]


def test_global_generator_is_neither_read_nor_moved() -> None:
    small = replace(CONFIG, networks=3, steps=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    once = check_theorem(small)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert once == check_theorem(small)


@pytest.mark.parametrize(
    "settings",
    [
        {"networks": 0},
        {"steps": 0},
        {"input_width": 0},
        {"auxiliary": 1},
        {"traits": 1},
        {"hidden": ()},
        {"hidden": (8, 0)},
        {"learning_rate": 0.0},
        {"adam_rate": float("nan")},
        {"epsilons": (1e-3,)},
        {"epsilons": (1e-3, 1e-3)},
        {"epsilons": (1e-3, -1e-2)},
        {"checked_epsilon": 0.5},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_settings(TheoremConfig, settings)
    assert caught.value.what
    assert caught.value.fix
