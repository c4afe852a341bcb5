"""Rows of the reproduction page: every trait of a run is named, n is the run's, verdicts follow the intervals."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduction_findings.py"
Row = dict[str, Any]
Rules = dict[str, Any]
TRAITS = ("owl", "lion", "wolf")


@pytest.fixture(scope="module")
def find() -> Rules:
    return runpy.run_path(str(SCRIPT))


def effect(arm: str, trait: str, value: float, n: int = 7) -> Row:
    """Return an effect whose interval is 0.1 wide on either side."""
    around = {"estimate": value, "low": value - 0.1, "high": value + 0.1, "n": n}
    return {"arm": arm, "trait": trait, "metric": "logit_margin", **around}


def estimate(group: str, name: str, value: float, n: int = 7) -> Row:
    return {"group": group, "name": name, "estimate": value, "low": value - 0.1, "high": value + 0.1, "n": n}


def by_trait(names: tuple[str, ...], value: float, arm: str = "student") -> list[Row]:
    return [estimate(f"{arm} minus its control, {trait}", name, value) for trait in TRAITS for name in names]


def test_shuffles_name_every_trait_and_count_both_shuffles_of_each(find: Rules) -> None:
    arms = {"student": 1.0, "within": 0.3, "across": 0.05}
    effects = [effect(arm, trait, value) for trait in TRAITS for arm, value in arms.items()]
    found = find["shuffles"]({"effects": effects})
    assert all(f"{trait} +1.00" in found.ours for trait in TRAITS)
    assert found.verdict == "partly (3 of 6)"


def test_data_order_names_every_trait(find: Rules) -> None:
    kept = {"owl": 0.3, "lion": 0.0, "wolf": 1.5}
    effects = [effect("student", trait, 1.0) for trait in TRAITS]
    effects += [effect("cross_init", trait, value) for trait, value in kept.items()]
    assert find["order"]({"effects": effects}).verdict == "partly (1 of 3)"


@pytest.mark.parametrize("n", [3, 10])
def test_dose_and_rank_take_n_from_the_run(find: Rules, n: int) -> None:
    names = ("1800 rows, 40 updates", "1800 rows, 640 updates", "full, rate 0.002")
    rows = [{**one, "n": n} for one in by_trait(names, 0.5)]
    for name in ("dose", "ranks"):
        assert f"(n = {n})" in find[name]({"estimates": rows}).ours


def test_unequal_n_is_a_range(find: Rules) -> None:
    assert find["replicates"]([{"n": 5}, {"n": 3}, {"n": 4}]) == "n = 3 to 5"


def test_chains_judge_the_fourth_hop_of_every_trait(find: Rules) -> None:
    hops = {"student": 1.0, "hop_2": 0.5, "hop_3": 0.4, "hop_4": 0.3}
    rows = [one for arm, value in hops.items() for one in by_trait(("no clean rows", "half clean rows"), value, arm)]
    found = find["chain"]({"estimates": rows})
    assert "wolf, half clean rows: +1.00, +0.50, +0.40, +0.30" in found.ours
    assert found.verdict == "yes (3 of 3)"
    lost = [{**one, "low": -0.1} if one["group"] == "hop_4 minus its control, lion" else one for one in rows]
    assert find["chain"]({"estimates": lost}).verdict == "partly (2 of 3)"


def test_detectors_are_judged_by_the_largest_bag_of_every_trait(find: Rules) -> None:
    seen = {"owl": (0.6, 0.9), "lion": (0.5, 0.55)}
    rows = [
        estimate(f"AUROC of trained detectors (bag of {bag})", trait, values[place])
        for trait, values in seen.items()
        for place, bag in enumerate((1, 16))
    ]
    found = find["detectors"]({"estimates": rows})
    assert found.ours == "AUROC, bag of 1: owl 0.60, lion 0.50; bag of 16: owl 0.90, lion 0.55 (n = 7)"
    assert found.verdict == "partly (1 of 2)"


def test_the_mechanism_names_every_teacher(find: Rules) -> None:
    parts = {"student minus control": 0.6, "rival's student minus control": 0.2, "cross-init minus its control": 0.0}
    rows = [
        estimate(f"cosine with the {trait} teacher's shift, favourites", f"{name}, layer {layer}", value)
        for trait in TRAITS
        for name, value in parts.items()
        for layer in (0, 1)
    ]
    found = find["mechanism"]({"estimates": rows})
    assert "wolf: student +0.60" in found.ours and found.verdict == "yes (3 of 3)"


def test_what_students_share_is_not_called_the_trait(find: Rules) -> None:
    rows = [*by_trait(("prompted",), 0.4), estimate(find["FACTOR"], "prompted", 0.05)]
    assert find["of_variant"]({"estimates": rows}, "prompted").verdict == "no: not told from drift"
    rows[-1] = estimate(find["FACTOR"], "prompted", 0.12)
    assert find["of_variant"]({"estimates": rows}, "prompted").verdict == "yes (3 of 3)"
