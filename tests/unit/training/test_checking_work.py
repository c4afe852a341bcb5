"""What checking a model is said to take, and that the check tells how far it is."""

import pytest

from undertow.evals.forecast import Forecast
from undertow.models import speed as speeds
from undertow.training.checking_work import COPIES, READINGS, checking_work
from undertow.training.model_contract import LEARNT, check_model, contract_rows
from undertow.training.model_needs import SMALL_MODEL, rows_of_a_measure


def test_seconds_follow_the_tokens_that_are_read_and_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "probe", lambda name: 1e6)
    base = Forecast("ref:finch-a")
    assert base.speed is not None
    contract, speed = checking_work("ref:finch-a")
    tokens = base.row_tokens(contract_rows())
    learnt, read = base.speed.training(LEARNT[0] * LEARNT[1] * tokens), base.speed.reading(READINGS * 3 * tokens)
    assert contract.seconds == pytest.approx(learnt + read + (1 + COPIES) * base.loading, rel=0.01)
    assert speed.what.startswith("32 rows learnt 3 times") and speed.seconds is not None and speed.seconds > 0
    assert (rows_of_a_measure(SMALL_MODEL - 1), rows_of_a_measure(SMALL_MODEL)) == (32, 8)


def test_a_check_tells_each_of_its_parts(tiny_model) -> None:
    told: list[tuple[int, int]] = []
    report = check_model(tiny_model, lambda done, total: told.append((done, total)))
    n = len(report.checks)
    assert told == [(at + 1, n) for at in range(n)]
