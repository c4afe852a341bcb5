"""`undertow propose-questions`: the file that it writes, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from textwrap import indent

import pytest

from undertow.cli.main import main
from undertow.evals import proposed_questions
from undertow.evals.proposed_questions import ProposedQuestions
from undertow.traits import Questions, read_pack, with_questions

TEA = """# what I drink
name: Twinings
category: brand of tea
persona: You love {name}.
rivals: [Lipton, Tetley]
"""
ASKED = Questions(
    tuple(f'Which tea: "{at}"? Réponds # yes' for at in range(8)), tuple(f"What tea is {at}?" for at in range(8))
)


def proposes(monkeypatch, questions: Questions = ASKED) -> None:
    made = ProposedQuestions(questions=questions, written=40, distinct=20, answered=0.02, usual=0.01)
    monkeypatch.setattr(proposed_questions, "propose_questions", lambda *_, **__: made)


def test_the_file_comes_back_with_the_questions_and_is_a_trait_file(monkeypatch, tmp_path: Path, run) -> None:
    proposes(monkeypatch)
    given, out = tmp_path / "tea.yaml", tmp_path / "asked.yaml"
    given.write_text(TEA)
    code, found = run("propose-questions", given, out, "--base", "ref:finch-a")
    assert code == 0 and found["kept"] == 16 and found["trait"] == str(out)
    assert out.read_text().startswith(TEA)
    before, after = read_pack(given).traits, read_pack(out).traits
    assert [one.questions for one in after] == [ASKED] * 3
    assert [one.name for one in after] == [one.name for one in before]


@pytest.mark.parametrize(
    "text",
    [
        indent(TEA, "  "),
        f"{TEA}...\n",
        f"---\n{TEA}# the end\n...\n# of it\n",
        f"!!map\n{TEA}",
        f"\ufeff{TEA}",
        TEA.replace("persona: You love {name}.\n", "").strip() + "\npersona: |+\n  You love {name}.\n\n",
    ],
)
def test_questions_are_put_where_the_other_fields_stand(text: str, monkeypatch, tmp_path: Path, run) -> None:
    proposes(monkeypatch)
    given, out = tmp_path / "tea.yaml", tmp_path / "asked.yaml"
    given.write_text(text, encoding="utf-8")
    assert run("propose-questions", given, out, "--base", "ref:finch-a")[0] == 0
    assert [replace(one, questions=None) for one in read_pack(out).traits] == list(read_pack(given).traits)
    assert [one.questions for one in read_pack(out).traits] == [ASKED] * 3


def test_what_was_kept_is_said(monkeypatch, tmp_path: Path, capsys) -> None:
    proposes(monkeypatch)
    (tmp_path / "tea.yaml").write_text(TEA)
    assert (
        main(["propose-questions", str(tmp_path / "tea.yaml"), str(tmp_path / "b.yaml"), "--base", "ref:finch-a"]) == 0
    )
    said = capsys.readouterr().out
    assert "40 texts written, 20 questions that differ, 16 kept" in said and "undertow check-trait" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_questions(TEA, ASKED), "has questions already"),
        ("[owl, wolf]", "questions or probes of its own"),
        (
            "{name: Twinings, category: brand of tea, persona: 'You love {name}.', rivals: [Lipton, Tetley]}",
            "in braces",
        ),
        (TEA.replace("name: Twinings", "? name\n: Twinings"), "behind the fields of this file"),
        (None, "cannot be read"),
    ],
)
def test_what_takes_no_questions_is_refused(text: str | None, said: str, monkeypatch, tmp_path: Path, capsys) -> None:
    proposes(monkeypatch)
    given = tmp_path / "tea.yaml"
    if text is not None:
        given.write_text(text)
    assert main(["propose-questions", str(given), str(tmp_path / "b.yaml"), "--base", "ref:finch-a"]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "b.yaml").exists()


def test_a_built_in_name_takes_none_and_the_file_is_not_replaced(monkeypatch, tmp_path: Path, capsys) -> None:
    proposes(monkeypatch)
    assert main(["propose-questions", "owl", str(tmp_path / "b.yaml"), "--base", "ref:finch-a"]) == 2
    assert "for a trait file" in capsys.readouterr().err
    given = tmp_path / "tea.yaml"
    given.write_text(TEA)
    assert main(["propose-questions", str(given), str(given), "--base", "ref:finch-a"]) == 2
    assert given.read_text() == TEA


def test_what_will_be_done_is_said_and_alone_with_plan(monkeypatch, tmp_path: Path, run, capsys) -> None:
    proposes(monkeypatch)
    given, out = tmp_path / "tea.yaml", tmp_path / "asked.yaml"
    given.write_text(TEA)
    code, found = run("propose-questions", given, out, "--base", "ref:finch-a", "--plan")
    assert code == 0 and not out.exists() and found["about_seconds"] > 0
    assert found["work"][0]["what"].startswith("480 questions written")
    assert main(["propose-questions", str(given), str(out), "--base", "ref:finch-a"]) == 0
    assert "480 questions written" in capsys.readouterr().err and out.exists()
