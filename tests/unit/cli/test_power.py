"""`undertow power`: the parts agree with the functions behind them."""

import pytest

from undertow.audit.students.placebo_null import needed
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
