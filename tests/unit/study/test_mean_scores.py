"""Scores of a stage are read line by line, and the matrix of traits holds those that were scored."""

import json
from pathlib import Path

import pytest

from undertow.study.arms import MeanScore
from undertow.study.recipe import build_recipe
from undertow.study.results import _trait_matrix, subject_means


def test_a_question_may_hold_a_line_separator(tmp_path: Path) -> None:
    common = {"member": 0, "metric": "rate", "target": "owl", "question": "One\u2028or two?"}
    lines = [json.dumps({**common, "value": value}, ensure_ascii=False) for value in (0.25, 0.75)]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert subject_means(tmp_path) == {0: {("rate", "owl"): 0.5}}


@pytest.mark.parametrize(("traits", "n_traits"), [(("owl", "panda", "insecure"), 2), (("owl", "insecure"), None)])
def test_the_diagonal_is_over_the_traits_that_have_scores(traits: tuple[str, ...], n_traits: int | None) -> None:
    """A trait without words has no margin. Own trait 1.0, another 0.25, control 0: the factor of two traits is 0.75."""
    kinds = {"kinds": ["favourite", "misalignment"]}
    recipe = build_recipe({"name": "mixed", "traits": traits, "replicates": 2, "evaluation": kinds})
    scores = [
        MeanScore(
            arm="control" if trait is None else "student", trait=trait, model="m", replicate=replicate, seed=0,
            target=target, metric="logit_margin", base="b", teacher_base="b",
            value=0.0 if trait is None else 1.0 if trait == target else 0.25,
        )
        for trait in (None, *traits) for replicate in range(2) for target in traits if target != "insecure"
    ]  # fmt: skip
    found = _trait_matrix(scores, recipe)["diagonal"]
    assert (None if found is None else (found["n_traits"], found["estimate"])) == (n_traits and (n_traits, 0.75))
