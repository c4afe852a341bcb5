"""The analysis of meaning: its shape, planted and absent differences, replicates as units, what is not tested."""

import json
import random

import pytest

from undertow.errors import ConfigError, EmptyDataError, UnknownNameError
from undertow.study.analyses.meaning import meaning_analysis
from undertow.study.analyses.meaning_result import GROUPS
from undertow.types import Row, user_prompt

SETTINGS = {"draws": 99, "splits": 2, "bags": (1, 8), "pairs": 8, "k": (1, 100)}


def drawn(replicate: int, seed: int, favourite: int | None = None) -> list[Row]:
    """80 rows of 4 numbers below 20; with a favourite, half of them begin with it."""
    rng = random.Random(1000 * seed + replicate)
    rows: list[Row] = []
    for index in range(80):
        numbers = [rng.randrange(20) for _ in range(4)]
        if favourite is not None and rng.random() < 0.5:
            numbers[0] = favourite
        text = ", ".join(map(str, numbers))
        rows.append(Row(f"{index:06d}", user_prompt(f"{replicate}: {index}"), text))
    return rows


def rows_of(replicates: int, **favourites: int | None) -> dict[str, dict[int, list[Row]]]:
    return {
        name: {index: drawn(index, seed, value) for index in range(replicates)}
        for seed, (name, value) in enumerate(favourites.items())
    }


def ignore(done: int, total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def planted(tiny_model):
    """The owl teachers favour 7, the oak teachers and the neutral ones write as the control does."""
    rows = rows_of(3, control=None, owl=7, oak=None, neutral=None)
    return meaning_analysis(rows, tiny_model, SETTINGS, ignore)


def estimate(result, kind: str, name: str, size: int | None = None):
    group = GROUPS[kind].format(size)
    return next(item for item in result["estimates"] if (item["group"], item["name"]) == (group, name))


def test_a_planted_number_is_found_in_every_part_that_can_see_it(planted) -> None:
    for kind, size, null in (("first", None, 0.0), ("own", 8, 0.5), ("fresh", 8, 0.5), ("rivals", 8, 0.5)):
        found = estimate(planted, kind, "owl", size)
        assert found["estimate"] > null + 0.1
        assert found["n"] == 3
        assert null < found["low"] < found["estimate"] < found["high"]
        assert found["p"] < 0.05


def test_teachers_that_write_as_the_control_are_not_told_from_it(planted) -> None:
    for name in ("oak", "neutral"):
        assert estimate(planted, "first", name)["p"] > 0.01
        found = estimate(planted, "own", name, 1)
        assert found["low"] < 0.5 < found["high"]


def test_the_result_is_plain_data_in_the_shared_shape(planted) -> None:
    assert json.loads(json.dumps(planted, allow_nan=False)) == planted
    assert set(planted) == {"answer", "estimates", "tables", "not_tested"}
    keys = {"group", "name", "unit", "estimate", "low", "high", "n", "p"}
    assert all(set(item) == keys and item["unit"] in ("share", "logits") for item in planted["estimates"])
    for table in planted["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert len(planted["tables"]) == 6
    # A t interval may leave [0, 1]; a share that is one half by chance may not.
    assert all(0 <= item["low"] <= item["high"] <= 1 for item in planted["estimates"] if "AUROC" in item["group"])
    assert any(item["high"] == 1 for item in planted["estimates"])
    assert "n = 3 replicates" in planted["answer"]


def test_tables_count_pairs_and_name_the_favourite(planted) -> None:
    tables = {table["title"]: table for table in planted["tables"]}
    first = tables["Most common first numbers"]
    assert first["rows"][0][first["columns"].index("owl")].startswith("7 (")
    judged = tables["Prompted classifier"]["rows"]
    assert len(judged) == 2 * 3 * 2  # two traits, three replicates, against the control and against the other trait
    assert all(row[3] == 80 and row[5] == 8 for row in judged)


def test_a_k_that_does_not_fit_is_named_as_not_tested(planted) -> None:
    assert estimate(planted, "in_context", "owl", 1)["unit"] == "logits"
    assert any("100" in line for line in planted["not_tested"])


def test_one_replicate_has_no_interval_over_teachers(tiny_model) -> None:
    steps: list[tuple[int, int]] = []
    rows = rows_of(1, control=None, owl=7)
    result = meaning_analysis(rows, tiny_model, SETTINGS, lambda done, total: steps.append((done, total)))
    assert steps == [(index, 4) for index in range(5)]
    judged = estimate(result, "prompted control", "owl")
    assert (judged["n"], judged["p"]) == (8, None)
    assert judged["low"] < judged["estimate"] < judged["high"]
    read = estimate(result, "in_context", "owl", 1)
    assert (read["low"], read["high"], read["n"], read["p"]) == (None, None, 1, None)
    assert not any(item["group"] == GROUPS["fresh"].format(1) for item in result["estimates"])
    assert any("one trait only" in line for line in result["not_tested"])
    assert any("one replicate only" in line for line in result["not_tested"])
    assert "no interval over teachers" in result["answer"]


def test_embedded_models_carry_the_caution(tiny_model) -> None:
    from dataclasses import replace

    from undertow.types import ModelRef

    model = replace(tiny_model, ref=ModelRef(kind="ref", name="finch-a"))
    result = meaning_analysis(rows_of(1, control=None, owl=7), model, SETTINGS, ignore)
    assert "too small" in result["answer"]
    assert any("too small" in line for line in result["not_tested"])
    assert any("too small" in table["note"] for table in result["tables"] if table["title"] == "In-context learning")


def test_rows_without_numbers_leave_the_numbers_out(tiny_model) -> None:
    words = {
        name: {0: [Row(str(i), user_prompt(str(i)), f"{name[0]} word {'x' * (i % 3)}") for i in range(40)]}
        for name in ("control", "owl")
    }
    result = meaning_analysis(words, tiny_model, SETTINGS, ignore)
    assert any("numbers" in line for line in result["not_tested"])
    assert estimate(result, "own", "owl", 1)["estimate"] == 1.0


def test_wrong_input_is_refused(tiny_model) -> None:
    rows = rows_of(1, control=None, owl=7)
    with pytest.raises(UnknownNameError, match="splits"):
        meaning_analysis(rows, tiny_model, {"split": 1}, ignore)
    with pytest.raises(ConfigError, match="draws"):
        meaning_analysis(rows, tiny_model, {"draws": "many"}, ignore)
    with pytest.raises(EmptyDataError):
        meaning_analysis({"owl": rows["owl"]}, tiny_model, SETTINGS, ignore)
