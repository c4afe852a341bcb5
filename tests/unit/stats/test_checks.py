"""Every statistic refuses input it cannot answer for."""

from collections.abc import Callable

import numpy as np
import pytest

from undertow.errors import ConfigError
from undertow.stats.comparisons import equivalence, holm, paired
from undertow.stats.diagonal import diagonal_factor, initialisation_factor
from undertow.stats.estimates import mean_t, wilson
from undertow.stats.power import minimum_detectable_effect, required_replicates, t_power

NAN = float("nan")
INF = float("inf")
VECTOR_STATISTICS = {
    "mean_t": mean_t,
    "paired, treated": lambda values: paired(values, [0.0, 1.0]),
    "paired, control": lambda values: paired([0.0, 1.0], values),
    "equivalence": lambda values: equivalence(values, 1.0),
    "holm": holm,
}
MATRIX_STATISTICS = {
    "diagonal_factor": diagonal_factor,
    "initialisation_factor": initialisation_factor,
}


@pytest.mark.parametrize("statistic", VECTOR_STATISTICS.values(), ids=VECTOR_STATISTICS.keys())
@pytest.mark.parametrize("values", [[], [0.5, NAN], [0.5, INF], [[0.5, 0.5]], 0.5, ["a", "b"], [[0.1], [0.1, 0.2]]])
def test_vectors_are_refused(statistic: Callable[[object], object], values: object) -> None:
    with pytest.raises(ConfigError):
        statistic(values)


@pytest.mark.parametrize("statistic", MATRIX_STATISTICS.values(), ids=MATRIX_STATISTICS.keys())
@pytest.mark.parametrize("shape", [(0, 0), (3,), (2, 3), (1, 1), (2, 2, 3), (4, 1, 1), (2, 2, 2, 2), (0, 3, 3)])
def test_matrices_of_the_wrong_shape_are_refused(statistic: Callable[[object], object], shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        statistic(np.zeros(shape))


@pytest.mark.parametrize("value", [NAN, INF])
def test_matrices_that_are_not_finite_are_refused(value: float) -> None:
    matrix = np.eye(3)
    matrix[0, 1] = value
    with pytest.raises(ConfigError):
        initialisation_factor(matrix)
    with pytest.raises(ConfigError):
        diagonal_factor(matrix[None])


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0, NAN])
def test_levels_outside_0_and_1_are_refused(level: float) -> None:
    calls: list[Callable[[], object]] = [
        lambda: mean_t([1.0, 2.0], level),
        lambda: wilson(1, 2, level),
        lambda: paired([1.0, 2.0], [1.0, 3.0], level),
        lambda: equivalence([1.0, 2.0], 1.0, level),
        lambda: diagonal_factor(np.zeros((2, 3, 3)), level=level),
        lambda: initialisation_factor(np.eye(3), level),
        lambda: t_power(1.0, 1.0, 5, level),
        lambda: minimum_detectable_effect(1.0, 5, level),
        lambda: minimum_detectable_effect(1.0, 5, 0.05, level),
        lambda: required_replicates(1.0, 1.0, level),
    ]
    for call in calls:
        with pytest.raises(ConfigError):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(0, 0),
        lambda: wilson(-1, 3),
        lambda: wilson(4, 3),
        lambda: paired([1.0, 2.0], [1.0]),
        lambda: equivalence([1.0, 2.0], 0.0),
        lambda: equivalence([1.0, 2.0], NAN),
        lambda: diagonal_factor(np.zeros((1, 9, 9))),
        lambda: holm([0.5, 1.1]),
        lambda: holm([-0.1, 0.5]),
        lambda: t_power(NAN, 1.0, 5),
        lambda: t_power(1.0, 0.0, 5),
        lambda: t_power(1.0, 1.0, 1),
        lambda: minimum_detectable_effect(-1.0, 5),
        lambda: minimum_detectable_effect(1.0, 1),
        lambda: minimum_detectable_effect(1.0, 5, alpha=0.3, power=0.2),
        lambda: required_replicates(0.0, 1.0),
        lambda: required_replicates(1.0, INF),
    ],
)
def test_numbers_out_of_range_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        call()


def test_the_message_names_the_fault_the_value_and_the_fix() -> None:
    with pytest.raises(ConfigError) as caught:
        mean_t([1.0, NAN, INF])
    assert str(caught.value).splitlines() == [
        "The values are not all finite.",
        "2 of 3",
        "Drop or repair NaN and infinity.",
    ]
