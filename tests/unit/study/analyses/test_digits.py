"""The study of digits: its numbers are those of the experiment, its words follow them, its settings are checked."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertow.errors import ArtifactError, ConfigError, StorageError, UnknownNameError
from undertow.stats.comparisons import holm
from undertow.study.analyses import digit_data
from undertow.study.analyses.digit_data import FILES, Digits, digits_identity, drawn_digits
from undertow.study.analyses.digit_training import DRAWN_CONFIG, DigitsConfig, run_digits
from undertow.study.analyses.digits import ablation_part, digits_analysis, digits_cost, main_part, resolve_digits

SETTINGS = {
    "models": 2,
    "seed": 3,
    "width": 8,
    "teacher_epochs": 1,
    "student_epochs": 1,
    "batch_size": 64,
    "noise_images": 90,
    "precision": "float32",
}
SMALL: dict[str, Any] = {"settings": SETTINGS}


@pytest.fixture(autouse=True)
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_data, "DRAWN_IMAGES", 60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = drawn_digits(40, 1, n_test=20)
    for part, (name, dimensions) in FILES.items():
        array = getattr(data, part)
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (tmp_path / name).write_bytes(bytes((0, 0, 8, dimensions)) + sizes + array.tobytes())
    return tmp_path


def arm(name: str, accuracy: list[float]) -> dict[str, Any]:
    mean = float(np.mean(accuracy))
    return {"arm": name, "accuracy": accuracy, "estimate": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 3}


def outcome(aux: list[float], low: float, high: float) -> dict[str, Any]:
    arms = [arm("teacher", [0.9] * 3), arm("aux", aux), arm("cross_aux", [0.1, 0.1, 0.1])]
    effect = {"effect": "aux", "control": "cross_aux", "estimate": (low + high) / 2, "low": low, "high": high}
    return {"models": 3, "arms": arms, "effects": [{**effect, "n": 3, "p": 0.2}]}


def test_the_main_numbers_are_those_of_the_experiment() -> None:
    calls: list[tuple[int, int]] = []
    found = digits_analysis(SMALL, lambda *call: calls.append(call))
    expected = run_digits(replace(DRAWN_CONFIG, **SETTINGS), drawn_digits(60, 3))
    accuracy = [row for row in found["estimates"] if row["group"] == "accuracy on the test digits"]
    for row, one in zip(accuracy, expected["arms"], strict=True):
        assert {key: row[key] for key in ("estimate", "low", "high", "n")} == {
            key: one[key] for key in ("estimate", "low", "high", "n")
        }
        assert row["unit"] == "share" and row["p"] is None
    effects = [row for row in found["estimates"] if row["group"] == "student minus cross-init"]
    assert [(row["name"], row["p"]) for row in effects] == [
        (name, one["p"]) for name, one in zip(("auxiliary logits", "all logits"), expected["effects"], strict=True)
    ]
    (table,) = found["tables"]
    assert [row[1:] for row in table["rows"]] == [
        list(row) for row in zip(*(one["accuracy"] for one in expected["arms"]), strict=True)
    ]
    assert calls[-1][0] == calls[-1][1]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert any("drawn" in line for line in found["not_tested"])


def test_ablations_have_the_recipe_in_every_panel_and_know_what_a_linear_model_does() -> None:
    calls: list[tuple[int, int]] = []
    config = {**SMALL, "ablations": True, "ablation_models": 3}
    found = digits_analysis(config, lambda *call: calls.append(call))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    panels: dict[str, dict[str, dict[str, Any]]] = {}
    for row in found["estimates"]:
        panels.setdefault(row["group"], {})[row["name"]] = row
    panels = {group: rows for group, rows in panels.items() if group.endswith(": accuracy of students")}
    assert [list(rows) for rows in panels.values()] == [
        ["2", "3 (recipe)", "10", "30"],
        ["8 (recipe)", "64", "256", "1024"],
        ["0", "1", "2 (recipe)", "4"],
        ["0 (recipe)", "0.1", "0.2", "0.5", "1"],
        ["noise (recipe)", "noise, 60 in 2 passes", "images, 60 in 2 passes"],
        ["kl (recipe)", "mse"],
    ]
    own = [next(row for name, row in rows.items() if name.endswith("(recipe)")) for rows in panels.values()]
    assert len({row["estimate"] for row in own}) == 1 and {row["n"] for row in own} == {3}
    # A linear model has no weights in common, so its class logits stay those of the untrained network.
    recipe = replace(DRAWN_CONFIG, **SETTINGS)
    linear = run_digits(replace(recipe, models=3, depth=0), drawn_digits(60, 3), students=("aux",))
    assert panels["number of hidden layers: accuracy of students"]["0"]["estimate"] == linear["arms"][0]["estimate"]
    assert [len(table["rows"]) for table in found["tables"]] == [2, 22, 22, 16]
    assert all(len(row) == len(table["columns"]) for table in found["tables"] for row in table["rows"])
    assert "Of 16 changes of one setting (n = 3 models" in found["answer"]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {total for _, total in calls} == {calls[-1][0]}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.3, "passed on better from their own initialisation"),
        (-0.1, 0.3, "no transmission was shown and none within it is ruled out"),
        (-0.3, -0.1, "less passed on"),
    ],
)
def test_the_answer_follows_the_interval(low: float, high: float, words: str) -> None:
    answer, _, _ = main_part(DigitsConfig(), outcome([0.3, 0.4, 0.5], low, high))
    assert words in answer
    assert f"{low:+.3f} to {high:+.3f}" in answer and "n = 3 models" in answer and "p = 0.200" in answer
    assert "0.400 [95 % interval 0.300 to 0.500]" in answer
    assert "on noise read" in answer
    images, _, _ = main_part(DigitsConfig(inputs="images"), outcome([0.3, 0.4, 0.5], low, high))
    assert "on images read" in images


def test_changes_are_paired_with_the_recipe_and_adjusted() -> None:
    base = outcome([0.50, 0.52, 0.54], 0.1, 0.2)
    trials = [("width", "2 (recipe)", base)]
    for name, shift in (("1", (0.30, 0.301, 0.302)), ("3", (-0.2, -0.2001, -0.2002)), ("4", (0.1, -0.1, 0.01))):
        values = [accuracy + more for accuracy, more in zip((0.50, 0.52, 0.54), shift, strict=True)]
        trials.append(("width", name, outcome(values, 0.1, 0.2)))
    answer, estimates, tables = ablation_part(trials, base)
    assert "1 raised the students' accuracy, most of all width 1 (+0.301)" in answer
    assert "1 lowered the students' accuracy, most of all width 3 (-0.200)" in answer
    assert [row["name"] for row in estimates] == ["2 (recipe)", "1", "3", "4"]
    rows = tables[2]["rows"]
    assert [row[:2] for row in rows] == [["width", name] for name in ("1", "3", "4")]
    assert rows[0][2] == pytest.approx(0.301) and rows[0][3] < 0.301 < rows[0][4]
    assert rows[2][5] > 0.5 and max(rows[0][5], rows[1][5]) < 0.001
    assert [row[5] for row in tables[1]["rows"]] == pytest.approx(holm([0.2] * 4).tolist())
    nothing = ablation_part([("width", "2 (recipe)", base), ("width", "4", outcome([0.5, 0.53, 0.53], 0.1, 0.2))], base)
    assert "0 raised the students' accuracy; 0 lowered the students' accuracy." in nothing[0]


def test_settings_are_resolved_for_a_fingerprint(folder: Path) -> None:
    drawn, read = resolve_digits(SMALL), resolve_digits({**SMALL, "data": str(folder)})
    assert drawn["settings"] == asdict(replace(DRAWN_CONFIG, **SETTINGS)) and drawn["identity"] is None
    assert read["settings"] == asdict(replace(DigitsConfig(), **SETTINGS))
    assert read["identity"] == digits_identity(str(folder))
    assert resolve_digits(json.loads(json.dumps(read))) == read
    assert resolve_digits({})["settings"] == asdict(DRAWN_CONFIG)


def test_digits_of_a_folder_are_used_and_changed_ones_refused(folder: Path) -> None:
    config = resolve_digits({**SMALL, "data": str(folder)})
    found = digits_analysis(config)
    expected = run_digits(DigitsConfig(**SETTINGS), digit_data.read_idx(folder))
    assert [row["estimate"] for row in found["estimates"][:6]] == [one["estimate"] for one in expected["arms"]]
    assert not any("drawn" in line for line in found["not_tested"])
    labels = folder / "train-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([(content[-1] + 1) % 10]))
    with pytest.raises(ArtifactError, match="not those of this study"):
        digits_analysis(config)


def test_the_cost_counts_weights_times_inputs() -> None:
    base = {"settings": {**SETTINGS, "noise_images": 60_000, "width": 256, "models": 10}}
    weights = 784 * 256 + 256 * 256 + 256 * 13
    assert digits_cost(base) == round(10 * weights * (12_000 + 4 * 60_000) / 1e9)
    more = digits_cost({**base, "ablations": True, "ablation_models": 10})
    assert more > 10 * digits_cost(base)
    assert digits_cost({**base, "ablations": True, "ablation_models": 20}) - digits_cost(base) == pytest.approx(
        2 * (more - digits_cost(base)), rel=0.01
    )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"modls": 3}, UnknownNameError, "modls"),
        ({"settings": {"widht": 8}}, UnknownNameError, "width"),
        ({"settings": {"width": "wide"}}, ConfigError, "width"),
        ({"settings": {"models": 1}}, ConfigError, "The setting models is not valid"),
        ({"settings": {"loss": "hinge"}}, ConfigError, "loss"),
        ({"settings": 3}, ConfigError, "settings"),
        ({"ablation_models": 1}, ConfigError, "ablation_models"),
        ({"ablations": "perhaps"}, ConfigError, "ablations"),
        ({"data": 3}, ConfigError, "data"),
        ({"data": "/nowhere/at/all"}, StorageError, "no folder of digits"),
        ({"identity": "0" * 20}, ArtifactError, "not those of this study"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict, error: type[Exception], words: str) -> None:
    for call in (resolve_digits, digits_analysis):
        with pytest.raises(error, match=words):
            call({**SMALL, **change})


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_bad_folder_is_told_before_anything_is_trained(folder: Path, damage: str) -> None:
    images = folder / "train-images-idx3-ubyte"
    if damage == "missing":
        images.unlink()
    else:
        images.write_bytes(images.read_bytes()[:-5] if damage == "truncated" else b"plain text" * 10)
    expected = StorageError if damage == "missing" else ArtifactError
    with pytest.raises(expected, match="train-images-idx3-ubyte"):
        digits_analysis({**SMALL, "data": str(folder)}, lambda *_: pytest.fail("trained"))


def test_records_of_a_folder_are_digits(folder: Path) -> None:
    assert isinstance(digit_data.load_digits(str(folder), 0), Digits)
