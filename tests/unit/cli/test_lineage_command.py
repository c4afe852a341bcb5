"""`undertow audit lineage MODEL --known ...` as a user types it: codes, table, JSON, plan and refusals."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["audit", "lineage", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_teacher_is_from_its_base_by_its_weights(models, run, tmp_path: Path, no_models) -> None:
    words = ["--known", models["base"], "--known", "ref:finch-a", "--store", tmp_path / "store"]
    code, found = run("audit", "lineage", models["owl"], *words, "--out", tmp_path / "origin.json")
    assert code == 0 and found["schema"] == "undertow.lineage_known/1"
    assert found["bases"] == [models["base"]] and found["answer"] == "base"
    assert {one["base"]: one["status"] for one in found["candidates"]}["ref:finch-a"] == "other_shape"
    assert json.loads((tmp_path / "origin.json").read_text()) == found


def test_the_table_says_what_was_seen_of_every_base_and_what_comes_next(capsys, tmp_path: Path) -> None:
    path = tmp_path / "bases.txt"
    path.write_text("ref:finch-b\nref:finch-a  # the base\nref:wren-a\nref:finch-b\n")
    code, out, err = said(capsys, "ref:finch-a2", "--known", path, "--store", tmp_path / "store")
    assert code == 0 and out.startswith("base: the model shares its origin with ref:finch-a")
    rows = {line.split("  ")[0]: line for line in out.splitlines() if line.startswith("ref:")}
    assert "shared origin: far, or the first weights alone" in rows["ref:finch-a"]
    assert "no evidence in its fingerprint" in rows["ref:finch-b"] and "another shape" in rows["ref:wren-a"]
    assert f"left out: ref:finch-b: {path}:4 names it again after {path}:1. Name it once." in out
    assert "A parent, a child and a sibling agree alike" in out
    assert out.rstrip().endswith("next: undertow audit lineage ref:finch-a2 ref:finch-a")
    assert "fingerprints of 3 models, 0 from the store" in err


def test_nothing_comparable_ends_with_the_code_of_what_cannot_be_tested(capsys, tmp_path: Path) -> None:
    code, out, _ = said(capsys, "ref:finch-a", "--known", "ref:wren-a", "--store", tmp_path)
    assert code == 4 and out.startswith("not testable: no known base could be tested: 1 of another shape")


def test_the_plan_tells_the_cost_and_compares_nothing(capsys, tmp_path: Path) -> None:
    words = ["ref:finch-a2", "--known", "ref:finch-a", "--store", tmp_path / "store"]
    code, out, _ = said(capsys, *words, "--plan", "--json")
    assert code == 0 and json.loads(out)["schema"] == "undertow.forecast/1" and not (tmp_path / "store").exists()
    assert said(capsys, *words)[0] == 0
    assert "1 base at most, 1 from the store" in said(capsys, *words, "--plan")[1]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "nothing to compare the model with"),
        (("ref:finch-b", "--known", "ref:finch-c"), "Two questions were asked at once"),
        (("--known", "ref:finch-b", "--canary"), "A canary needs one other model"),
        (("ref:finch-b", "--plan"), "Only a question with --known has a plan"),
        (("--known", "ref:finch-z"), "no embedded model of this name"),
        (("--known", "nowhere"), "neither a folder, nor a file, nor a reference"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_three_lines(capsys, words: tuple[str, ...], what: str) -> None:
    code, out, err = said(capsys, "ref:finch-a", *words)
    assert code == 2 and out == "" and what in err and len(err.strip().splitlines()) == 3
