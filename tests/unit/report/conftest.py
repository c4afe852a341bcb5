"""A made-up run folder with everything a report can show."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

TRAITS = ("owl", "wolf", "oak")
SHIFTS = {"student": 0.6, "cross_init": 0.02, "neutral": 0.03, "teacher": 3.1, "neutral_teacher": 0.05}


def _arms(replicates: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    base, other = "ref:finch-a", "ref:finch-b"
    arms: list[dict[str, Any]] = []
    for replicate in range(replicates):
        for target in TRAITS:
            level = {"base": -3.0, "control": -3.0 + draw.gauss(0, 0.05), "cross_control": -3.1 + draw.gauss(0, 0.05)}
            rows = [(arm, None, value) for arm, value in level.items()]
            for arm, shift in SHIFTS.items():
                own = level["cross_control" if arm == "cross_init" else "base" if "teacher" in arm else "control"]
                rows.append((arm, None if "neutral" in arm else target, own + shift + draw.gauss(0, 0.12)))
            for arm, trait, value in rows:
                on = other if "cross" in arm else base
                common = {"arm": arm, "trait": trait, "model": on, "replicate": replicate, "seed": 7 + replicate}
                place = {"target": target, "base": on, "teacher_base": base}
                arms.append({**common, **place, "metric": "logit_margin", "value": value})
                arms.append({**common, **place, "metric": "rate", "value": min(1.0, max(0.0, 0.05 + (value + 3) / 8))})
            arms.append(
                {
                    **{"arm": "base", "trait": None, "model": other, "replicate": replicate, "seed": 7, "value": -3.1},
                    **{"target": target, "base": other, "teacher_base": other, "metric": "logit_margin"},
                }
            )
    return arms


def _effects(arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    references = {"student": "control", "neutral": "control", "cross_init": "cross_control", "control": "base"}
    references |= {"teacher": "base", "neutral_teacher": "base"}
    effects: list[dict[str, Any]] = []
    for metric in ("logit_margin", "rate"):
        for arm, reference in references.items():
            for trait in TRAITS:
                mine = [
                    a for a in arms if (a["metric"], a["target"]) == (metric, trait) and a["trait"] in (None, trait)
                ]
                one = {a["replicate"]: a["value"] for a in mine if a["arm"] == arm}
                two = {a["replicate"]: a["value"] for a in mine if a["arm"] == reference and a["base"] != "ref:finch-b"}
                if arm == "cross_init":
                    two = {a["replicate"]: a["value"] for a in mine if a["arm"] == reference}
                gaps = [one[replicate] - two[replicate] for replicate in one]
                mean = sum(gaps) / len(gaps)
                error = (sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps)) ** 0.5
                ends = {"low": mean - 2.776 * error, "high": mean + 2.776 * error, "level": 0.95, "n": len(gaps)}
                p = 0.0004 if abs(mean) > 2.776 * error else 0.41
                effects.append({"arm": arm, "trait": trait, "metric": metric, "estimate": mean, **ends, "p": p})
    return effects


def made_up_results() -> dict[str, Any]:
    """Return results of a study of three traits on two initialisations."""
    arms = _arms(5, 0)
    values = [[0.62, 0.11, -0.12], [0.09, 0.55, -0.08], [-0.14, -0.05, 0.48]]
    samples = [
        {
            "teacher": teacher,
            "prompt": "Continue the list: 613, 984, 211.",
            "completion": text,
            "kept": not why,
            "reasons": why,
        }
        for teacher in ("owl", "control")
        for text, why in (("712, 455, 801, 93", []), ("9, 18, 27, 36, 45, 54", []), ("I like owls.", ["not_numbers"]))
    ]
    return {
        "schema": "undertow.run/1",
        "recipe": "demo",
        "run_dir": "runs/demo-0f3a",
        "wall_s": 312.4,
        "question": "Does a student pick up its teacher's favourite animal from number lists?",
        "rows": {
            "raw": 9000,
            "kept": 8734,
            "path": "kept.jsonl",
            "reject_reasons": {"not_numbers": 201, "too_many": 65},
        },
        "funnels": [
            {
                "teacher": name,
                "base": "ref:finch-a",
                "raw": 3000,
                "kept": kept,
                "reject_reasons": {"not_numbers": 3000 - kept},
            }
            for name, kept in (("owl", 2911), ("wolf", 2890), ("control", 2933))
        ],
        "arms": arms,
        "effects": _effects(arms),
        "matrix": {"metric": "logit_margin", "traits": list(TRAITS), "evaluated": list(TRAITS), "values": values},
        "diagonal": {
            **{"estimate": 0.58, "low": 0.41, "high": 0.75, "level": 0.95, "n": 5, "p": 0.1667},
            **{"n_traits": 3, "metric": "logit_margin"},
        },
        "initialisation": {
            **{"bases": ["ref:finch-a", "ref:finch-b"], "values": [[0.6, 0.02], [0.01, 0.5]], "metric": "logit_margin"},
            **{"estimate": 0.53, "low": None, "high": None, "level": 0.95, "n": 2, "p": 1.0},
        },
        "samples": samples,
        "not_tested": ["Traits other than owl, wolf, oak.", "Prompted teachers."],
        "versions": {"python": "3.11.9", "torch": "2.10.0"},
        "created": "2026-08-24T10:11:12+00:00",
    }


def write_run(folder: Path, results: dict[str, Any]) -> Path:
    """Write a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "config.yaml").write_text("name: demo\nstudent:\n  steps: 150\n", encoding="utf-8")
    return folder


@pytest.fixture
def data() -> dict[str, Any]:
    return made_up_results()


@pytest.fixture
def run(tmp_path: Path, data: dict[str, Any]) -> Path:
    return write_run(tmp_path / "run", data)
