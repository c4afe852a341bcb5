"""The figures of the pages: each is drawn from results in the repository, and any other picture is a fault."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import site_figures  # noqa: E402  # pyright: ignore[reportMissingImports]

PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def pictures() -> dict[str, list[tuple[str, str]]]:
    """Return words and path of the pictures of each page."""
    return {page.name: PICTURE.findall(page.read_text(encoding="utf-8")) for page in (ROOT / "docs").glob("*.md")}


def test_every_picture_of_a_page_has_a_command_and_is_up_to_date() -> None:
    shown = {page: [path for _, path in found] for page, found in pictures().items()}
    assert sum(map(len, shown.values())) >= len(site_figures.FIGURES)
    assert list(site_figures.faults(shown)) == []


def test_every_picture_says_in_words_what_it_shows() -> None:
    words = [words for found in pictures().values() for words, _ in found]
    assert all(len(text.split()) >= 10 for text in words)


def test_a_picture_that_no_command_prints_is_named() -> None:
    assert list(site_figures.faults({"page.md": ["figures/drawn-by-hand.svg"]})) == [
        "page.md shows figures/drawn-by-hand.svg, and scripts/site_figures.py names no command that prints its numbers."
    ]


def test_changed_and_missing_results_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = site_figures.SiteFigure("one", "undertow demo", ("data.json",), site_figures.evidence_over_rounds)
    monkeypatch.setattr(site_figures, "RESULTS", tmp_path)
    monkeypatch.setattr(site_figures, "FOLDER", tmp_path)
    monkeypatch.setattr(site_figures, "FIGURES", (figure,))
    assert "is missing" in next(site_figures.faults({})) and "undertow demo" in next(site_figures.faults({}))
    trails = [{"drift": drift, "rounds": [[drift] * 40]} for drift in (0.0, 0.5, 1.0)]
    source = tmp_path / "data.json"
    source.write_text(json.dumps({"bound": 3.0, "budget": 150, "trails": trails}))
    figure.path.write_bytes(site_figures.marked(figure))
    assert list(site_figures.faults({})) == []
    source.write_text(json.dumps({"bound": 2.0, "budget": 150, "trails": trails}))
    assert list(site_figures.faults({})) == [
        "one.svg was drawn from other results: run python scripts/site_figures.py."
    ]


def test_the_same_results_give_the_same_bytes() -> None:
    figure = site_figures.FIGURES[-1]
    assert site_figures.marked(figure) == site_figures.marked(figure)
