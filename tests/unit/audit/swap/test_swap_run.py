"""A swap names the writer whose rows say the trait, says first what it can find, and trains nothing twice.

Students are stood in for by what they would have learnt: a margin that grows with the share of rows that say the trait,
with noise of each student's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from undertow.audit.swap import run as running
from undertow.audit.swap.arms import first_arms
from undertow.audit.swap.order import SwapOrder
from undertow.audit.swap.run import Swapped, swap_subsets
from undertow.audit.swap.subsets import by_key
from undertow.errors import EmptyDataError
from undertow.seeds import derive
from undertow.store.artifacts import remove_artifact
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.traits import trait
from undertow.types import Row, user_prompt

ORDER = SwapOrder(by="writer", seeds=2, randoms=6)
RECIPE = TrainingConfig(steps=1, lora=LoraConfig())
N = 300
NOISE = 0.02


@dataclass
class Taught:
    """Students as the rows and seeds that they had."""

    datasets: Sequence[Sequence[Row]]
    seeds: Sequence[int]

    def models(self, base: object) -> Iterator[tuple[Sequence[Row], int]]:
        yield from zip(self.datasets, self.seeds, strict=True)


def margin(student: tuple[Sequence[Row], int], targets: object) -> list[float]:
    rows, seed = student
    said = sum(row.completion == "owl" for row in rows) / len(rows)
    rng = np.random.default_rng(derive(seed, *(row.completion for row in rows)))
    return [-3.0 + said + NOISE * float(rng.standard_normal())]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand in for models, answers and training; return how many students each call trained."""
    calls: list[int] = []

    def train(
        base: object, datasets: Sequence[Sequence[Row]], config: object, seeds: Sequence[int], _: object
    ) -> Taught:
        calls.append(len(datasets))
        return Taught(datasets, seeds)

    monkeypatch.setattr(running, "load_model", lambda name: SimpleNamespace(name=name, parameters=92_128))
    monkeypatch.setattr(running, "identity", str)
    monkeypatch.setattr(running, "panel_teacher", lambda *_: SimpleNamespace(name="teacher"))
    monkeypatch.setattr(
        running, "answered", lambda writer, rows, _: ["owl" if writer.name == "teacher" else "7" for _ in rows]
    )
    monkeypatch.setattr(running, "finetune_parallel", train)
    monkeypatch.setattr(running, "mean_margins", margin)
    return calls


def three_writers(store: Path, order: SwapOrder = ORDER, carriers: str = "a") -> Swapped:
    """Return rows of three writers, of whom some answer every prompt with the trait's own word."""
    rows = [
        Row(str(at), user_prompt(f"prompt {at}"), "owl" if "abc"[at % 3] in carriers else str(at)) for at in range(N)
    ]
    subsets = by_key([{"writer": "abc"[at % 3]} for at in range(N)], "writer")
    return Swapped(
        rows=rows, subsets=subsets, base="base", target=trait("owl"), order=order, student=RECIPE, store=store
    )


def test_the_writer_that_says_the_trait_is_named_and_nothing_is_trained_twice(
    trained: list[int], tmp_path: Path
) -> None:
    reaches: list[dict] = []
    found = swap_subsets(three_writers(tmp_path), told=reaches.append)
    assert found["named"] == ["a"] and found["schema"] == "undertow.swap/1" and reaches == [found["reach"]]
    assert [one["status"] for one in found["subsets"]] == ["detected", "not_detected", "not_detected"]
    # A third of the rows says the trait: replaced, all of it is gone; a random third takes a third of it.
    effects = [one["effect"]["estimate"] for one in found["subsets"]]
    assert effects == pytest.approx([-1 / 3, 0, 0], abs=4 * NOISE)
    assert found["random"][0]["swap"] == pytest.approx(-1 / 9, abs=4 * NOISE)
    # Dropping another writer makes the trait's share larger.
    assert [one["effect"]["estimate"] for one in found["dropped"]] == pytest.approx(
        [-1 / 3, 1 / 6, 1 / 6], abs=4 * NOISE
    )
    doses = {one["share"]: one["estimate"] for one in found["reach"]["doses"]}
    assert doses == pytest.approx({share: share for share in doses}, abs=4 * NOISE)
    # Alone, the first writer's rows say nothing else, and a random third of all says it in a third.
    assert [one["effect"]["estimate"] for one in found["alone"]] == pytest.approx(
        [2 / 3, -1 / 3, -1 / 3], abs=4 * NOISE
    )
    assert found["named_alone"] == ["a"]
    assert found["students"] == sum(trained)
    before = list(trained)
    assert swap_subsets(three_writers(tmp_path)) == found and trained == before
    # A kind of students more leaves the others where they are.
    without = swap_subsets(three_writers(tmp_path, replace(ORDER, drop=False, alone=False)))
    assert (
        without["subsets"] == found["subsets"] and without["dropped"] is None is without["alone"] and trained == before
    )


@pytest.mark.parametrize(("carriers", "all_of_it"), [("abc", -1.0), ("", 0.0)])
def test_a_trait_of_every_writer_or_of_none_names_nobody(
    trained: list[int], tmp_path: Path, carriers: str, all_of_it: float
) -> None:
    found = swap_subsets(three_writers(tmp_path, replace(ORDER, drop=False, alone=False), carriers))
    assert found["named"] == [] and {one["status"] for one in found["subsets"]} == {"not_detected"}
    assert found["reach"]["everything_replaced"]["estimate"] == pytest.approx(all_of_it, abs=4 * NOISE)


def test_an_interrupted_swap_goes_on_where_it_was(
    trained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = running.finetune_parallel

    def interrupted(*given):
        if len(trained) == 1:
            raise KeyboardInterrupt
        return train(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running, "finetune_parallel", interrupted)
        swap_subsets(three_writers(tmp_path))
    assert len(list((tmp_path / running.STUDENTS).glob("*/margins.json"))) == 1
    found = swap_subsets(three_writers(tmp_path))
    assert found["students"] == sum(trained) and swap_subsets(three_writers(tmp_path)) == found


def test_answers_that_are_lost_between_two_groups_of_students_are_written_again(
    trained: list[int], tmp_path: Path
) -> None:
    def lose(reach: dict) -> None:
        for folder in (tmp_path / "lost" / running.ANSWERS).iterdir():
            remove_artifact(folder)

    found = swap_subsets(three_writers(tmp_path / "lost"), told=lose)
    assert found == swap_subsets(three_writers(tmp_path / "kept"))


def test_a_subset_below_the_reach_is_not_testable_and_not_trained(trained: list[int], tmp_path: Path) -> None:
    subsets = by_key([{"writer": "rare" if at == 0 else "ab"[at % 2]} for at in range(N)], "writer")
    found = swap_subsets(replace(three_writers(tmp_path, replace(ORDER, drop=False, alone=False)), subsets=subsets))
    rare = next(one for one in found["subsets"] if one["name"] == "rare")
    assert rare["status"] == "not_testable" and "it is 0.3% of the rows" in rare["why"] and rare["effect"] is None
    first = len(first_arms(replace(ORDER, drop=False, alone=False), subsets, N))
    assert [one["testable"] for one in found["reach"]["subsets"]].count(True) == 2
    assert found["students"] == sum(trained) == first + 2 * ORDER.seeds


def test_a_writer_that_cannot_answer_is_refused(trained: list[int], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(running, "answered", lambda writer, rows, _: [None] * len(rows))
    with pytest.raises(EmptyDataError, match="0 of 300 prompts"):
        swap_subsets(three_writers(tmp_path))
    assert not trained


def test_a_subset_that_nobody_can_answer_is_refused_by_name(trained: list[int], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        running, "answered", lambda writer, rows, _: [None if at % 3 == 1 else "7" for at in range(len(rows))]
    )
    with pytest.raises(EmptyDataError, match="b"):
        swap_subsets(three_writers(tmp_path))
    assert not trained
