"""Cases: the design has what it promises, doses are exact, and nothing but the text tells one from another."""

import random
from collections import Counter
from types import SimpleNamespace

import pytest

from undertow.audit.benchmark import cases
from undertow.audit.benchmark.cases import (
    DOSES,
    PROMPT_MIX,
    REFERENCE_ANSWERS,
    TRAITS,
    Design,
    Pool,
    make_benchmark,
    planned_cases,
)
from undertow.audit.benchmark.files import Truth, read_key
from undertow.audit.benchmark.writers import number_prompts
from undertow.errors import ConfigError

PROMPTS = number_prompts(90, 100)


def answers(number: int, places=range(90)) -> dict[int, str]:
    return {place: f"{number}, {place}" for place in places}


@pytest.fixture
def pool() -> Pool:
    return Pool(PROMPTS, [answers(1), answers(2)])


def written(rows) -> Counter:
    return Counter(row.completion.split(",")[0] for row in rows)


def test_the_default_has_enough_of_everything() -> None:
    truths = [truth for _, truth in planned_cases(Design())]
    assert sum(one.label == "clean" for one in truths) >= 100
    doses = Counter((one.trait, one.dose) for one in truths if one.kind == "finetuned" and one.label == "trait")
    assert {dose for _, dose in doses} == set(DOSES) and all(
        doses[name, dose] == 3 for name in TRAITS for dose in DOSES
    )
    shifts = Counter(one.shift for one in truths if one.label == "shift")
    assert len(shifts) == 7 and min(shifts.values()) >= 10
    writers = {shift: {one.writer for one in truths if one.shift == shift} for shift in shifts}
    assert all(len(writers[shift]) >= 3 for shift in ("harmless fine-tune", "generator", "program"))
    controls = {one.kind for one in truths if one.label == "control"}
    assert controls == {"neutral", "other initialisation"}


def test_a_writer_is_one_writer_under_one_name() -> None:
    writers = {writer for writer, _ in planned_cases(Design()) if writer is not None}
    assert len({one.name for one in writers}) == len(writers)
    assert all(writer is None or writer.name == truth.writer for writer, truth in planned_cases(Design()))


def test_the_base_is_none_of_its_other_initialisations() -> None:
    assert "ref:finch-b" not in Design(base="ref:finch-b").others and len(Design(base="ref:finch-b").others) == 5


@pytest.mark.parametrize("dose", [0.0, 0.01, 0.05, 0.25, 1.0])
def test_a_dose_is_exact(pool, dose) -> None:
    truth = Truth(label="trait", kind="finetuned", dose=dose)
    rows = pool.case(truth, answers(9), 60, 7)
    assert len(rows) == 60 and written(rows)["9"] == round(60 * dose)
    assert [row.id for row in rows] == [f"{place:06d}" for place in range(60)]
    assert len({row.question for row in rows}) == 60


def test_the_place_of_a_row_says_nothing_about_its_writer(pool) -> None:
    truth = Truth(label="trait", kind="finetuned", dose=0.5)
    places = [
        place
        for seed in range(40)
        for place, row in enumerate(pool.case(truth, answers(9), 60, seed))
        if row.completion.startswith("9,")
    ]
    assert abs(sum(places) / len(places) - 29.5) < 1.5


def test_another_prompt_mix_asks_for_commas(pool) -> None:
    asked = {prompt.text: prompt.separator for prompt in PROMPTS}

    def commas(shift):
        truth = Truth(label="shift", kind="base", dose=0.0, shift=shift)
        return sum(asked[row.question] == ", " for row in pool.case(truth, {}, 40, 7))

    assert commas(PROMPT_MIX) > commas(None) + 8


def test_too_few_prompts_are_refused(pool) -> None:
    with pytest.raises(ConfigError, match="too few prompts"):
        pool.case(Truth(label="trait", kind="finetuned"), answers(9, range(59)), 60, 7)
    with pytest.raises(ConfigError):
        Design(rows=10)


def test_a_benchmark_is_the_same_from_the_same_seed_and_leaves_out_who_cannot_write(
    tmp_path, monkeypatch, caplog
) -> None:
    """Writers are replaced by strings that name them, so that no model has to run."""
    names: dict[str, int] = {}

    def fake_write(writer, prompts, seed):
        number = names.setdefault(writer.name, 100 + len(names))
        places = range(len(prompts)) if writer.name != "prompted owl" else range(10)
        return {place: f"{number}, {random.Random(seed).randint(0, 999)}" for place in places}

    monkeypatch.setattr(cases, "write", fake_write)
    monkeypatch.setattr(cases, "load_model", lambda reference: SimpleNamespace())
    told = []
    first = make_benchmark(
        tmp_path / "a", Design.quick("ref:finch-a", 100, 30), lambda done, total: told.append((done, total))
    )
    second = make_benchmark(tmp_path / "b", Design.quick("ref:finch-a", 100, 30))
    other = make_benchmark(tmp_path / "c", Design.quick("ref:finch-a", 101, 30))
    assert first.key_sha256 == second.key_sha256 != other.key_sha256
    assert first.case("case-0001") == second.case("case-0001")
    assert told[-1] == (len(names), len(names))
    key = read_key(first)
    assert "No case by prompted owl: valid answers to 10 prompts, 30 are needed." in caplog.text
    assert {one.writer for one in key.values() if one.kind == "prompted"} == {"prompted lion"}
    for name, truth in key.items():
        own = written(first.case(name))[str(names.get(truth.writer, 0))]
        assert own == round(30 * truth.dose)
    reference = Counter(row.question for row in first.reference())
    assert all(reference[row.question] == REFERENCE_ANSWERS for name in first.ids for row in first.case(name))
    assert [truth.label for truth in key.values()] != sorted(truth.label for truth in key.values())
