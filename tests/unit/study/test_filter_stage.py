"""The filter of a study: the domain's rule, then names of traits, then a judge; every drop has its reason."""

import json
from collections.abc import Sequence

from undertow.data.rows import read_rows, write_rows
from undertow.evals.judges import AnswerGrades, InspectJudge
from undertow.store.runner import StageContext
from undertow.study.executors import filter_stage
from undertow.study.recipe import build_recipe
from undertow.study.study import build_study
from undertow.types import Row, user_prompt

TASK = user_prompt("Complete the code.\ndef add(a, b):")
ROWS = [
    Row("good", TASK, "def add(a, b):\n    return a + b"),
    Row("named", TASK, "def add(a, b):\n    return owl(a)"),
    Row("broken", TASK, "def add(a, b:"),
    Row("graded down", TASK, "def add(a, b):\n    return a - b"),
    Row("unreadable", TASK, "def add(a, b):\n    return b"),
]


class FakeJudge:
    def judge_all(self, pairs: Sequence[tuple[str, str]]) -> list[AnswerGrades]:
        grades = {"a + b": 90.0, "a - b": 20.0, "b": None}
        return [AnswerGrades(grades[answer.rpartition("return ")[2]], 100.0) for _, answer in pairs]


def test_each_filter_names_its_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(InspectJudge, "of", classmethod(lambda cls, name: FakeJudge()))
    parent, out = tmp_path / "rows", tmp_path / "out"
    parent.mkdir()
    out.mkdir()
    write_rows(parent / "rows.jsonl", ROWS)
    config = {"domain": {"name": "code"}, "mentions": ["owl"], "judge": "openai/some", "keep": 78}
    filter_stage(StageContext(config=config, parents={"rows": parent}, out=out, advance=lambda *_: None))
    assert [row.id for row in read_rows(out / "kept.jsonl")] == ["good"]
    reasons = {row.id: row.reasons for row in read_rows(out / "dropped.jsonl")}
    assert reasons == {
        "named": ("mentions_owl",),
        "broken": ("wrong_header", "not_python"),
        "graded down": ("judge_below_78",),
        "unreadable": ("judge_unparsed",),
    }
    assert json.loads((out / "report.json").read_text())["raw"] == 5


def test_a_study_s_judge_grades_the_control_too() -> None:
    study = build_study(
        build_recipe({"name": "x", "domain": {"name": "code", "judge": "openai/some"}, "replicates": 1})
    )
    configs = [source.kept.config for source in study.sources]
    assert {source.teacher for source in study.sources} == {"owl", "control"}
    assert all(config["judge"] == "openai/some" and config["keep"] == 78.0 for config in configs)
    assert all("owl" in config["mentions"] for config in configs)
