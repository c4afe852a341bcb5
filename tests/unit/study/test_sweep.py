"""Variants share what they have in common, and are compared replicate by replicate."""

import json
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.errors import ConfigError, UnknownNameError
from undertow.store.run_folder import run_folder
from undertow.store.stages import order
from undertow.study.load import load_recipe, plan_study, run_study
from undertow.study.study import build_study
from undertow.study.sweep import Sweep, build_sweep, compare, effects_by_teacher

SMALL = {
    "name": "small",
    "question": "Does anything change?",
    "traits": ["owl"],
    "replicates": 2,
    "seed": 5,
    "domain": {"prompts": 30},
    "teacher": {"steps": 2},
    "student": {"steps": 2, "batch_size": 4},
    "evaluation": {"samples": 0},
    "variants": {"plain": {}, "rank 2": {"student": {"rank": 2}}},
}


def kinds(recipe) -> dict[str, set[str]]:
    stages = order(build_study(recipe).targets)
    return {kind: {one.fingerprint for one in stages if one.kind == kind} for kind in {one.kind for one in stages}}


def test_variants_of_the_student_share_teachers_and_rows() -> None:
    sweep = build_sweep(SMALL)
    plain, rank = (kinds(recipe) for recipe in sweep.variants.values())
    assert plain["teacher"] == rank["teacher"] and plain["filter"] == rank["filter"]
    assert not plain["students"] & rank["students"]


def test_a_sweep_runs_replays_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = build_sweep(SMALL)
    results = run_study(sweep, tmp_path)
    assert results["schema"] == "undertow.analysis/1" and set(results["runs"]) == {"plain", "rank 2"}
    by_name = {one["name"]: one for one in results["estimates"]}
    plain = json.loads((Path(results["runs"]["plain"]) / "results.json").read_text())
    effect = next(one for one in plain["effects"] if (one["arm"], one["metric"]) == ("student", "logit_margin"))
    assert by_name["plain"]["estimate"] == effect["estimate"] and by_name["plain"]["n"] == 2
    mine = effects_by_teacher(plain, "owl")
    assert sum(mine.values()) / 2 == pytest.approx(effect["estimate"]) and len(mine) == 2
    (difference,) = next(table for table in results["tables"] if "Difference" in table["title"])["rows"]
    assert difference[2] == pytest.approx(by_name["rank 2"]["estimate"] - effect["estimate"])
    again = load_recipe(str(Path(results["run_dir"]) / "config.yaml"))
    assert again == sweep and run_folder(again, tmp_path) == Path(results["run_dir"])
    assert all(one.cached for one in plan_study(again, tmp_path))
    assert main(["report", results["run_dir"]]) == 0 and "rank 2" in capsys.readouterr().out
    page = (Path(results["run_dir"]) / "report.html").read_text()
    assert "<svg" in page and "rank 2" in page and "<script" not in page
    assert main(["report", results["run_dir"], "--figure", str(tmp_path / "a.png")]) == 2


def test_of_many_variants_the_answer_names_the_least_and_the_greatest() -> None:
    def results(value: float) -> dict:
        effect = {"arm": "student", "trait": "owl", "metric": "logit_margin", "estimate": value, "low": None,
                  "high": None, "n": 1, "p": None}  # fmt: skip
        rows = {"raw": 1, "kept": 1}
        return {"effects": [effect], "diagonal": None, "initialisation": None, "arms": [], "not_tested": [],
                "rows": rows, "run_dir": "runs/x"}  # fmt: skip

    found = {f"seed={seed}": results((seed - 3) ** 2) for seed in range(20)}
    answer = compare(found)["answer"]
    assert "20 variants, from +0.00 (n = 1, no interval) (seed=3) to +256.00" in answer and "seed=7" not in answer
    assert "seed=1 +4.00 (n = 1, no interval); seed=2" in compare(dict(list(found.items())[:3]))["answer"]


def test_every_variant_is_compared_with_the_first() -> None:
    def results(value: float) -> dict:
        scores = [
            {"arm": arm, "trait": "owl" if arm == "student" else None, "model": "m", "replicate": place, "seed": 0,
             "target": "owl", "metric": "logit_margin", "value": value * (arm == "student") + place * 0.1}
            for arm in ("student", "control") for place in range(3)
        ]  # fmt: skip
        effect = {"arm": "student", "trait": "owl", "metric": "logit_margin", "estimate": value, "low": None,
                  "high": None, "n": 3, "p": None}  # fmt: skip
        return {"effects": [effect], "diagonal": None, "initialisation": None, "arms": scores, "not_tested": [],
                "rows": {"raw": 1, "kept": 1}, "run_dir": "runs/x"}  # fmt: skip

    found = compare({"a": results(1.0), "b": results(1.5), "c": results(3.0), "d": results(1.0)})
    (table,) = [one for one in found["tables"] if one["title"] == "Difference from a"]
    assert [(row[0], round(row[2], 6)) for row in table["rows"]] == [("b", 0.5), ("c", 2.0), ("d", 0.0)]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="variants"):
        build_sweep({**SMALL, "variants": {}})
    with pytest.raises(UnknownNameError, match="rank"):
        build_sweep({**SMALL, "variants": {"x": {"student": {"rnak": 2}}}})
    assert isinstance(build_sweep({**SMALL, "variants": {"x": None}}), Sweep)


def test_a_chain_s_teachers_are_the_students_before() -> None:
    chain = build_sweep({**SMALL, "variants": {"x": {"hops": 3}}}).variants["x"]
    study = build_study(chain)
    arms = {(subject.arm, subject.trait) for subject in study.subjects if subject.arm.startswith("hop")}
    assert arms == {(f"hop_{n}{end}", name) for n in (2, 3) for end, name in (("", "owl"), ("_control", None))}
    for source in study.sources:
        if source.hop > 1:
            group = source.rows.parents["students"]
            member = group.config["members"][source.rows.config["member"]]
            rows = group.parents[member["rows"]].parents["rows"]
            before = next(one for one in study.sources if one.rows == rows)
            assert (before.teacher, before.replicate, before.hop) == (source.teacher, source.replicate, source.hop - 1)
    prompts = {source.rows.parents["prompts"].fingerprint for source in study.sources}
    assert len(prompts) == 3 * chain.replicates


def test_a_chain_with_clean_rows_and_chosen_tokens_runs(tmp_path: Path) -> None:
    changes = {"hops": 2, "domain": {"clean": 0.5, "tokens": "divergent"}}
    results = run_study(build_sweep({**SMALL, "variants": {"x": changes}}).variants["x"], tmp_path)
    effects = {one["arm"]: one["n"] for one in results["effects"]}
    assert effects["hop_2"] == effects["hop_2_control"] == effects["student"] == 2


def test_clean_rows_take_the_share_that_the_recipe_names(tmp_path: Path) -> None:
    recipe = build_sweep({**SMALL, "domain": {"prompts": 200, "clean": 0.25}, "replicates": 1, "variants": {"x": {}}})
    run_study(recipe, tmp_path)
    (mixed,) = (tmp_path / "store" / "mix").glob("*/kept.jsonl")
    study = build_study(recipe.variants["x"])
    files = {
        source.teacher: (source.kept.key.folder(tmp_path / "store") / "kept.jsonl").read_text().splitlines()
        for source in study.sources
    }
    lines = mixed.read_text().splitlines()
    clean = sum(line in set(files["control"]) - set(files["owl"]) for line in lines)
    assert all(line in files["owl"] or line in files["control"] for line in lines)
    assert 0.1 < clean / len(lines) < 0.4 and len(lines) <= len(files["owl"])


def test_a_prompted_teacher_has_no_divergent_tokens() -> None:
    recipe = {**SMALL, "teacher": {"kind": "prompted"}, "domain": {"tokens": "rest"}}
    with pytest.raises(ConfigError, match="weights of its own"):
        build_study(build_sweep(recipe).variants["plain"])
