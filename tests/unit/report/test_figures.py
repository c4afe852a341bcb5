"""Figures: same bytes twice, nothing of the outside, nothing of the user's matplotlib settings."""

import importlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from undertow.errors import ConfigError, MissingExtraError, StorageError
from undertow.report.figures import arms_figure, initialisation_figure, matrix_figure, save_figure
from undertow.report.results import Results

pytestmark = pytest.mark.filterwarnings("error")


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_figures_are_the_same_twice_whatever_the_users_settings(data: dict[str, Any]) -> None:
    results = Results.model_validate(data)
    draw = (arms_figure, matrix_figure, initialisation_figure)
    first = [figure(results) for figure in draw]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert [figure(results) for figure in draw] == first
        assert matplotlib.rcParams["font.size"] == 30


def test_the_figure_of_arms_names_each_effect_and_has_a_dot_per_replicate(data: dict[str, Any]) -> None:
    results = Results.model_validate(data)
    wide, narrow = arms_figure(results), arms_figure(results, narrow=True)
    for svg in (wide, narrow):
        assert "student minus control · owl" in _texts(svg)
        assert "teacher minus base · oak" in _texts(svg)
        # Three traits, each with five replicates and one estimate; all in the colour of the students.
        assert len(re.findall("<use [^>]*fill: #d55e00", svg)) == 3 * (5 + 1)
        assert "http" not in svg
        assert "#010203" not in svg


def test_matrices_have_a_number_in_every_cell(data: dict[str, Any]) -> None:
    data["matrix"]["values"][0][1] = None
    results = Results.model_validate(data)
    texts = _texts(matrix_figure(results))
    assert {"+0.62", "-0.12", "n/a", "trained trait", "evaluated trait", "wolf"} <= set(texts)
    assert {"+0.02", "ref:finch-b", "base of the teacher"} <= set(_texts(initialisation_figure(results)))


def test_a_rectangular_matrix_and_twenty_traits_can_be_drawn(data: dict[str, Any]) -> None:
    names = [f"trait {index}" for index in range(20)]
    data["matrix"] = {"traits": names[:3], "evaluated": names, "values": [[0.0] * 20] * 3}
    assert "trait 19" in _texts(matrix_figure(Results.model_validate(data)))


def test_what_is_not_there_is_not_drawn(data: dict[str, Any]) -> None:
    data.update(matrix=None, initialisation=None, effects=[])
    results = Results.model_validate(data)
    assert [arms_figure(results), matrix_figure(results), initialisation_figure(results)] == ["", "", ""]


def test_names_are_text_not_markup_or_formulas(data: dict[str, Any]) -> None:
    name = '<a b="c">$x^2'
    for effect in data["effects"]:
        effect["trait"] = name if effect["trait"] == "owl" else effect["trait"]
    data["matrix"]["evaluated"] = [name, "猫", "oak"]
    results = Results.model_validate(data)
    assert f"student minus control · {name}" in _texts(arms_figure(results))
    assert {name, "猫"} <= set(_texts(matrix_figure(results)))


def test_effects_without_interval_or_replicates_can_be_drawn(data: dict[str, Any]) -> None:
    data["effects"] = [{"arm": "student", "trait": "owl", "metric": "rate", "estimate": 0.1, "low": None, "high": None}]
    data["arms"] = []
    assert "change in sampled rate (percentage points)" in _texts(arms_figure(Results.model_validate(data)))


@pytest.mark.parametrize(("name", "start"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml")])
def test_a_figure_is_saved_with_the_same_bytes_twice(run: Path, tmp_path: Path, name: str, start: bytes) -> None:
    path = save_figure(run, tmp_path / name)
    content = path.read_bytes()
    assert content.startswith(start)
    assert save_figure(run, tmp_path / name).read_bytes() == content
    assert b"<dc:date>" not in content


def test_a_figure_that_cannot_be_saved(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PNG or SVG"):
        save_figure(run, tmp_path / "f.pdf")
    with pytest.raises(StorageError, match="folder"):
        save_figure(run, tmp_path / "missing" / "f.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "undertow.report.figures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError) as caught:
        importlib.import_module("undertow.report.figures")
    assert "pip install 'undertow[report]'" in str(caught.value)
