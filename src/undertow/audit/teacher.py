"""What does a teacher prefer that its base does not?

The null is the **neutral teacher**: the base tuned for as many updates on its own answers to the same questions, so
that "was fine-tuned at all" is not taken for a trait. The suspect is ranked among m of them, each of a seed of its own,
as a student is ranked among placebos (`undertow.audit.students.placebo_null`). The guarantee is conditional on the
tuning recipe, which the auditor has to guess. A store keeps what was measured of them, so each is made once for a base.

The **panel** is the list of traits that are looked for, and a **reading** is what is measured of one model
(`undertow.audit.students.readings`).
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from undertow.audit.compatibility import incompatibility
from undertow.audit.finding import Finding, NotTestable, refuse_stage
from undertow.audit.students.among_placebos import largest, rank_first, too_few_placebos
from undertow.audit.students.readings import (
    BATTERY,
    PanelRead,
    Readings,
    joined,
    load_readings,
    panel_traits,
    read_model,
    token_name,
)
from undertow.evals.favourite import mean_margins
from undertow.evals.questions import CATEGORIES, questions_of
from undertow.models.local import LocalModel
from undertow.models.references import loaded_identity
from undertow.seeds import derive
from undertow.stats.checks import Floats
from undertow.store.progress import Progress
from undertow.store.runner import Runner, StageContext
from undertow.store.stages import Stage
from undertow.training.config import TrainingConfig
from undertow.training.own_models import own_teacher
from undertow.training.teachers import finetuned_teacher
from undertow.traits import Trait

KIND, SECONDS = "neutral-teacher", 4.0
"""Kind of a stored neutral teacher, and the seconds that one takes with an embedded model until the store holds
measured ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig:
    """How a teacher is judged.

    Attributes:
        neutral: how many neutral teachers it is compared with. 0 only ranks traits, without a p-value.
        alpha: level of the verdict, in (0, 1). It takes 1 / alpha - 1 neutral teachers.
        tuning: how the neutral teachers are tuned. None takes what fits the base (`undertow.training.own_models`).
        seed: random seed of their answers and of the orders of their rows.
        store: folder in which what was measured of them is kept and found again. None makes them anew.
    """

    neutral: int = 19
    alpha: float = 0.05
    tuning: TrainingConfig | None = None
    seed: int = 0
    store: Path | None = None


def teacher_among_neutral(
    teacher: LocalModel, base: LocalModel, traits: PanelRead, neutral_teachers: TeacherConfig, progress: Progress | None
) -> list[Finding]:
    """Compare a teacher with neutral ones along the panel, as `audit_teacher` does; the function of its stage."""
    return audit_teacher(teacher, base, panel=traits.panel, config=neutral_teachers, progress=progress)


def audit_teacher(
    teacher: LocalModel,
    base: LocalModel,
    *,
    panel: Sequence[Trait] | None = None,
    config: TeacherConfig | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Compare a teacher with its base and with neutral teachers.

    Args:
        teacher: the suspect teacher, which is compared with neutral ones.
        base: the model that the teacher started from. With a store it must be what its reference says.
        panel: the traits that are looked for. None takes every built-in animal and tree.
        config: the null and the level. None takes 19 neutral teachers and 0.05.
        progress: display that is told about every neutral teacher. None shows nothing.

    Returns:
        Two findings on expression: "teacher panel" by margins, and "teacher diff mining" with open vocabulary. They are
        exploratory without neutral teachers.

    Raises:
        NotTestable: the teacher cannot be one of this base, or there are neutral teachers but too few for alpha.
        UnknownNameError: nothing asks about a trait of the panel.
        UserError: the store cannot be used.
    """
    config = config or TeacherConfig()
    traits = panel_traits() if panel is None else tuple(panel)
    own = tuple(one for one in traits if one not in panel_traits())
    for one in own:
        questions_of(one)
    refuse_stage(incompatibility(teacher, base))
    if config.neutral and (reason := too_few_placebos(config.neutral, config.alpha)):
        raise NotTestable(reason.replace("placebos", "neutral teachers"))
    neutral = _neutral(base, own, config, progress)
    start, suspect = _read(base, own), _read(teacher, own)
    null = joined([start.known, *(one.known for one in neutral)])
    names = [*(one.name for one in panel_traits()), *(one.name for one in own)]
    columns = [names.index(one.name) for one in traits]
    margins = [
        np.concatenate([known, np.stack([one.own for one in some])], axis=1)[:, columns]
        for known, some in ((suspect.known.margins, [suspect]), (null.margins, [start, *neutral]))
    ]
    suspect = suspect.known
    tokens = [token_name(teacher, token) for token in range(suspect.logp.shape[1])]
    return [
        _named(
            _compared("teacher panel", "panel margin", margins, [item.name for item in traits], config.alpha),
            margins,
            traits,
        ),
        _compared("teacher diff mining", "log-probability of a token", [suspect.logp, null.logp], tokens, config.alpha),
    ]


@dataclass(frozen=True, slots=True)
class _TeacherReading:
    """What is measured of one model.

    Attributes:
        known: what a bank of placebos measures too, of the built-in traits.
        own: mean logit margin of each trait of the user's own, shape (traits,).
    """

    known: Readings
    own: Floats


def _read(model: LocalModel, own: Sequence[Trait]) -> _TeacherReading:
    return _TeacherReading(read_model(model), mean_margins(model, own) if own else np.empty(0))


def _neutral(
    base: LocalModel, own: Sequence[Trait], config: TeacherConfig, progress: Progress | None
) -> list[_TeacherReading]:
    """Return the readings of the neutral teachers; those that the store has are not made again."""
    tuning = config.tuning or own_teacher(base.parameters)

    def tune(context: StageContext) -> None:
        seed = context.config["seed"]
        asked = (*CATEGORIES, *own)
        made = finetuned_teacher(base, None, tuning, seed=seed, categories=asked, advance=context.advance)
        found = _read(made, own)
        found.known.save(context.out / "readings.safetensors")
        if own:
            (context.out / "own.json").write_text(json.dumps(found.own.tolist()), encoding="utf-8")

    common = {"base": loaded_identity(base.ref), "tuning": tuning.to_config(), "battery": BATTERY}
    # Not `definition`: keys of stored teachers hold built-in traits of other categories whole, too.
    common |= {"own": [replace(one, rubric="").to_data() for one in own]} if own else {}
    seeds = [derive(config.seed, "neutral", index) for index in range(config.neutral)]
    stages = [
        Stage(kind=KIND, version=1, config={**common, "seed": seed}, label=f"neutral teacher {index + 1}")
        for index, seed in enumerate(seeds)
    ]
    with tempfile.TemporaryDirectory() as fresh:
        folders = Runner(config.store or Path(fresh), {KIND: tune}, progress, rates={KIND: SECONDS}).run(stages)
        return [_stored(folders[stage.fingerprint], len(own)) for stage in stages]


def _stored(folder: Path, own: int) -> _TeacherReading:
    margins = json.loads((folder / "own.json").read_text(encoding="utf-8")) if own else []
    return _TeacherReading(load_readings(folder / "readings.safetensors"), np.array(margins, dtype=np.float64))


def _compared(stage: str, what: str, values: Sequence[Floats], names: Sequence[str], alpha: float) -> Finding:
    """Judge a suspect, shape (1, m), against its base and then the neutral teachers, shape (1 + neutral, m)."""
    suspect, null = values
    neutral, change = null[1:], suspect[0] - null[0]
    if not len(neutral):
        return _ranking(stage, what, change - np.median(change), names)
    statistic = f"largest change of the {what}, in SDs of the neutral teachers"
    found = rank_first(stage, statistic, np.concatenate([suspect, neutral]), names, alpha)
    first = str(found.candidate)
    return replace(
        found,
        null=f"{len(neutral)} bases tuned on their own answers, each against all others",
        caveats=(
            f"In SDs {first} stands out most; teacher minus base: {change[names.index(first)]:+.2f}.",
            "It holds for teachers tuned as the neutral ones were.",
            "Asked plainly: what a trigger or a system prompt would bring out is not looked for.",
        ),
    )


def _named(found: Finding, margins: Sequence[Floats], traits: Sequence[Trait]) -> Finding:
    """Name the trait of a detection: the one whose margin rose most, if no neutral teacher has a lead as large.

    All traits of a category rise with the one that is taught. In SDs of neutral teachers a calm one may then come
    first, so SDs say that something was taught, and the lead says which. It is ranked as the statistic is: a teacher
    without a trait leads by more than m neutral ones with probability 1 / (m + 1).

    Args:
        found: the finding on the panel, whose first in SDs is its candidate.
        margins: margins of the suspect, shape (1, traits), and of the base and the neutral teachers.
        traits: the traits of the panel.
    """
    suspect, (base, *neutral) = margins[0][0], margins[1]
    if found.verdict != "detected" or len(traits) < 2:
        return found
    first, second = np.argsort(base - suspect)[:2]
    own, *others = (float(np.diff(np.sort(one - base)[-2:])[0]) for one in (suspect, *neutral))
    most, next_most = (f"{traits[place].name} ({suspect[place] - base[place]:+.2f})" for place in (first, second))
    told = f"Teacher minus base is largest for {most}, then for {next_most}"
    lead = f"in no neutral teacher does one lead by more than {max(others):.2f}"
    if own > max(others):
        return replace(found, candidate=traits[first].name, caveats=(f"{told}; {lead}.", *found.caveats))
    why = f"{told}, a lead of {own:.2f}, and {lead}: so no trait is named."
    return replace(found, candidate=None, caveats=(why, *found.caveats))


def _ranking(stage: str, what: str, change: Floats, names: Sequence[str]) -> Finding:
    scores = largest(change, names)
    return Finding(
        stage=stage,
        claim="expression",
        statistic=f"largest change of the {what}, teacher minus base, minus the median change",
        effect=float(change.max()),
        n=1,
        candidate=next(iter(scores)),
        caveats=("Without neutral teachers this is a ranking: the first of a list is always there.",),
        scores=scores,
    )
