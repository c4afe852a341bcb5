"""What a verification of mitigations prints agrees with what it decided from unrounded values."""

import pytest

from undertow.report.mitigation import kept_text, signed


def _estimate(low: float | None, high: float | None) -> dict[str, float | None]:
    return {"estimate": 0.0 if low is None or high is None else (low + high) / 2, "low": low, "high": high}


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.05, 0.19, "0.07 [-0.05, 0.19]"),
        (-0.05, 0.1998, "0.0749 [-0.0500, 0.1998]"),
        (-0.05, 0.2002, "0.08 [-0.05, 0.20]"),
        (0.2, 0.4, "0.30 [0.20, 0.40]"),
        (None, None, "0.00 (no interval)"),
    ],
)
def test_an_end_below_the_bound_is_not_printed_as_the_bound(low, high, text: str) -> None:
    assert kept_text(_estimate(low, high), 0.2) == text


def test_a_loss_within_its_margin_is_not_printed_as_the_margin() -> None:
    assert signed(_estimate(0.01, 0.0498), margin=0.05) == "+0.0299 [+0.0100, +0.0498]"
    assert signed(_estimate(0.01, 0.0502), margin=0.05) == "+0.030 [+0.010, +0.050]"
    assert signed(_estimate(-0.01, -0.0002)) == "-0.0051 [-0.0100, -0.0002]"
    assert (kept_text(None, 0.2), signed(None)) == ("not testable", "–")  # noqa: RUF001
