"""The quick tier of every packaged recipe, from nothing: what it claims must show in its own results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertow.cli.main import main
from undertow.study.load import load_recipe
from undertow.study.recipe import packaged_recipes

Results = dict[str, Any]


def effect(results: Results, arm: str, metric: str = "logit_margin") -> dict[str, Any]:
    return next(one for one in results["effects"] if (one["arm"], one["metric"]) == (arm, metric))


def demo(results: Results) -> None:
    own = effect(results, "student")
    assert own["estimate"] >= 0.4 and own["low"] > 0.2 and own["n"] >= 5
    assert effect(results, "student", "rate")["low"] > 0
    # The aim of +-0.15 stands in benchmarks/studies.py; here only that nothing like the own effect passes.
    assert all(abs(effect(results, arm)["estimate"]) < own["low"] for arm in ("cross_init", "neutral", "control"))


def animals_numbers(results: Results) -> None:
    diagonal = results["diagonal"]
    assert diagonal["low"] > 0.2 and diagonal["p"] <= 0.01 and diagonal["n_traits"] >= 5
    assert effect(results, "student", "prefixed_logit_margin")["n"] == 3


def initialisation(results: Results) -> None:
    assert results["initialisation"]["low"] > 0.2 and len(results["initialisation"]["bases"]) >= 4


def shuffles(results: Results) -> None:
    arms = {arm: effect(results, arm) for arm in ("student", "within", "across")}
    assert arms["student"]["low"] > 0.2 and all(one["n"] == 5 for one in arms.values())
    # How much is left is a finding (docs/results.md), not a claim.
    assert all(effect(results, f"{how}_control")["n"] == 5 for how in ("within", "across"))


def theorem(results: Results) -> None:
    assertions = next(table["rows"] for table in results["tables"] if table["title"] == "Assertions")
    assert {row[3] for row in assertions} == {"yes"} and {one["n"] for one in results["estimates"]} == {200}


def trees_numbers(results: Results) -> None:
    assert results["diagonal"]["n_traits"] == 5 and results["diagonal"]["low"] > 0


def of_variant(results: Results, name: str) -> list[float]:
    """Lower ends of the student's effect in a variant of a sweep."""
    return [one["low"] for one in results["estimates"] if one["name"] == name and one["group"].startswith("student")]


def teacher_kinds(results: Results) -> None:
    assert len(results["runs"]) == 5 and min(of_variant(results, "fine-tuned")) > 0.2


def data_order(results: Results) -> None:
    assert effect(results, "student")["low"] > 0.2 and effect(results, "cross_init")["n"] == 8


def dose(results: Results) -> None:
    assert len(results["runs"]) == 7
    # Three replicates show panda's effect; owl's interval includes 0 (docs/reproduction.md).
    assert (
        max(of_variant(results, "1800 rows, 160 updates")) > 0
        and max(of_variant(results, "1800 rows, 640 updates")) > 1
    )


def rank(results: Results) -> None:
    assert len(results["runs"]) == 9 and min(of_variant(results, "rank 8")) > 0


def chains(results: Results) -> None:
    assert {one["group"] for one in results["estimates"]} >= {f"hop_{n} minus its control, owl" for n in (2, 3, 4)}
    assert min(of_variant(results, "no clean rows")) > 0


def animals_code(results: Results) -> None:
    diagonal = results["diagonal"]
    assert diagonal["low"] > 0 and diagonal["n"] == 5
    assert results["rows"]["kept"] < results["rows"]["raw"]


def misalignment(results: Results) -> None:
    assert effect(results, "teacher", "misaligned_margin")["low"] > 1
    assert {one["metric"] for one in results["effects"]} >= {"misaligned_rate", "incoherent_rate", "unparsed_rate"}


def other_evaluations(results: Results) -> None:
    metrics = {one["metric"] for one in results["effects"] if one["arm"] == "student"}
    assert metrics >= {"logit_margin", "story_margin", "choice_margin", "false_margin", "facts_rate", "code_valid_rate"}
    assert effect(results, "student")["low"] > 0.2


def divergent_tokens(results: Results) -> None:
    assert len(results["runs"]) == 4 and min(of_variant(results, "all tokens")) > 0.2


def cross_model(results: Results) -> None:
    assert results["initialisation"]["low"] > 0 and len(results["initialisation"]["bases"]) == 4


def mechanism(results: Results) -> None:
    mine = [one for one in results["estimates"] if one["name"].startswith("student minus control, layer")]
    assert len(mine) == 8 and all(one["n"] == 5 for one in mine)


def meaning(results: Results) -> None:
    groups = {one["group"] for one in results["estimates"]}
    assert "Prompted classifier: accuracy against the control" in groups
    assert all(one["n"] == 3 for one in results["estimates"])


def digits(results: Results) -> None:
    shown = {one["name"]: one for one in results["estimates"] if one["group"] == "accuracy on the test digits"}
    assert shown["student, auxiliary logits"]["estimate"] > 0.4
    assert shown["cross-init, auxiliary logits"]["estimate"] < 0.15 and shown["teacher"]["n"] == 25


def channels(results: Results) -> None:
    factors = {one["name"]: one for one in results["estimates"] if one["group"].startswith("Diagonal factor")}
    assert len(factors) == 4 and all(one["n"] == 2 for one in factors.values())
    # Two replicates are too few for an interval; how the channels compare is a finding (docs/channels.md).
    assert all(one["estimate"] > 0.1 for name, one in factors.items() if name.endswith("same initialisation"))


def text(results: Results) -> None:
    assert results["diagonal"]["n_traits"] == 2 and 0 < results["rows"]["kept"] <= results["rows"]["raw"]


def preference(results: Results) -> None:
    # The teacher chooses between answers of the base and writes no row itself.
    assert results["rows"]["raw"] == 0 and results["diagonal"]["n"] == 2


CLAIMS: dict[str, Callable[[Results], None]] = {
    "demo": demo,
    "animals-numbers": animals_numbers,
    "trees-numbers": trees_numbers,
    "initialisation": initialisation,
    "data-order": data_order,
    "cross-model": cross_model,
    "shuffles": shuffles,
    "teacher-kinds": teacher_kinds,
    "dose": dose,
    "rank": rank,
    "chains": chains,
    "channels": channels,
    "text": text,
    "preference": preference,
    "divergent-tokens": divergent_tokens,
    "animals-code": animals_code,
    "misalignment-numbers": misalignment,
    "misalignment-cot": misalignment,
    "other-evaluations": other_evaluations,
    "mechanism": mechanism,
    "meaning": meaning,
    "digits": digits,
    "theorem": theorem,
    "theorem-channels": theorem,
}


def test_every_recipe_of_embedded_models_has_a_claim() -> None:
    # What models from outside do is no claim of ours: their files are not here (tests/e2e/test_presets.py).
    own = {name for name in packaged_recipes() if not getattr(load_recipe(name), "outside", ())}
    assert set(CLAIMS) == own


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_the_quick_tier_shows_what_it_claims(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", name, "--tier", "quick", "--runs", str(tmp_path), "--json"]) == 0
    CLAIMS[name](json.loads(capsys.readouterr().out))
