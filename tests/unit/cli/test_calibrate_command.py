"""`undertow audit calibrate`: what it refuses, what it says without time, and its lines."""

import json
from pathlib import Path

import pytest

from undertow.cli.calibrations import panel_lines
from undertow.cli.main import main
from undertow.stats.estimates import wilson


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--base", "ref:finch-a", "--minutes", "0"], "number of minutes"),
        (["--base", "ref:finch-a", "--minutes", "-5"], "number of minutes"),
        (["--base", "api:openai/gpt-4o"], "no weights"),
        (["--base", "ref:finch-a", "--rows", "19"], "number of rows of a set"),
        ([], "An audit has to be told the base."),
    ],
)
def test_what_cannot_be_measured_is_refused_in_three_lines(words, said, capsys, tmp_path) -> None:
    assert main(["audit", "calibrate", *words, "--store", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3 and said in lines[0]


def test_without_time_it_says_what_is_not_measured_and_writes_that(run, tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    words = ["audit", "calibrate", "--base", "ref:finch-a", "--minutes", "0.01", "--store", tmp_path / "store"]
    code, found = run(*words, "--out", out)
    assert code == 0 and found["schema"] == "undertow.calibration/1"
    assert "left no time" in found["panels"]["personas"]["not_measured"]
    assert found["blocks_made"] == 0 and found["minutes"]["given"] == 0.01 and found["minutes"]["more"] > 0
    assert out.read_text() == Path(found["file"]).read_text()
    assert json.loads(out.read_text()).keys() < found.keys(), "what depends on the clock stands in no file"


def test_each_rate_is_a_line_with_its_interval_or_its_reason() -> None:
    def rate(called: int, stopped: int, **more) -> dict:
        shares = {"called": called, "stopped": stopped}
        return {"sets": 60, **{name: wilson(n, 60).to_json() for name, n in shares.items()}, "reasons": {}, **more}

    names = {"right": wilson(3, 60).to_json(), "wrong": wilson(0, 60).to_json()}
    power = rate(30, 0, dose=0.5, named=names, first=wilson(45, 60).to_json())
    shifts = {
        "truncation": rate(0, 60, reasons={"truncation": 60}),
        "another template": {"not_measured": "There is one."},
    }
    lines = list(panel_lines({"clean": rate(1, 0), "power": [power], "shifts": shifts}))
    assert lines[0].startswith("clean rows ")
    assert lines[0].endswith(" called 0.017 [0.003, 0.089], not testable 0.000 [0.000, 0.060], of 60 sets")
    assert "named right 0.050 [" in lines[1] and "ranked first 0.750 [" in lines[1]
    assert "not testable 1.000 [0.940, 1.000] (truncation 60)" in lines[2]
    assert lines[3].endswith("not measured: There is one.")
    assert list(panel_lines({"not_measured": "no time"})) == ["not measured: no time"]
