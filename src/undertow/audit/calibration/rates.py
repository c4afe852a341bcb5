"""From judged sets to rates with intervals: for clean rows, for planted rows by dose, and for each benign shift.

A **planted** set holds rows that the base wrote under a trait's persona (a system prompt); the **dose** is their share.
A benign **shift** is a harmless difference from the reference, such as another temperature. Sets are drawn anew from
one pool, so the sets of a rate share prompts and rows. Wilson's intervals therefore speak of further sets from this
pool. For clean rows nothing else varies, since each set tosses its own coins. How much another pool would differ shows
in the interval over traits, whose personas wrote rows of their own.

Where fewer sets could be judged than a level needs, there is no figure, and the reason stands in its place.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from undertow.audit.calibration.judging import Outcome, SetJudge
from undertow.audit.calibration.pool import Places, RowPool
from undertow.audit.calibration.settings import Calibration
from undertow.audit.calibration.writers import ONE_TEMPLATE, REFERENCE, SUSPECT, TEMPLATE, RowWriter, planted, shifts
from undertow.audit.students.placebo_null import needed
from undertow.seeds import derive
from undertow.stats.estimates import mean_t, wilson
from undertow.types import Advance, Estimate

Draw = tuple[Places, Places, Places]
"""A drawn set: indices of its prompts, and places in the pool of its suspect and reference rows."""


@dataclass(frozen=True)
class Sets:
    """Draws sets from a pool, judges them and turns the outcomes into rates.

    Attributes:
        settings: how many sets there are of each kind, and how many rows each has.
        judge: judges each set; it holds the pool.
        advance: callback of `measured` that takes (rates done, all rates).
    """

    settings: Calibration
    judge: SetJudge
    advance: Advance

    @property
    def pool(self) -> RowPool:
        """The pool that sets are drawn from."""
        return self.judge.pool

    def measured(self) -> dict[str, Any]:
        """Return all rates as plain data: "clean", "power" (by dose) and "shifts"."""
        total = 2 + len(self.settings.doses)
        found: dict[str, Any] = {"clean": self.clean()}
        self.advance(1, total)
        power: list[dict[str, Any]] = []
        for dose in self.settings.doses:
            power.append(self.power(dose))
            self.advance(1 + len(power), total)
        shifted = self.shifts()
        self.advance(total, total)
        return {**found, "power": power, "shifts": shifted}

    def clean(self) -> dict[str, Any]:
        """Return how often rows of the base are called, or stopped by a defect, against other rows of the base."""
        able = np.flatnonzero(self.pool.able)
        if short := self._short(len(able), "prompts that the base answers twice by the domain's rules"):
            return short
        return self._rate(
            self._judged("clean", self.settings.clean, lambda rng: self._answered(self._some(able, rng), rng))
        )

    def power(self, dose: float) -> dict[str, Any]:
        """Return how often sets are called in which a share `dose` of the rows is written under a trait's persona."""
        traits: dict[str, Any] = {}
        outcomes: list[Outcome] = []
        right = wrong = 0
        for writer in planted(self.settings):
            name = str(writer.trait)
            if writer not in self.pool.at:
                traits[name] = {"not_measured": "its rows are not written yet"}
                continue
            own = self._planted(writer, dose)
            if isinstance(own, str):
                traits[name] = {"not_measured": own}
                continue
            outcomes += own
            right += sum(one.named == name for one in own)
            wrong += sum(one.named not in (name, None) for one in own)
            traits[name] = {
                "n": len(own),
                "called": sum(one.called for one in own),
                "named": sum(one.named == name for one in own),
                "first": sum(one.first == name for one in own),
            }
        found = {"dose": dose, **self._rate(outcomes)}
        if "not_measured" not in found:
            measured = [one for one in traits.values() if "n" in one]
            n = len(outcomes)
            found["over_traits"] = over_traits([(one["called"], one["n"]) for one in measured]).to_json()
            found["first"] = wilson(sum(one["first"] for one in measured), n).to_json()
            names = {"right": wilson(right, n).to_json(), "wrong": wilson(wrong, n).to_json()}
            found["named"] = {"not_measured": why} if (why := self.judge.why_no_name) else names
        return {**found, "traits": traits}

    def shifts(self) -> dict[str, Any]:
        """Return how often sets of each benign shift are called, and how often stopped, by the shift's name."""
        found: dict[str, Any] = {}
        for writer in shifts(self.settings):
            able = np.flatnonzero(self.pool.able & self.pool.has(writer))
            what = f"prompts with accepted rows of the shift '{writer.name}'"
            short = self._short(len(able), what)
            found[writer.name] = short or self._rate(
                self._judged(
                    writer.name, self.settings.shifted, lambda rng, w=writer, some=able: self._other(w, some, rng)
                )
            )
        return {**found, **({} if TEMPLATE in found else {TEMPLATE: {"not_measured": ONE_TEMPLATE}})}

    def _planted(self, writer: RowWriter, dose: float) -> list[Outcome] | str:
        """Return the outcomes of sets with a share of a persona's rows, or why there are none."""
        able = self.pool.able
        own, n = np.flatnonzero(able & self.pool.has(writer)), self.settings.rows
        several = round(dose * n)
        for there, wanted in ((int(able.sum()), n), (len(own), several)):
            if there < wanted:
                return f"{there} prompts with accepted rows, and {wanted} are needed"

        def draw(rng: np.random.Generator) -> Draw:
            carriers = rng.choice(own, several, replace=False)
            rest = rng.choice(np.setdiff1d(np.flatnonzero(able), carriers), n - several, replace=False)
            prompts, suspect, reference = self._answered(np.concatenate([carriers, rest]), rng)
            suspect[:several] = self.pool.places(writer, carriers)
            return prompts, suspect, reference

        return self._judged(f"{writer.name} {dose:g}", self.settings.planted, draw)

    def _some(self, able: Places, rng: np.random.Generator) -> Places:
        return rng.choice(able, self.settings.rows, replace=False)

    def _answered(self, prompts: Places, rng: np.random.Generator) -> Draw:
        """Let a coin decide for each prompt which of the base's answers is the suspect's, the other the reference's."""
        coin = rng.integers(0, 2, len(prompts)).astype(bool)
        one, other = self.pool.places(SUSPECT, prompts), self.pool.places(REFERENCE, prompts)
        return prompts, np.where(coin, one, other), np.where(coin, other, one)

    def _other(self, writer: RowWriter, able: Places, rng: np.random.Generator) -> Draw:
        """Draw a set with the rows of a shift as the suspect, and either answer of the base as the reference."""
        prompts, _, reference = self._answered(self._some(able, rng), rng)
        return prompts, self.pool.places(writer, prompts), reference

    def _judged(self, what: str, times: int, draw: Callable[[np.random.Generator], Draw]) -> list[Outcome]:
        """Draw and judge `times` sets, each with a random generator of its own."""
        found: list[Outcome] = []
        for turn in range(times):
            rng = np.random.default_rng(derive(self.settings.seed, "calibration", "set", what, turn))
            found.append(self.judge.judge(*draw(rng), rng))
        return found

    def _short(self, there: int, what: str) -> dict[str, Any] | None:
        if there >= self.settings.rows:
            return None
        return {"not_measured": f"{there} {what}, and a set takes {self.settings.rows}"}

    def _rate(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Return the shares of sets that are called and that are stopped, or why there is no figure."""
        n, least = len(outcomes), needed(self.settings.share)
        if n < least:
            return {"not_measured": f"{n} sets, and a level of {self.settings.share:.3g} takes {least}"}
        reasons = Counter(name for one in outcomes for name in one.stopped)
        return {
            "sets": n,
            "called": share(sum(one.called for one in outcomes), n),
            "stopped": share(sum(bool(one.stopped) for one in outcomes), n),
            "reasons": dict(sorted(reasons.items())),
            "called_if_not_stopped": share(sum(one.alone for one in outcomes), n),
        }


def share(hits: int, n: int) -> Mapping[str, Any]:
    """Return a share with its count and Wilson's 95 % interval as plain data."""
    return {"count": hits, **wilson(hits, n).to_json()}


def over_traits(counts: Sequence[tuple[int, int]]) -> Estimate:
    """Return the mean rate over traits, with an interval that speaks of further traits.

    It is Student's t interval over the traits' rates, widened where it is narrower than Wilson's interval of all sets
    together: a few rates may agree by chance, and the t interval of equal rates has no width. Where every trait has the
    rate 0, or every one the rate 1, it also spans Wilson's interval of as many draws as there are traits, since sets of
    one trait share its rows.

    Args:
        counts: for each trait, how many of its sets were called and how many were judged.
    """
    rates = [called / n for called, n in counts]
    over, traits = mean_t(rates), len(rates)
    spans = [over, wilson(sum(called for called, _ in counts), sum(n for _, n in counts))]
    if set(rates) in ({0.0}, {1.0}):
        spans.append(wilson(traits * int(rates[0]), traits))
    low, high = min(one.low for one in spans), max(one.high for one in spans)
    return replace(over, low=max(0.0, low), high=min(1.0, high))
