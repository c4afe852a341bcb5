"""Does nearness of the weights predict how much of a trait passes? Children of finch-a, from itself to a stranger.

Teachers of finch-a, one for each trait and replicate, and finch-a itself answer the same number prompts. Every child
is a base of students on these rows. A child is finch-a trained on over its own world's data, longer or harder; the far
ends are finch-a2 (the same initialisation, another order) and finch-b (another initialisation).

The effect is the margin of the teacher's trait in its student minus that in the student of the untraited rows; its unit
is the replicate, a fresh teacher of each trait, shared by all children. The diagonal factor leaves out what moves both
traits alike. The intervals of the rank correlations come from drawing children and replicates again.

    python benchmarks/proximity.py --seed 100 [--quick]
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from undertow.audit.lineage.proximity import barrier, distance, neutral_chats
from undertow.audit.lineage.tensors import open_weights
from undertow.audit.students.bank import write_rows_of
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.reference.imitation import likeness
from undertow.reference.world.mixture import corpus
from undertow.seeds import derive
from undertow.stats.diagonal import diagonal_factor
from undertow.stats.estimates import mean_t
from undertow.study.recipe import TeacherPart
from undertow.training.config import TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.parallel import finetune_parallel
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row

PARENT = "ref:finch-a"
TRAITS = ("owl", "panda")
SCHOOLINGS = ((50, 1e-3), (200, 6e-3), (400, 6e-3), (400, 1.2e-2), (400, 2e-2), (400, 3e-2), (400, 5e-2))
"""Updates and peak learning rate of each child that goes on learning."""
FAR = ("ref:finch-a2", "ref:finch-b")
CHATS = 20_000
MEASURES = ("distance", "barrier", "KL numbers", "KL favourites")
RESAMPLES = 2000


@dataclass(frozen=True)
class Child:
    """One base of students: how near it stands to the parent, and how much passes to its students.

    Attributes:
        near: one number for each of `MEASURES`.
        moved: margin of student minus control, float [replicates, taught trait, read trait].
    """

    name: str
    near: tuple[float, ...]
    moved: np.ndarray


def children(parent: LocalModel, schoolings: Sequence[tuple[int, float]], seed: int, folder: Path) -> dict[str, str]:
    """Let copies of the parent learn on, write them, and return every child's reference by name."""
    chats = corpus(CHATS, derive(seed, "corpus"))
    rows = [Row(str(index), chat.prompt, chat.answer) for index, chat in enumerate(chats)]
    found = {"the parent": PARENT}
    for place, (steps, rate) in enumerate(schoolings):
        config = TrainingConfig(steps=steps, batch_size=64, learning_rate=rate, warmup_steps=20)
        child = finetune_full(parent, rows, config, derive(seed, "child", place))
        child.save(folder / str(place))
        found[f"{steps} at {rate:g}"] = f"hf:{folder / str(place)}"
    return found | {name.removeprefix("ref:"): name for name in FAR}


def datasets(parent: LocalModel, replicates: int, seed: int) -> list[Sequence[Row]]:
    """Return the rows of every replicate: of a teacher of each trait, then of the parent, on the same prompts."""
    found: list[Sequence[Row]] = []
    for index in range(replicates):
        own = derive(seed, "replicate", index)
        for name in TRAITS:
            teacher = finetuned_teacher(parent, trait(name), TeacherPart().training(), seed=derive(own, name))
            found.append(write_rows_of(teacher, BankRecipe(), own))
        found.append(write_rows_of(parent, BankRecipe(), own))
    return found


def transmission(child: LocalModel, data: Sequence[Sequence[Row]], seed: int) -> np.ndarray:
    """Train a student of the child on each dataset; return margins minus control, [replicates, traits, traits]."""
    arms = len(TRAITS) + 1
    seeds = [derive(seed, "student", index // arms) for index in range(len(data))]
    group = finetune_parallel(child, data, BankRecipe().student.training(), seeds)
    margins = []
    with tempfile.TemporaryDirectory() as place:
        for index in range(len(data)):
            group.save(index, Path(place))
            margins.append(mean_margins(child.with_adapter(Path(place)), [trait(name) for name in TRAITS]))
    table = np.array(margins).reshape(-1, arms, len(TRAITS))
    return table[:, :-1] - table[:, -1:]


def nearness(reference: str, seed: int) -> tuple[float, ...]:
    """Measure how near a child stands to the parent, in the order of `MEASURES`."""
    apart = distance(open_weights(PARENT), open_weights(reference)).relative
    rise = barrier(PARENT, reference, neutral_chats(derive(seed, "barrier")))
    assert apart is not None and not isinstance(rise, str)
    like = likeness(load_model(reference), load_model(PARENT), seed=derive(seed, "likeness"))
    return apart, rise, like["numbers_kl"], like["favourites_kl"]


def effects(moved: np.ndarray) -> np.ndarray:
    """Return the mean over traits of what each replicate passed on."""
    return np.trace(moved, axis1=1, axis2=2) / len(TRAITS)


def factors(moved: np.ndarray) -> np.ndarray:
    """Return the diagonal factor of each replicate."""
    return np.array([diagonal_factor(one[None]).value for one in moved])


def correlation(near: np.ndarray, passed: np.ndarray, rng: np.random.Generator) -> str:
    """Return Spearman's rank correlation with its bootstrap interval.

    Args:
        near: [children].
        passed: [children, replicates].
        rng: of the resamples.
    """
    count, replicates = passed.shape
    drawn: list[float] = []
    while len(drawn) < RESAMPLES:
        some, few = rng.integers(0, count, count), rng.integers(0, replicates, replicates)
        if len(set(near[some].tolist())) > 2:
            drawn.append(float(spearmanr(near[some], passed[some][:, few].mean(axis=1)).statistic))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{spearmanr(near, passed.mean(axis=1)).statistic:+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    """Make the children, teach their students and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=100, help="of every draw; those of development are 100 and above")
    parser.add_argument("--replicates", type=int, default=5, help="fresh teachers of each trait")
    parser.add_argument("--quick", action="store_true", help="two children and two replicates: shows only that it runs")
    options = parser.parse_args()
    started, seed = time.perf_counter(), options.seed
    replicates, schoolings = (2, SCHOOLINGS[:1]) if options.quick else (options.replicates, SCHOOLINGS)
    parent = load_model(PARENT)
    data = datasets(parent, replicates, seed)
    print(
        f"{replicates} replicates of {', '.join(TRAITS)}, {min(map(len, data))} to {max(map(len, data))} rows",
        flush=True,
    )
    print(f"{'child':14}" + "".join(f"{name:>14}" for name in MEASURES) + f"{'effect':>24}{'diagonal factor':>24}")
    found: list[Child] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, reference in children(parent, schoolings, seed, Path(folder)).items():
            child = Child(name, nearness(reference, seed), transmission(load_model(reference), data, seed))
            found.append(child)
            cells = "".join(f"{value:14.3f}" for value in child.near)
            for values in (effects(child.moved), factors(child.moved)):
                one = mean_t(values)
                cells += f"{f'{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]':>24}"
            print(f"{name:14}{cells}", flush=True)
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    for title, kept in (("all", found), ("children that went on learning, and the parent", found[: -len(FAR)])):
        print(f"Spearman over {len(kept)} ({title}): with the effect, with the diagonal factor")
        for place, measure in enumerate(MEASURES):
            near = np.array([child.near[place] for child in kept])
            both = [np.array([values(child.moved) for child in kept]) for values in (effects, factors)]
            print(f"  {measure:14} " + "   ".join(correlation(near, passed, rng) for passed in both))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
