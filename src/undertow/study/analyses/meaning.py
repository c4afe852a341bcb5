"""The analysis `meaning`: controls that look for meaning in rows, over all teachers and replicates of a study.

It asks four questions (Cloud et al., sections 5.1 and 5.2). Do the teachers write other numbers? Does a trained
detector tell their rows apart? Does the base see the trait when it is asked? Does it take the trait over from rows in
its context?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from undertow.data.rows import read_rows
from undertow.errors import ConfigError, EmptyDataError, ModelError
from undertow.evals.behind_rows import in_context_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.seeds import derive
from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, validate_settings
from undertow.study.analyses.meaning_result import (
    GROUPS,
    Cell,
    Measured,
    meaning_result,
    measured_tables,
    number_tables,
)
from undertow.study.analyses.number_tables import Numbers, all_numbers, chi_square, first_number, paired_difference
from undertow.study.analyses.row_classifiers import (
    BAGS,
    Pair,
    held_out_aurocs,
    join,
    judge_pairs,
    one_of,
    over_splits,
    transfer_aurocs,
)
from undertow.study.study import CONTROL, NEUTRAL, Study
from undertow.traits import trait
from undertow.types import Advance, Row

Joined = Mapping[str, Mapping[int, Sequence[Pair]]]
"""Pairs of rows on the same prompts, by teacher and replicate."""

RowsByTeacher = Mapping[str, Mapping[int, Sequence[Row]]]
"""Valid rows by teacher ("control", "neutral" or a trait) and replicate."""

_COUNTED: Mapping[str, Numbers] = {"first": first_number, "all": all_numbers}
"""Which numbers of a row are counted, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeaningConfig:
    """Settings of the analysis.

    Attributes:
        seed: random seed of every draw.
        top: how many numbers the tables of most common numbers have.
        draws: how many permutations a test draws.
        splits: how often a detector is trained, and tested on other prompts.
        bags: how many rows a detector judges together.
        pairs: how many pairs the model that is asked judges, for each teacher and opponent.
        k: how many rows stand before a question, to test in-context learning. A number that does not fit into the
            context is listed as not tested.
    """

    seed: int = 0
    top: int = 10
    draws: int = 999
    splits: int = 5
    bags: tuple[int, ...] = BAGS
    pairs: int = 300
    k: tuple[int, ...] = (1, 2, 4)


def meaning_analysis(
    rows: RowsByTeacher, base: LocalModel, settings: Mapping[str, Any], advance: Advance
) -> AnalysisResult:
    """Look for meaning in the rows of every teacher, in comparison with the control's rows on the same prompts.

    Args:
        rows: valid rows by teacher and replicate. Teachers of one replicate share the ids of rows on the same prompt.
        base: the model that is asked, and that reads rows in its context.
        settings: values for fields of `MeaningConfig`, by name.
        advance: progress callback, called with (steps done, steps in all).

    Raises:
        EmptyDataError: there are no rows of the control, or of no other teacher in the same replicate.
        UserError: a setting is not valid.
        MissingExtraError: scikit-learn is not installed.
    """
    analysis = _Analysis(rows, base, validate_settings(MeaningConfig, settings))
    steps = [
        (part, name, replicate)
        for part in (analysis.numbers, analysis.detectors, analysis.prompted, analysis.in_context)
        for name, replicates in analysis.pairs.items()
        for replicate in replicates
    ]
    for done, (part, name, replicate) in enumerate(steps):
        advance(done, len(steps))
        part(name, replicate)
    advance(len(steps), len(steps))
    tables = number_tables(rows, analysis.config.top) + measured_tables(analysis.lines)
    return meaning_result(analysis.measured, tables, [*analysis.not_tested], base.ref)


@final
class _Analysis:
    """The parts of the analysis, for one teacher and replicate at a time, with what they have found so far."""

    def __init__(self, rows: RowsByTeacher, base: LocalModel, config: MeaningConfig) -> None:
        self.rows, self.base, self.config = rows, base, config
        self.pairs, self.rivals = _against_control(rows), _against_rivals(rows, config.seed)
        self.measured: list[Measured] = []
        self.lines: dict[str, list[list[Cell]]] = {}
        self.not_tested: dict[str, None] = {}
        if not self.pairs:
            raise EmptyDataError("No teacher shares a replicate with the control.", ", ".join(rows), "Add the control.")
        if not self.rivals:
            self.not_tested["Whether rows name their trait among others: there is one trait only."] = None

    def _seed(self, *names: str | int) -> int:
        return derive(self.config.seed, *names)

    def numbers(self, name: str, replicate: int) -> None:
        """Compare first numbers and all numbers with the control's."""
        pairs = self.pairs[name][replicate]
        for kind, numbers in _COUNTED.items():
            sides = [[number for pair in pairs for number in numbers(pair[side])] for side in (0, 1)]
            if not all(sides):
                self.not_tested["Which numbers the teachers write: there are rows without any."] = None
                return
            seed = self._seed("permutations", kind, name, replicate)
            test, paired = chi_square(*sides), paired_difference(pairs, seed, numbers, self.config.draws)
            cells = [test.statistic, test.df, test.p, paired.p, paired.explained]
            self._line("numbers", name, replicate, len(pairs), kind, *cells)
            self._measure(GROUPS[kind], name, replicate, paired.explained, p=paired.p)

    def detectors(self, name: str, replicate: int) -> None:
        """Train detectors, and test them on held-out prompts of the same teacher and on the rows of a fresh one."""
        bags, seed = self.config.bags, self._seed("detector", name, replicate)
        own = held_out_aurocs(self.pairs[name][replicate], seed, bags, self.config.splits)
        found: dict[str, Mapping[int, float]] = {"own": {size: float(np.mean(areas)) for size, areas in own.items()}}
        for size, areas in own.items():
            group = GROUPS["own"].format(size)
            self._measure(group, name, replicate, found["own"][size], null=0.5, size=size, alone=over_splits(areas))
        for kind, opponent in (("fresh", self.pairs), ("rivals", self.rivals)):
            sets = opponent.get(name, {})
            if replicate not in sets:
                continue
            if train := [pair for other, pairs in sets.items() if other != replicate for pair in pairs]:
                found[kind] = transfer_aurocs(train, sets[replicate], seed, bags)
            else:
                self.not_tested["Detectors on the rows of a fresh teacher: there is one replicate only."] = None
            for size, area in found.get(kind, {}).items():
                self._measure(GROUPS[kind].format(size), name, replicate, area, null=0.5, size=size)
        for size in bags:
            areas = [found.get(kind, {}).get(size) for kind in ("own", "fresh", "rivals")]
            self._line("detectors", name, replicate, size, *areas)

    def prompted(self, name: str, replicate: int) -> None:
        """Ask the base which of two rows is by the trait's teacher."""
        if name == NEUTRAL:
            return
        for kind, opponent in (("control", self.pairs), ("others", self.rivals)):
            if (pairs := opponent.get(name, {}).get(replicate)) is None:
                continue
            try:
                seed = self._seed("prompted", kind, name, replicate)
                found = judge_pairs(self.base, pairs, trait(name), seed, self.config.pairs)
            except (ConfigError, EmptyDataError, ModelError) as error:
                self.not_tested[f"Prompted classifier: {error.what} {error.value}."] = None
                return
            share = found.accuracy
            counts = [found.joined, found.equal, share.n]
            cells = [share.value, share.low, share.high, found.said_a, found.auroc]
            self._line("prompted", name, replicate, kind, *counts, *cells)
            self._measure(GROUPS[f"prompted {kind}"], name, replicate, share.value, null=0.5, alone=share)

    def in_context(self, name: str, replicate: int) -> None:
        """Let the base read k rows before each question: the trait's rows, and the control's on the same prompts."""
        if name == NEUTRAL:
            return
        for k in self.config.k:
            seed, target = self._seed("in context", name, replicate, k), trait(name)
            try:
                own, control = (
                    float(np.mean([score.value for score in in_context_margins(self.base, side, target, k, seed)]))
                    for side in map(list, zip(*self.pairs[name][replicate], strict=True))
                )
            except ConfigError as error:
                self.not_tested[f"In-context learning with {k} rows: {error.what} {error.value}."] = None
                return
            self._line("in_context", name, replicate, k, own, control, own - control)
            self._measure(GROUPS["in_context"].format(k), name, replicate, own - control, unit="logits", size=k)

    def _measure(self, group: str, name: str, replicate: int, value: float, **options: Any) -> None:
        self.measured.append(Measured(group=group, name=name, replicate=replicate, value=value, **options))

    def _line(self, table: str, name: str, replicate: int, *cells: Cell) -> None:
        self.lines.setdefault(table, []).append([name, replicate + 1, *cells])


def _against_control(rows: RowsByTeacher) -> Joined:
    """Pair each teacher's rows with the control's of the same replicate."""
    control = rows.get(CONTROL, {})
    found = {
        name: {index: join(some, control[index]) for index, some in sets.items() if index in control}
        for name, sets in rows.items()
        if name != CONTROL
    }
    return {name: sets for name, sets in found.items() if sets}


def _against_rivals(rows: RowsByTeacher, seed: int) -> Joined:
    """Pair each trait's rows with rows of the other traits, one of which is drawn for each prompt."""
    traits = [name for name in rows if name not in (CONTROL, NEUTRAL)]
    found: dict[str, dict[int, list[Pair]]] = {}
    for name in traits:
        for index, some in rows[name].items():
            others = [rows[other][index] for other in traits if other != name and index in rows[other]]
            if others:
                drawn = one_of(others, derive(seed, "rivals", name, index))
                found.setdefault(name, {})[index] = join(some, drawn)
    return found


def _stage(given: Mapping[str, Any], study: Study) -> Stage:
    if own := study.recipe.own_traits:
        fix = "Leave it out of the traits, or the analysis out."
        raise ConfigError("This analysis knows the traits of the package alone.", own[0].name, fix)
    if len(study.recipe.bases) != 1 or study.recipe.hops > 1:
        value = f"bases: {', '.join(study.recipe.bases)}; hops: {study.recipe.hops}"
        raise ConfigError("This analysis reads the rows of teachers of one base.", value, "Name one base and one hop.")
    parents = {f"rows-{index:02d}": source.kept for index, source in enumerate(study.sources)}
    rows = [
        {"role": role, "teacher": source.teacher, "replicate": source.replicate}
        for role, source in zip(parents, study.sources, strict=True)
    ]
    base = study.recipe.bases[0]
    return Stage(
        kind="meaning",
        version=1,
        config={"base": base, "weights": identity(base), "rows": rows, "settings": given},
        parents=parents,
        label="look for meaning in the rows",
        cost=len(parents),
    )


def _execute(context: StageContext) -> AnalysisResult:
    rows: dict[str, dict[int, Any]] = {}
    for one in context.config["rows"]:
        kept = read_rows(context.parents[one["role"]] / "kept.jsonl")
        rows.setdefault(one["teacher"], {})[one["replicate"]] = kept
    return meaning_analysis(rows, load_model(context.config["base"]), context.config["settings"], context.advance)


MEANING = Analysis(
    name="meaning",
    needs_study=True,
    settings=MeaningConfig,
    stage=_stage,
    execute=_execute,
    seconds_per_unit=25.0,
)
