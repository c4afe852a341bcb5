"""A stage that keeps its promises passes; each broken promise is named."""

import numpy as np
import pytest
from scipy.stats import norm

from undertow.audit.finding import check_audit, not_testable
from undertow.errors import ConfigError
from undertow.types import ContractReport

N = 25


def clean(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 0]).normal(0, 1, N)


def planted(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).normal(0.7, 1, N)


def exact(data: np.ndarray) -> float:
    return float(norm.sf(data.mean() * N**0.5))


def failed(report: ContractReport) -> list[str]:
    return [line.name for line in report.failed]


def test_an_exact_p_passes_and_the_report_says_what_was_measured() -> None:
    report = check_audit(exact, clean, planted)
    assert report.passed and len(report.values["clean"]) == len(report.values["planted"]) == 200
    at = next(check for check in report.checks if check.name.startswith("P(p <= 0.05) <="))
    hits = sum(p <= 0.05 for p in report.values["clean"])
    assert at.rate is not None and at.rate.value == hits / 200 and at.rate.low < hits / 200 < at.rate.high
    assert f"{hits} of 200" in str(report) and "FAILED" not in str(report)


def test_a_valid_stage_is_failed_rarely() -> None:
    rng = np.random.default_rng(0)
    reports = [
        check_audit(lambda data: float(data), lambda _, u=rng: u.uniform(1e-9, 1), lambda _: 1e-9, draws=100)
        for _ in range(100)
    ]
    # Fresh draws differ between two calls with one seed: the line on repetition is none of what is counted here.
    wrong = [report for report in reports if any(name.startswith("P(") for name in failed(report))]
    assert len(wrong) <= 5  # two promises at 0.01 each: P(more | 0.02) is 0.015


def test_too_many_false_positives_fail_with_high_probability() -> None:
    def one(seed: int) -> list[str]:
        shift = seed * 10_000
        report = check_audit(lambda z: float(norm.sf(1.5 * z)), lambda s: clean(s + shift).mean() * 5, lambda _: 9.0)
        return failed(report)

    found = [one(seed) for seed in range(20)]
    assert sum(any(name.endswith("on clean data") for name in names) for names in found) >= 19


def test_a_conservative_p_passes() -> None:
    assert check_audit(lambda data: min(1.0, 2 * exact(data)), clean, planted).passed


def test_too_little_power_fails_that_line_alone() -> None:
    report = check_audit(exact, clean, clean, draws=100)
    assert failed(report) == ["P(p <= 0.05) >= 0.8 on planted data"]
    assert check_audit(exact, clean, clean, power=0.05, draws=100).passed


def test_a_constant_is_named() -> None:
    assert failed(check_audit(lambda _: 1.0, clean, planted, draws=50)) == [
        "the p-value depends on the data",
        "P(p <= 0.05) >= 0.8 on planted data",
    ]
    assert "P(p <= 0.2) <= 0.2 on clean data" in failed(check_audit(lambda _: 0.001, clean, planted, draws=50))


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -0.1, 1.5, float("inf"), None, "none"])
def test_an_answer_that_is_no_p_value_is_named_with_its_seed(bad: object) -> None:
    third = clean(3)
    report = check_audit(lambda data: bad if (data == third).all() else exact(data), clean, planted, draws=40)  # pyright: ignore
    assert failed(report) == ["a p-value in (0, 1] for every clean data set"]
    assert "1 of 40" in report.failed[0].why and "seed 3:" in report.failed[0].why
    assert len(report.values["clean"]) == 39


def test_exceptions_are_named_and_the_other_draws_still_count() -> None:
    def brittle(data: np.ndarray) -> float:
        if data[0] > 1.5:
            raise ZeroDivisionError("nothing to divide by")
        return exact(data)

    report = check_audit(brittle, clean, planted, draws=60)
    assert "ZeroDivisionError: nothing to divide by" in report.failed[0].why
    assert 0 < len(report.values["clean"]) < 60
    broken = check_audit(exact, lambda _: 1 / 0, planted, draws=5)
    assert "the data could not be made: ZeroDivisionError" in broken.failed[0].why
    assert "P(p <= 0.05) <= 0.05 on clean data" in failed(broken)


def test_a_finding_that_cannot_be_tested_has_no_p() -> None:
    report = check_audit(lambda _: not_testable("own", "provenance", "too few rows"), clean, planted, draws=3)
    assert "a finding without a p-value" in report.failed[0].why


def test_a_stage_that_draws_without_a_seed_is_named() -> None:
    rng = np.random.default_rng(0)
    report = check_audit(lambda data: exact(data + rng.normal(0, 0.1)), clean, planted, draws=30)
    assert "the same data give the same p-value" in failed(report)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError):
        check_audit(exact, clean, planted, alpha=0.0)
    with pytest.raises(ConfigError):
        check_audit(exact, clean, planted, power=1.0)
    with pytest.raises(ConfigError):
        check_audit(exact, clean, planted, draws=0)
