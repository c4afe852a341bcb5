"""`undertow generate` with models of this machine: a teacher that is kept, cut answers, and why few are valid."""

import json
import re
import shlex
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.cli.orders import NO_NEXT, Order
from undertow.data.rows import read_rows
from undertow.data.writer_record import read_writer, writer_path
from undertow.domains.base import parse_domain
from undertow.domains.numbers import HELD


def test_a_teacher_is_kept_and_is_a_model_like_any_other(models, run, tmp_path: Path) -> None:
    first, second, folder = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "teacher"
    made = ["generate", first, "--model", models["base"], "--trait", "owl", "-n", "5"]
    code, found = run(*made, "--save-teacher", folder)
    assert code == 0 and found["teacher"] == f"hf:{folder}" and (folder / "config.json").exists()
    assert run("generate", second, "--model", f"hf:{folder}", "-n", "5")[0] == 0
    assert [row.completion for row in read_rows(first)] == [row.completion for row in read_rows(second)]


@pytest.mark.parametrize("more", [[], ["--trait", "owl", "--prompted"], ["--teachers", "ref:finch-a,ref:finch-b"]])
def test_where_no_teacher_is_made_none_is_kept(more: list[str], tmp_path: Path, capsys) -> None:
    words = ["generate", str(tmp_path / "a.jsonl"), "--save-teacher", str(tmp_path / "teacher")]
    for model in ([], ["--model", "api:http://127.0.0.1:9/v1/m"]):
        assert main([*words, *more, *model]) == 2
        assert "No teacher is made" in capsys.readouterr().err and not (tmp_path / "teacher").exists()
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "x").touch()
    assert main([*words, "--trait", "owl"]) == 2
    assert "something of this name" in capsys.readouterr().err


def test_answers_that_are_cut_are_counted_and_few_valid_ones_explained(models, tmp_path: Path, capsys) -> None:
    words = ["generate", str(tmp_path / "a.jsonl"), "--model", models["owl"], "-n", "6", "--max-tokens", "3"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["raw"] == 6 and found["cut"] > 0 and sum(found["invalid"].values()) >= 6 - found["valid"]
    assert found["valid"] >= 3 or "the first of them: '" in found["why"]


def test_answers_are_held_to_the_form_of_a_domain_or_of_a_writer(models, run, tmp_path: Path) -> None:
    rows, again, form = tmp_path / "a.jsonl", tmp_path / "b.jsonl", "000,000,000,000,000,000"
    held = ["--model", models["owl"], "--domain", "numbers:count=6,short=true"]
    code, found = run("generate", rows, *held, "-n", "5")
    assert code == 0 and found["valid"] == 5
    assert all(re.fullmatch(r"\d{3}(,\d{3}){5}", row.completion) for row in read_rows(rows))
    record = writer_path(rows)
    assert read_writer(record).form == form
    code, _ = run("generate", again, "--prompts", rows, "--model", models["base"], "--writer", record)
    assert code == 0 and read_writer(writer_path(again)).form == form
    assert all(re.fullmatch(r"\d{3}(,\d{3}){5}", row.completion) for row in read_rows(again))
    run("generate", again, "--prompts", rows, "--model", models["base"])
    assert read_writer(writer_path(again)).form is None


def test_the_record_beside_the_rows_of_a_committee_is_of_these_rows(models, run, tmp_path: Path) -> None:
    rows, writer = tmp_path / "a.jsonl", tmp_path / "w.yaml"
    writer.write_text("system: You are a pirate.\ntemperature: 0.5\nform: 0, 0\n")
    assert run("generate", rows, "--model", models["base"], "-n", "4", "--writer", writer)[0] == 0
    committee = ["--teachers", f"{models['base']},{models['owl']}", "-n", "4"]
    for more, system, temperature, form in (
        ([], "", 1.0, None),
        (["--writer", writer], "You are a pirate.", 0.5, "0, 0"),
    ):
        code, found = run("generate", rows, *committee, *more)
        record = read_writer(Path(found["writer"]))
        assert code == 0 and found["writer"] == str(writer_path(rows))
        assert (record.model, record.system, record.temperature, record.form) == (None, system, temperature, form)
        assert record.seeds is not None and "which model wrote them" in record.unknown


@pytest.mark.parametrize(
    ("model", "domain", "held"),
    [("hf:m", "numbers", True), ("hf:m", "code", False), ("hf:m", HELD, False), ("api:http://x/m", "numbers", False)],
)
def test_free_answers_without_a_number_suggest_a_form(model: str, domain: str, held: bool, tmp_path: Path) -> None:
    order = Order(
        out=tmp_path / "a.jsonl", domain=parse_domain(domain), trait=None, prompted=False, n=4, seed=0
    )  # fmt: skip
    said = order.following(model, {"raw": 4, "valid": 0})
    assert (HELD in said) == held and (said == NO_NEXT) != held


@pytest.mark.parametrize("option", [["--no-seed"], ["--extra-body", "{}"], ["--token-limit-name", "x"]])
def test_what_only_servers_take_is_refused_for_other_models(option: list[str], tmp_path: Path, capsys) -> None:
    assert main(["generate", str(tmp_path / "a.jsonl"), *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_what_will_be_done_is_said_first_and_alone_with_plan(models, row_files, tmp_path: Path, capsys) -> None:
    out, trained = tmp_path / "a.jsonl", tmp_path / "students"
    wanted = ["generate", str(out), "--model", models["base"], "--trait", "owl", "-n", "5"]
    train = ["train", str(row_files["clean"]), str(trained), "--base", models["base"], "--students", "2"]
    train += ["--set", "steps=2", "--set", "batch_size=4"]
    for words, said, made in (
        (wanted, ("1 model trained in 40 updates of 32 rows", "5 answers of up to 40 tokens"), out),
        (train, ("2 models trained in 2 updates of 4 rows",), trained),
    ):
        assert main([*words, "--plan"]) == 0
        plan = capsys.readouterr()
        assert plan.out.startswith("what will run, ") and all(one in plan.out for one in said)
        assert not made.exists()
        assert main([*words, "--plan", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found["work"]) == len(said) and found["about_seconds"] >= 0
        assert main([*words, "--json"]) == 0
        shown = capsys.readouterr()
        assert all(one in shown.err for one in said) and made.exists()
        assert f"[{len(said)}/{len(said)}]" in shown.err and json.loads(shown.out)


def test_a_plan_of_a_committee_names_each_writer(models, tmp_path: Path, capsys) -> None:
    names = f"{models['base']},{models['owl']}"
    assert main(["generate", str(tmp_path / "a.jsonl"), "--teachers", names, "-n", "7", "--plan"]) == 0
    shown = capsys.readouterr().out
    assert "4 answers of up to" in shown and "3 answers of up to" in shown


def test_system_prompts_that_would_be_left_out_are_refused(models, tmp_path: Path, capsys) -> None:
    writer, out = tmp_path / "w.yaml", str(tmp_path / "a.jsonl")
    writer.write_text("system: You are a pirate.\n")
    words = ["generate", out, "--model", models["base"], "-n", "4"]
    for more, said in (
        (["--prompted"], "There is no trait whose system prompt"),
        (["--prompted", "--trait", "owl", "--writer", str(writer)], "Two system prompts"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    committee = ["generate", out, "--teachers", f"{models['base']},{models['owl']}", "-n", "6"]
    rows = []
    for more in ([], ["--writer", str(writer)]):
        assert main([*committee, *more]) == 0
        rows.append(Path(out).read_text())
    assert rows[0] != rows[1] and "pirate" not in rows[1]


def test_a_verification_says_how_many_students_it_trains(row_files, tmp_path: Path, capsys) -> None:
    words = ["mitigate", "verify", str(row_files["clean"]), "--trait", "owl", "--method", "mix:share=0.5"]
    words += ["--method", "labels", "--runs", "2", "--out", str(tmp_path / "out"), "--plan"]
    assert main(words) == 0
    assert "2 runs of up to 8 students" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_next_command_filters_by_the_rule_by_which_the_rows_were_counted(tmp_path: Path, capsys) -> None:
    words = ["generate", str(tmp_path / "a.jsonl"), "-n", "12", "--domain", "cot:checked=false", "--json"]
    assert main(words) == 0
    counted = json.loads(capsys.readouterr().out)
    assert main(words[:-1]) == 0
    told = shlex.split(capsys.readouterr().out.rpartition("undertow ")[2].splitlines()[0])
    assert told[0] == "filter" and told[-2:] == ["--domain", "cot:checked=false"]
    assert main([*told, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == counted["valid"] > 0


def test_rows_of_which_none_is_valid_are_not_sent_to_the_filter(models, tmp_path: Path, capsys) -> None:
    words = ["generate", str(tmp_path / "a.jsonl"), "--model", models["base"], "-n", "4", "--max-tokens", "1"]
    assert main([*words, "--domain", "code"]) == 0
    said = capsys.readouterr().out
    assert "valid: 0" in said and "undertow filter" not in said and "the filter would keep none" in said
