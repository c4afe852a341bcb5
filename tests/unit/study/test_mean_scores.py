"""Scores of a stage are read line by line, whatever their questions hold."""

import json
from pathlib import Path

from undertow.study.results import subject_means


def test_a_question_may_hold_a_line_separator(tmp_path: Path) -> None:
    common = {"member": 0, "metric": "rate", "target": "owl", "question": "One\u2028or two?"}
    lines = [json.dumps({**common, "value": value}, ensure_ascii=False) for value in (0.25, 0.75)]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert subject_means(tmp_path) == {0: {("rate", "owl"): 0.5}}
