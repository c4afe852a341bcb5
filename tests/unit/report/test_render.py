"""The page: everything in its place and escaped, nothing loaded, the same bytes twice."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import ArtifactError, StorageError
from undertow.report.render import render

SECTIONS = [
    "arms",
    "effects",
    "matrix",
    "initialisation",
    "levels",
    "rows",
    "samples",
    "settings",
    "not-tested",
    "versions",
]
EVIL = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\"'&{{ 7 * 7 }}"


class _Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def _page(run: Path, data: dict[str, Any] | None = None) -> _Page:
    if data is not None:
        (run / "results.json").write_text(json.dumps(data), encoding="utf-8")
    return _Page(render(run).read_text(encoding="utf-8"))


def _plant(value: Any) -> Any:
    """Put evil text before every text but the ones that the schema fixes."""
    if isinstance(value, dict):
        fixed = ("schema", "arm", "metric")
        return {
            EVIL + key if key == "not_numbers" else key: item if key in fixed else _plant(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plant(item) for item in value]
    return EVIL + value if isinstance(value, str) else value


def test_the_page_has_every_part_in_order(run: Path, data: dict[str, Any]) -> None:
    page = _page(run)
    assert [value for value in page.values("id") if value in SECTIONS] == SECTIONS
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert page.tags.count("title") == page.tags.count("h1") == 1
    for text in (
        data["question"],
        "+0.54",
        "+0.44 to +0.65",
        "Diagonal factor +0.58",
        "12.1 %",
        "2,911 of 3,000 rows kept",
    ):
        assert text in page.text
    for text in (
        "not_numbers 89",
        "712, 455, 801, 93",
        "dropped: not_numbers",
        "steps: 150",
        "Prompted teachers.",
        "3.11.9",
    ):
        assert text in page.text
    assert "safe" not in page.text.lower()


def test_untrusted_text_is_escaped_everywhere(run: Path, data: dict[str, Any]) -> None:
    (run / "config.yaml").write_text(f"name: {EVIL}\n", encoding="utf-8")
    page = _page(run, _plant(data))
    assert not {"script", "img", "link", "iframe", "object", "base", "form", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert EVIL + "712, 455, 801, 93" in page.text


def test_signs_that_hide_text_are_spelled_out(run: Path, data: dict[str, Any]) -> None:
    data["samples"][0]["completion"] = "1, \u202e2\x00, \ud800\x1b[0m"
    text = _page(run, data).text
    assert "1, \\u202e2\\u0000, \ufffd\\u001b[0m" in text


def test_nothing_is_loaded_and_nothing_runs(run: Path) -> None:
    text = render(run).read_text(encoding="utf-8")
    page = _Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not page.values("src")
    links = [*page.values("href"), *page.values("xlink:href"), *re.findall(r"url\(([^)]*)\)", text)]
    assert all(link.startswith("#") for link in links)
    assert set(link[1:] for link in links) <= set(page.values("id"))
    assert "@import" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.values("content")


def test_both_files_are_the_same_twice_and_nothing_else_is_left(run: Path) -> None:
    page = render(run)
    assert page == run / "report.html"
    before = [page.read_bytes(), (run / "report.json").read_bytes()]
    render(run)
    assert [page.read_bytes(), (run / "report.json").read_bytes()] == before
    assert sorted(os.listdir(run)) == ["config.yaml", "report.html", "report.json", "results.json"]


def test_report_json_is_the_results_with_the_answer(run: Path, data: dict[str, Any]) -> None:
    render(run)
    written = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert written.pop("answer").startswith("On ref:finch-a, ")
    assert {key: written[key] for key in data} == {**data, "rows": written["rows"], "funnels": written["funnels"]}
    assert written["rows"].items() >= data["rows"].items()


def test_a_run_of_two_arms_without_matrices_has_no_empty_sections(run: Path, data: dict[str, Any]) -> None:
    data.update(matrix=None, diagonal=None, initialisation=None, funnels=[], samples=[], not_tested=[], versions={})
    data["effects"] = [effect for effect in data["effects"] if effect["arm"] == "student"]
    (run / "config.yaml").unlink()
    page = _page(run, data)
    assert not {"matrix", "initialisation"} & set(page.values("id"))
    for text in ("all teachers: 8,734 of 9,000", "The run recorded none.", "no config.yaml", "Anything but the traits"):
        assert text in " ".join(page.text.split())


def test_the_least_that_the_schema_allows_can_be_rendered(run: Path) -> None:
    least = {"schema": "undertow.run/1", "recipe": "r", "rows": {"raw": 0, "kept": 0}, "arms": [], "effects": []}
    page = _page(run, least)
    assert "Run of recipe r" in page.text
    assert "there is no effect to show" in page.text


def test_one_replicate_is_said_to_have_no_interval(run: Path, data: dict[str, Any]) -> None:
    data["effects"] = [{**effect, "low": None, "high": None, "n": 1, "p": None} for effect in data["effects"]]
    assert "no interval" in _page(run, data).text


def test_long_rows_and_many_rows_are_cut_and_counted(run: Path, data: dict[str, Any]) -> None:
    data["samples"] = [{**data["samples"][0], "completion": "7" * 5000}] * 70
    text = _page(run, data).text
    assert "(3000 more characters)" in text
    assert "10 more are in report.json" in text


def test_no_run_no_report(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        render(tmp_path)
    with pytest.raises(StorageError):
        render(tmp_path / "missing")
    assert not (tmp_path / "report.html").exists()


def test_the_template_is_beside_the_module_so_that_the_wheel_has_it() -> None:
    import undertow.report

    folder = Path(undertow.report.__path__[0])
    assert {"template.html", "style.css"} <= set(os.listdir(folder))
