"""`undertow power`: the parts agree with the functions behind them."""

import numpy as np
import pytest

from undertow.audit.students.placebo_null import conformal_p, deleted_z, expected_shift, needed
from undertow.cli.main import main
from undertow.stats.power import MatchedTest


def test_rows_and_placebos_are_those_of_an_audit_of_three_claims(run) -> None:
    code, found = run("power", "--dose", "0.5", "--shift", "0.8", "--references", "1", "--candidates", "10")
    # A persona and a teacher for each trait, and a third of alpha.
    expected = MatchedTest(references=1, candidates=20, alpha=0.05 / 3).required_rows(0.4)
    assert code == 0 and found["data_audit"]["rows"] == expected == found["data_audit"]["reference_rows"]
    smallest = {int(rows): value for rows, value in found["data_audit"]["minimum_detectable_shift"].items()}
    assert smallest[100] > 0.4 > smallest[300]
    assert found["student_audit"]["placebos"] == needed(0.05 / 3) == 59


def test_less_of_the_trait_needs_more_rows_and_no_audit_reads_fewer_than_it_may(run) -> None:
    rows = [run("power", "--dose", dose)[1]["data_audit"]["rows"] for dose in (1.0, 0.25)]
    # Halving the shift takes four times as many: a quarter takes sixteen times.
    assert rows[1] == pytest.approx(16 * rows[0], rel=0.02)
    assert run("power", "--shift", "9")[1]["data_audit"]["rows"] == 20


def test_a_dose_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["power", "--dose", "0"]) == 2
    assert "such as 0.25" in capsys.readouterr().err


def test_more_placebos_see_a_smaller_shift_and_the_shift_is_seen_as_often_as_is_said(run) -> None:
    """A suspect is moved by the shift that is printed, and judged among fresh placebos as an audit judges it."""
    found = run("power")[1]["student_audit"]
    shifts = {int(count): one["shift"] for count, one in found["banks"].items()}
    assert list(shifts) == [59, 119, 210] and shifts[59] > shifts[119] > shifts[210] > 3.0
    assert found["banks"]["119"]["minutes"] == pytest.approx(119 / 59 * found["minutes"])
    rng, seen = np.random.default_rng(7), 0
    for _ in range(400):
        models = rng.standard_normal((120, 20))
        models[0, 3] += shifts[119]
        seen += conformal_p(deleted_z(models).max(axis=1)) <= 0.05 / 3
    assert 0.72 < seen / 400 < 0.88
    assert expected_shift(58, 20, 0.05 / 3, rng) == np.inf
    assert run("power", "--alpha", "0.15")[1]["student_audit"]["banks"].keys() == {"19", "59", "119", "210"}
