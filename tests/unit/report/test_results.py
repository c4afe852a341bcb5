"""Reading a run folder: what is there comes back whole, what is wrong is said in three sentences."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import ArtifactError, StorageError, UserError
from undertow.report.results import load_results, read_settings


def test_results_come_back_whole_with_keys_of_later_versions(run: Path, data: dict[str, Any]) -> None:
    data["effects"][0]["method"] = "t"
    data["later"] = [1, 2]
    (run / "results.json").write_text(json.dumps(data), encoding="utf-8")
    results = load_results(run)
    again = results.to_json()
    assert again["later"] == [1, 2]
    assert again["effects"] == data["effects"]
    assert again["arms"] == data["arms"]
    assert again["schema"] == "undertow.run/1"
    assert again["rows"]["path"] == "kept.jsonl"
    assert results.matrix is not None
    assert results.matrix.columns == ("owl", "wolf", "oak")


def test_unknown_ends_are_infinite_and_null_in_the_file(run: Path) -> None:
    found = load_results(run).initialisation
    assert found is not None
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert load_results(run).to_json()["initialisation"]["low"] is None


def test_half_a_surrogate_pair_is_replaced(run: Path, data: dict[str, Any]) -> None:
    data["samples"][0]["completion"] = "half \ud83d"
    (run / "results.json").write_text(json.dumps(data), encoding="utf-8")
    assert load_results(run).samples[0].completion == "half \ufffd"


def test_a_missing_folder_and_a_file_are_named(run: Path) -> None:
    for path in (run / "missing", run / "results.json"):
        with pytest.raises(StorageError, match="no run folder") as caught:
            load_results(path)
        assert str(path) in str(caught.value)


def test_a_folder_that_is_no_run_differs_from_an_unfinished_run(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ArtifactError, match="no run"):
        load_results(tmp_path)
    (run / "results.json").unlink()
    with pytest.raises(ArtifactError, match="not finished"):
        load_results(run)


@pytest.mark.parametrize("content", [b"", b'{"schema": "undertow.run/1", "arms": [', b"\xff\xfe{}"])
def test_half_written_results_are_said_to_be(run: Path, content: bytes) -> None:
    (run / "results.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="half-written"):
        load_results(run)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": "undertow.run/2"}', '{"schema": 7}'])
def test_another_schema_is_refused(run: Path, content: str) -> None:
    (run / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match="another schema") as caught:
        load_results(run)
    assert "undertow.run/1" in caught.value.value


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"effects": [{"arm": "student"}]}, "effects.0"),
        ({"rows": {"raw": -1, "kept": 0}}, "rows.raw"),
        ({"matrix": {"traits": ["owl"], "values": [[1.0, 2.0]]}}, "1 x 1"),
        ({"arms": None}, "arms"),
    ],
)
def test_a_damaged_field_is_named(run: Path, data: dict[str, Any], change: dict[str, Any], place: str) -> None:
    (run / "results.json").write_text(json.dumps({**data, **change}), encoding="utf-8")
    with pytest.raises(UserError, match=place):
        load_results(run)


def test_settings_are_the_text_of_the_file(run: Path) -> None:
    assert read_settings(run) == "name: demo\nstudent:\n  steps: 150\n"
    (run / "config.yaml").unlink()
    assert read_settings(run) is None


def test_reading_loads_neither_matplotlib_nor_torch() -> None:
    code = (
        "import sys, undertow.report.results, undertow.report.render; "
        "print([name for name in ('matplotlib', 'torch', 'transformers', 'undertow.models') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
