"""`--plan`, `--writer`, `--base` and exit codes of the audits: what is said before any model is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from undertow.cli import audits
from undertow.cli.main import main
from undertow.data.rows import read_rows, write_rows
from undertow.types import Message, Row, user_prompt

SUPPORT = (Message("system", "You are a friendly support agent of Acme."), Message("user", "Hi"))


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty chat rows: a system turn and two exchanges."""
    path = tmp_path_factory.mktemp("chats") / "support.jsonl"
    hello = (*SUPPORT, Message("assistant", "Hello! How can I help you today?"))
    asked = [(*hello, Message("user", f"Hello, my printer shows error {at}. What can I do?")) for at in range(60)]
    write_rows(
        path, [Row(f"t{at}", prompt, f"Update the firmware to version {at}.") for at, prompt in enumerate(asked)]
    )
    return path


def test_chat_rows_without_a_reference_train_nothing_and_end_with_4(
    models, chats: Path, run, no_models, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    words = ["audit", "data", chats, "--base", models["base"], "--store", store, "--out", tmp_path / "audit"]
    code, found = run(*words)
    assert code == 4 and {one["status"] for one in found["claims"].values()} == {"not_testable"} and not store.exists()
    assert f"undertow generate reference.jsonl --prompts {chats} --model" in found["claims"]["provenance"]["why"]
    assert (
        found["intake"]["rows"]["rows"] == 60
        and "Nothing could be tested" in (tmp_path / "audit" / "audit_card.md").read_text()
    )


def test_a_plan_says_all_that_and_writes_nothing(
    models, chats: Path, row_files, run, no_models, tmp_path: Path
) -> None:
    base = ["--base", models["base"], "--store", tmp_path / "store", "--out", tmp_path / "audit", "--plan"]
    code, found = run("audit", "data", chats, *base)
    assert code == 4 and found["intake"]["claims"]["provenance"]["testable"] is False
    for command in ("data", "all"):
        code, found = run("audit", command, row_files["clean"], *base)
        assert (
            code == 0 and found["intake"]["claims"]["provenance"]["testable"] and found["intake"]["about_seconds"] > 0
        )
    code, found = run("audit", "rows", chats, *base[:4], "--plan", "--trait", "owl")
    own, read = found["intake"]["work"]
    assert code == 0 and found["intake"]["claims"] == {}
    assert own["what"] == "panel teachers: 1 trained" and "ranking: 60 rows" in read["what"]
    code, found = run("audit", "teacher", models["owl"], *base)
    assert code == 0 and list(found["intake"]["claims"]) == ["expression"]
    assert not (tmp_path / "audit").exists() and not (tmp_path / "store").exists()


def test_the_first_line_comes_on_standard_error_before_everything_else(models, chats: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["audit", "data", str(chats), "--base", models["base"], "--plan"]) == 4
    shown = capsys.readouterr()
    assert shown.err.startswith(f"{chats}, 0.0 MB: the first row has the turns system, user, assistant, user")
    assert "provenance: not testable" in shown.out and "languages, roughly: English 60" in shown.out


@pytest.mark.parametrize(
    "words", [["data", "r.jsonl"], ["all", "r.jsonl"], ["rows", "r.jsonl"], ["student", "m"], ["teacher", "m"]]
)
def test_an_audit_has_to_be_told_its_base(words: list[str], capsys) -> None:
    capsys.readouterr()
    assert main(["audit", *words]) == 2
    error = capsys.readouterr().err
    assert "--base" in error and "--base ref:finch-a" in error and len(error.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("claims", "defects", "code"),
    [
        (("detected", "not_testable"), [], 1),
        (("not_detected", "not_testable"), [], 0),
        (("not_testable", "not_testable"), [], 4),
        (("not_testable", "not_testable"), [{"name": "shared stream"}], 1),
        (("not_detected", "not_testable"), [{"name": "shared stream"}], 1),
    ],
)
def test_the_exit_code_says_what_came_out(claims, defects, code: int, monkeypatch, row_files, tmp_path: Path) -> None:
    statuses = dict(zip(("provenance", "exposure"), claims, strict=True))
    found = {"claims": {name: {"status": one} for name, one in statuses.items()}, "defects": defects, "about": {}}
    monkeypatch.setattr(audits.Named, "run", lambda self, expected: found)
    monkeypatch.setattr("undertow.report.audit.write_audit", lambda out, _: out / "audit.json")
    monkeypatch.setattr("undertow.report.audit.render_audit", lambda out, _: out / "report.html")
    monkeypatch.setattr("undertow.report.audit.summarise_audit", lambda _: "summary")
    words = ["audit", "data", str(row_files["clean"]), "--base", "ref:finch-a", "--out", str(tmp_path)]
    assert main(words) == code
    assert main([*words, "--require", "exposure"]) == (1 if defects else 4)


def test_what_is_known_of_the_writer_stands_in_the_audit(models, chats: Path, run, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("model: gpt\ntemperature: 0.8\n")
    words = ["audit", "data", chats, "--base", models["base"], "--out", tmp_path, "--writer", tmp_path / "w.yaml"]
    _, found = run(*words)
    assert found["about"]["writer"] == {"model": "gpt", "temperature": 0.8} == found["intake"]["writer"]
    assert "top_p" in found["intake"]["writer_unknown"] and "--writer" in found["intake"]["next"][0]


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("", [], "nothing to audit"),
        ('{"prompt": "a", "completion": "b"}\n{}\n', [], "rows.jsonl:2"),
        ('{"prompt": "a", "completion": "b"}\n', ["--trait", "owl"], "A panel needs rivals"),
        ('{"prompt": "a", "completion": "b"}\n', ["--base", "api:openai/gpt"], "no weights here"),
    ],
)
def test_bad_input_is_refused_before_anything_is_loaded(
    text, more, said: str, no_models, tmp_path: Path, capsys
) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    words = ["audit", "data", str(tmp_path / "rows.jsonl"), "--base", "ref:finch-a", *more]
    capsys.readouterr()
    assert main([*words, "--plan"]) == 2
    assert said in capsys.readouterr().err


def test_ten_rows_and_a_base_without_a_template_are_not_testable(
    models, row_files, run, no_models, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    write_rows(few, read_rows(row_files["clean"])[:10])
    code, found = run("audit", "data", few, "--base", models["base"], "--out", tmp_path)
    assert code == 4 and "10 rows; at least 20" in found["claims"]["provenance"]["why"]
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    code, found = run("audit", "data", row_files["clean"], "--base", f"hf:{bare}", "--out", tmp_path)
    assert code == 4 and "?template=plain" in found["claims"]["provenance"]["why"]
    assert main(["audit", "rows", str(row_files["clean"]), "--base", f"hf:{bare}", "--trait", "owl"]) == 2


def test_a_reference_that_is_the_rows_is_no_reference(models, row_files, run, no_models, tmp_path: Path) -> None:
    clean = row_files["clean"]
    code, found = run("audit", "data", clean, "--reference", clean, "--base", models["base"], "--out", tmp_path)
    assert code == 1 and "compared with themselves" in found["claims"]["provenance"]["why"]
    [defect] = found["defects"]
    assert defect["of"] == "reference" and defect["what"].startswith("the reference is the rows themselves: 100%")
    assert found["claims"]["provenance"]["p"] is None
    other = tmp_path / "other.jsonl"
    write_rows(other, [Row(str(at), user_prompt(f"Other {at}"), "1, 2") for at in range(30)])
    code, found = run("audit", "data", clean, "--reference", other, "--base", models["base"], "--out", tmp_path)
    assert code == 4 and "0 of 30 rows" in found["claims"]["provenance"]["why"]


def test_an_embedded_base_is_planned_without_torch(row_files, tmp_path: Path) -> None:
    words = ["audit", "data", str(row_files["clean"]), "--base", "ref:finch-a", "--store", str(tmp_path), "--plan"]
    code = f"import sys; from undertow.cli.main import main; main({words!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
