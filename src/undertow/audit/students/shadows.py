"""Shadows: small students that the auditor trains on the suspect rows. Would training on them transfer something?

What is exchangeable: a shadow of clean rows, trained with a seed of its own, is what a **placebo** is, a student of
rows without a trait. So one shadow has a conformal p-value against the **bank**, a stored set of placebos
(`undertow.audit.students.placebo_null`). The k shadows of one set of rows share those rows, which the placebos of a
bank do not. The mean of k shadows varies less over seeds but no less over rows, so groups of k placebos are no null for
it. Each shadow is therefore ranked alone, and the k p-values, dependent in an unknown way, are merged by twice their
mean, which is a p-value under any dependence (Vovk and Wang 2020, doi:10.1093/biomet/asaa027).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from undertow.audit.evidence import NullSample
from undertow.audit.finding import Finding, NotTestable, refuse_stage, verdict_at
from undertow.audit.students.among_placebos import judge_reading, too_few_placebos, wrong_bank
from undertow.audit.students.bank import Bank, ChosenBank, bank_options, read_students
from undertow.audit.students.placebo_null import beside_null
from undertow.audit.students.readings import PanelRead
from undertow.data.filters import accepted_rows, subset
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.types import Advance, Row

FEWER = 0.6
"""How many of the placebos' usual number of rows the suspect rows have to reach, as a share. With fewer, rows repeat
more often than a placebo's did, and the shadows are no placebos even without a trait. A teacher writes fewer valid rows
than its base (1,847 against 2,285 of 2,500 in one case), so a part has to be enough, and the finding says that it is
one."""

ACCEPTED = 0.5
"""Share of the suspect rows that the domain of the bank has to accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowConfig:
    """How many shadows are trained, and how they are judged.

    Attributes:
        k: how many shadows are trained.
        alpha: level of the verdict, in (0, 1).
        seed: random seed of the draw of rows, the adapters' initialisations and the orders of the rows.
    """

    k: int = 4
    alpha: float = 0.05
    seed: int = 0


def shadow_students(
    rows: Sequence[Row],
    base: LocalModel,
    bank: ChosenBank,
    traits: PanelRead,
    shadows: ShadowConfig,
    advance: Advance | None = None,
) -> list[Finding]:
    """Train shadows on the suspect rows and rank them among the bank's placebos.

    Where the bank is too small for several shadows, whose merged p-value is doubled, only one is trained.

    Args:
        rows: the suspect rows, on which the shadows are trained.
        base: the model that the shadows start from.
        bank: placebos of this base, trained on rows of the same domain.
        traits: the traits that are looked for.
        shadows: how many shadows there are, and at which level they are judged.
        advance: callback that takes (updates done, all updates). None reports nothing.

    Returns:
        Two findings: "shadows" (expression) by panel margins and "shadow activations" (exposure).

    Raises:
        NotTestable: there is no bank, or it is of another base, too small, or without any trait of the panel, or its
            domain accepts too few of the rows.
    """
    placebos, panel, alpha = bank.require(), traits.require(), shadows.alpha
    k = shadows.k if len(placebos) + 1 >= 2 / alpha else 1
    accepted = accepted_rows(rows, placebos.recipe.task)
    refuse_stage(wrong_bank(base, placebos))
    refuse_stage(too_few_placebos(len(placebos), alpha))
    _check_rows(rows, accepted, placebos)
    seeds = [derive(shadows.seed, "shadow", index) for index in range(k)]
    usual = int(np.median(placebos.rows))
    datasets = [subset(accepted, min(usual, len(accepted)), derive(shadows.seed, "shadow rows"))] * k
    readings = read_students(base, datasets, seeds, placebos.recipe, advance)
    judged = [judge_reading(readings[at : at + 1], placebos, panel=panel, alpha=alpha)[:2] for at in range(k)]
    expression, exposure = (merge_findings([both[place] for both in judged], alpha) for place in (0, 1))
    fewer = (f"They saw {len(datasets[0])} rows, a placebo {usual}.",) if len(datasets[0]) < 0.95 * usual else ()
    named = ((expression, "shadows"), (exposure, "shadow activations"))
    found = [replace(one, stage=stage, caveats=(*one.caveats, *fewer)) for one, stage in named]
    return traits.cautioned(found)


def _check_rows(rows: Sequence[Row], accepted: Sequence[Row], bank: Bank) -> None:
    if len(accepted) < ACCEPTED * len(rows) or not accepted:
        raise NotTestable(f"The bank's domain {bank.recipe.domain} accepts {len(accepted)} of {len(rows)} rows.")
    usual = int(np.median(bank.rows))
    if len(accepted) < FEWER * usual:
        prompts = round(bank.recipe.prompts * len(accepted) / usual)
        made = f"`undertow audit bank{bank_options(bank.recipe, None)} --prompts {prompts}`"
        fewer = f"make a bank of fewer with {made}."
        raise NotTestable(f"There are {len(accepted)} good rows, and a placebo has {usual}: {fewer}")


def merge_findings(findings: Sequence[Finding], alpha: float) -> Finding:
    """Merge the same finding of k shadows: twice the mean p-value, the mean effect and the mean scores.

    With one shadow it is that shadow's own finding.
    """
    first, k = findings[0], len(findings)
    if k == 1:
        return first
    own = [one.p if one.p is not None else 1.0 for one in findings]
    p = min(1.0, 2.0 * sum(own) / k)
    names = set[str]().union(*(one.scores or {} for one in findings))
    means = {name: float(np.mean([(one.scores or {}).get(name, 0.0) for one in findings])) for name in names}
    scores = dict(sorted(means.items(), key=lambda item: -item[1]))
    each = ", ".join(f"{value:.3f}" for value in own)
    return replace(
        first,
        statistic=f"mean over {k} shadows of the {first.statistic}",
        effect=sum(one.effect or 0.0 for one in findings) / k,
        p=p,
        verdict=verdict_at(p, alpha),
        candidate=next(iter(scores), None),
        caveats=(
            f"p is twice the mean of the {k} shadows' own ({each}), as they share their rows.",
            "The smallest detectable shift is that of one shadow.",
            *(text for text in first.caveats if "candidate" not in text),
        ),
        scores=scores,
        null_sample=_all_shadows([one.null_sample for one in findings if one.null_sample is not None], alpha),
    )


def _all_shadows(samples: Sequence[NullSample], alpha: float) -> NullSample | None:
    """Put the shadows beside one null, each placebo's mean over them; if all exceed its bound, that is a detection.

    The bound is that of half of alpha, since twice the mean p-value of the shadows has to stay within alpha.
    """
    if not samples:
        return None
    placebos = np.mean([one.values for one in samples], axis=0)
    found = beside_null(np.append(samples[0].observed, placebos), alpha / 2, samples[0].unit)
    return replace(found, observed=tuple(value for one in samples for value in one.observed))
