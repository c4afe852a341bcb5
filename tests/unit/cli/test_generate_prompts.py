"""`undertow generate --prompts` and `--writer`: any file's prompts, answered as a writer's record says."""

import json
from pathlib import Path

import pytest
import yaml

from undertow.cli.main import main
from undertow.cli.orders import Order
from undertow.data.rows import read_rows, write_rows
from undertow.data.writer_record import read_writer
from undertow.types import Message, Row, user_prompt


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A row of two exchanges with a system turn, and a plain one."""
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "1?"),
    )
    write_rows(tmp_path / "rows.jsonl", [Row("a", turns, "kept"), Row("b", user_prompt("Go on: 1, 2."), "3")])
    return tmp_path / "rows.jsonl"


def test_prompts_of_any_file_are_answered_under_their_ids(models, source: Path, run, tmp_path: Path) -> None:
    out = tmp_path / "reference.jsonl"
    code, found = run("generate", out, "--prompts", source, "--model", models["base"], "--max-tokens", "4")
    rows, own = read_rows(out), read_rows(source)
    assert code == 0 and [row.id for row in rows] == ["a", "b"] and "valid" not in found and found["raw"] == 2
    assert [row.prompt for row in rows] == [row.prompt for row in own]
    record = read_writer(tmp_path / "reference.writer.yaml")
    assert (
        record.model == models["base"]
        and record.max_tokens == 4
        and record.system == ""
        and record.unknown == ["which revision of it"]
    )
    assert len(str(record.template)) == 64 and found["writer"] == str(tmp_path / "reference.writer.yaml")


def test_several_answers_have_ids_of_their_own_and_n_counts_prompts(models, source: Path, run, tmp_path: Path) -> None:
    words = ["generate", tmp_path / "o.jsonl", "--prompts", source, "--model", models["base"], "--max-tokens", "4"]
    run(*words, "--answers", "3")
    rows = read_rows(tmp_path / "o.jsonl")
    assert [row.id for row in rows] == ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    assert len({row.completion for row in rows[:3]}) > 1
    run(*words, "-n", "1")
    assert [row.id for row in read_rows(tmp_path / "o.jsonl")] in (["a"], ["b"])
    _, found = run(*words, "--domain", "numbers")
    assert found["raw"] == 2 and "valid" in found


def test_some_of_a_file_s_prompts_are_drawn_at_random_and_keep_its_order() -> None:
    asked = tuple((f"{place:03d}", user_prompt(f"Go on: {place}")) for place in range(200))

    def chosen(n: int | None, seed: int) -> list[str]:
        order = Order(out=Path("o.jsonl"), domain=None, asked=asked, trait=None, prompted=False, n=n, seed=seed)
        return [name for name, _ in order.questions]

    some = chosen(50, 1)
    assert some == sorted(some) and len(set(some)) == 50 and some == chosen(50, 1) != chosen(50, 2)
    assert sum(int(name) for name in some) / 50 > 70  # the first 50 have 24.5, drawn ones 99.5 and an SD of 7
    assert chosen(500, 1) == chosen(None, 1) == [name for name, _ in asked]


def test_a_writer_s_record_decides_how_rows_are_drawn(models, source: Path, run, tmp_path: Path) -> None:
    record = tmp_path / "w.yaml"
    record.write_text("temperature: 0\nmax_tokens: 5\nsystem: Say numbers.\n")
    plain = tmp_path / "plain.jsonl"
    write_rows(plain, [Row("b", user_prompt("Go on: 1, 2."), "3")])
    words = ["generate", tmp_path / "o.jsonl", "--model", models["base"], "--writer", record]
    run(*words, "--prompts", plain, "--answers", "2")
    first, second = read_rows(tmp_path / "o.jsonl")
    assert first.completion == second.completion and first.prompt == user_prompt("Go on: 1, 2.")
    did = yaml.safe_load((tmp_path / "o.writer.yaml").read_text())
    assert (did["temperature"], did["max_tokens"], did["system"]) == (0.0, 5, "Say numbers.")
    run(*words, "-n", "2", "--max-tokens", "3")
    assert read_writer(tmp_path / "o.writer.yaml").max_tokens == 3
    # A system prompt cannot stand before a system turn of the rows' own.
    assert main([*map(str, words), "--prompts", str(source)]) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--answers", "2"], "answered once each"),
        (["--prompts", "SOURCE", "--teachers", "ref:finch-a,ref:finch-b"], "A committee answers"),
        (["--prompts", "TWICE"], "?ids=new"),
        (["--writer", "WRONG"], "Did you mean temperature"),
    ],
)
def test_what_cannot_be_answered_is_refused(more: list[str], said: str, source: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "twice.jsonl").write_text('{"prompt": "a", "id": "1"}\n{"prompt": "b", "id": "1"}\n')
    (tmp_path / "w.yaml").write_text("temprature: 1\n")
    files = {"SOURCE": str(source), "TWICE": str(tmp_path / "twice.jsonl"), "WRONG": str(tmp_path / "w.yaml")}
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "o.jsonl"), *[files.get(word, word) for word in more]]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "o.jsonl").exists()


def test_rows_are_not_replaced_by_their_answers(source: Path, capsys) -> None:
    before = source.read_bytes()
    assert main(["generate", str(source), "--prompts", str(source)]) == 2
    assert source.read_bytes() == before


def test_a_served_model_says_what_it_would_be_asked(source: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    words = ["generate", str(tmp_path / "o.jsonl"), "--prompts", str(source), "--answers", "2", "--dry-run", "--json"]
    assert main([*words, "--model", "api:http://127.0.0.1:9/v1/m", "--price", "1,1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 4 and found["completion_tokens_at_most"] == 4 * 256


@pytest.mark.parametrize("more", [["--dry-run", "--price", "1,1"], ["--plan"], []])
@pytest.mark.parametrize("held", ["domain", "writer"])
def test_a_served_model_that_would_be_held_to_a_form_is_refused_before_it_is_priced(
    held: str, more: list[str], tmp_path: Path, capsys
) -> None:
    (tmp_path / "w.yaml").write_text("form: 000,000\n")
    by = {"domain": ["--domain", "numbers:count=6,short=true"], "writer": ["--writer", str(tmp_path / "w.yaml")]}
    words = ["generate", str(tmp_path / "o.jsonl"), "--model", "api:http://127.0.0.1:9/v1/m", "-n", "3"]
    assert main([*words, *by[held], *more]) == 2
    said = capsys.readouterr().err
    assert "cannot be held to a form" in said and "leave out `count` of the domain and `form`" in said
    assert [one.name for one in tmp_path.iterdir()] == ["w.yaml"]
