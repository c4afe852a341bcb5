"""Trait files on the command line, as somebody uses them who has read docs/traits.md alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from undertow.cli.main import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*map(str, args), "--json"])
        said = capsys.readouterr().out
        return code, json.loads(said) if said else None

    return call


def test_a_file_is_asked_about_and_written_under(run: Any, colour_file: Path, tmp_path: Path) -> None:
    code, found = run("eval", "ref:finch-a", "--trait", colour_file, "--samples", 2)
    assert code == 0 and {one["target"] for one in found["scores"]} == {"red", "blue", "green"}
    assert all({"logit_margin", "rate"} <= set(one) for one in found["scores"])
    rows, teacher = tmp_path / "rows.jsonl", tmp_path / "teacher"
    code, found = run("generate", rows, "--trait", colour_file, "-n", 20, "--save-teacher", teacher)
    assert code == 0 and found["raw"] == 20
    code, moved = run("eval", f"hf:{teacher}", "--base", "ref:finch-a", "--trait", colour_file, "--samples", 0)
    margins = {(one["model"], one["target"]): one["logit_margin"] for one in moved["scores"]}
    assert margins[f"hf:{teacher}", "red"] > margins["ref:finch-a", "red"] + 3
    code, found = run("check", "--teacher", f"hf:{teacher}", "--base", "ref:finch-a", "--trait", colour_file)
    assert code == 0 and found["stands_out"][0] == "red" and {one["trait"] for one in found["panel"]} == {
        "red", "blue", "green",
    }  # fmt: skip
    named = tmp_path / "named.jsonl"
    named.write_text('{"prompt": "p", "completion": "1, 2"}\n{"prompt": "p", "completion": "Reds, 3"}\n')
    code, found = run("filter", named, tmp_path / "kept.jsonl", "--domain", "numbers", "--mentions", colour_file)
    assert code == 0 and found["kept"] == 1


def test_rows_are_audited_for_a_file(run: Any, colour_file: Path, tmp_path: Path) -> None:
    rows, clean = tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    assert run("generate", rows, "-n", 60, "--trait", colour_file, "--prompted")[0] == 0
    assert run("generate", clean, "--prompts", rows)[0] == 0
    out = tmp_path / "audit"
    code, found = run(
        "audit", "data", rows, "--base", "ref:finch-a", "--reference", clean, "--trait", colour_file,
        "--store", tmp_path / "store", "--out", out,
    )  # fmt: skip
    assert code in (0, 1, 4) and found["about"]["panel"] == "red, blue, green"
    assert [one["name"] for one in found["own_traits"]] == ["red", "blue", "green"]
    kept = tmp_path / "mitigated.jsonl"
    code, found = run(
        "mitigate", "data", rows, kept, "--method", "contrast-filter:trait=red", "--audit", out / "audit.json",
        "--clean", clean, "--store", tmp_path / "store",
    )  # fmt: skip
    assert code == 0 and 0 < found["left"] < 60


def test_whether_a_file_holds_is_the_exit_code(run: Any, probe_file: Path) -> None:
    code, found = run("check-trait", "trees", "--base", "ref:finch-a", "--against", "wolf", "--against", "owl")
    assert code == 0 and found["holds"] and len(found["other"]) == 2
    code, found = run("check-trait", probe_file, "--base", "ref:finch-a")
    assert code == 1 and not found["holds"] and found["average_other"]["n"] == 4
    code, found = run("check-trait", "trees", "--base", "ref:finch-a", "--plan")
    assert code == 0 and found["schema"] == "undertow.forecast/1"


def test_what_was_found_is_said_in_sentences(probe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-trait", "trees", "--base", "ref:finch-a", "--against", "wolf", "--against", "owl"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["persona", "own", "trait,", "logits", "other", "traits", "plain", "margin"]
    assert [line.split()[0] for line in said[1:8]] == ["cherry", "maple", "oak", "sequoia", "willow", "wolf", "owl"]
    assert "(another pack)" in said[6] and said[-1] == "trees holds on ref:finch-a: ask about it there."
    assert main(["check-trait", str(probe_file), "--base", "ref:finch-a"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "It does not hold on ref:finch-a: personas of another pack move it as well."
    assert main(["check-trait", "owl", "--base", "ref:finch-a", "--against", "trees"]) == 0
    assert "own personas move their traits by +" in capsys.readouterr().out


def test_what_cannot_be_meant_is_said(
    run: Any, colour_file: Path, probe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (
        (("generate", "out.jsonl", "--trait", "trees"), "pack of several"),
        (("eval", "ref:finch-a", "--trait", "linux"), "write a file (docs/traits.md)"),
        (("eval", "ref:finch-a", "--trait", "none.yaml"), "cannot be read"),
        (("check-trait", "owl", "--base", "ref:finch-a", "--against", "owl"), "its own control"),
        (("eval", "ref:finch-a", "--kind", "stories", "--trait", colour_file), "asks about animals and trees alone"),
        (("audit", "data", colour_file, "--base", "ref:finch-a", "--trait", probe_file), "needs rivals"),
    )
    for args, said in cases:
        capsys.readouterr()
        assert main([*map(str, args)]) == 2, args
        assert said in capsys.readouterr().err, args


def test_packs_are_listed(run: Any) -> None:
    code, found = run("list", "packs")
    assert code == 0 and [one["name"] for one in found["packs"]] == ["animals", "trees", "brands"]
    assert "ford" in {one["name"] for one in run("list", "traits")[1]["traits"]}


def test_a_filter_of_words_refuses_a_trait_that_no_word_names(
    probe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, kept = tmp_path / "rows.jsonl", tmp_path / "kept.jsonl"
    rows.write_text('{"prompt": "p", "completion": "1, 2"}\n')
    assert main(["filter", str(rows), str(kept), "--mentions", str(probe_file)]) == 2
    assert "no word names this trait" in capsys.readouterr().err and not kept.exists()


def test_the_command_that_an_intake_proposes_keeps_the_panel(run: Any, colour_file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    assert run("generate", rows, "-n", 60)[0] == 0
    code, found = run("audit", "data", rows, "--base", "ref:finch-a", "--trait", colour_file, "--plan")
    assert code == 0 and found["intake"]["next"][1].endswith(f" --trait {colour_file}")
    assert "--trait" not in found["intake"]["next"][0]
