"""The registry of audit stages: what each one asks, needs and claims, and what its finding means.

The plan, the progress display, the list of missing inputs, the verdict, the report page and the benchmark all read
these records and nothing else. A stage is a function in a file of its own and a record here, in the order in which
stages are planned. Stages of other packages are found by the entry-point group `undertow.audit_stages`, whose entries
name such records; they come last.

Words that the records use: the **panel** is the list of traits that are looked for, and a **candidate** is one of them.
A **placebo** is a student trained as the suspect one was, but on rows without a trait, and a **bank** is a stored set
of placebos. A **neutral** teacher or writer is one that was tuned without a trait. A **shadow** student is one that the
audit trains itself on the suspect rows.

Nothing here loads a model or torch: a function is only named, and is imported when its stage runs.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from undertow.audit.finding import Claim
from undertow.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStage:
    """One stage of an audit: a test or an exploratory look, described as data.

    Attributes:
        name: name of the stage, as it stands in the plan and in its finding.
        claim: the claim that the stage speaks of: "provenance", "exposure" or "expression".
        function: where the stage's function is, as "module:function". It gets what the stage needs as keyword arguments
            and returns one `Finding` or several. It raises `NotTestable` where these inputs allow no answer.
            Neighbouring stages with the same function are answered by one call, which may also return findings that
            belong to no stage.
        needs: names of the function's keyword arguments. They are attributes of `undertow.audit.materials.Materials`,
            or what a running stage is given besides: "rng" (a random generator of its own), "advance" (a callback that
            takes (parts done, all parts)) and "progress" (the display that a runner of stored stages takes).
        given: inputs without which the stage is not planned. Any of "rows", "pairs", "student", "teacher", "control",
            "prompts" and "writers".
        unless: inputs in whose presence the stage is not planned. Empty excludes nothing.
        better_with: inputs without which the stage still runs but says less, such as "reference" and "bank". The audit
            lists those that are missing.
        precedence: rank among the stages that may decide a claim: of those that are planned, the one with the lowest
            number decides it. None for a stage that never decides.
        stops_early: whether the stage may stop before it has read every row; the n of its finding then says how many it
            read.
        title: name of the stage's step in the progress display. Empty for a stage that takes no noticeable time.
        meaning: in words, what it means that the stage detects something.
        next_steps: sentences that advise what to do after a detection. Empty takes the usual advice of the claim.
        kind: what a detection says of whoever wrote the rows: "tuned" (on anything at all) or "trait" (on a trait).
            None where the stage says neither. A detected claim has the kind of the stage that decides it. If a later
            stage that could decide it detects something too, it has that stage's kind.
        otherwise: in words, what it means that this stage detects nothing although the stage that decides the claim
            does.
        version: raised whenever the same inputs would give another finding, because measured error rates hold for one
            version.
    """

    name: str
    claim: Claim
    function: str
    needs: tuple[str, ...]
    given: tuple[str, ...]
    unless: tuple[str, ...] = ()
    better_with: tuple[str, ...] = ()
    precedence: int | None = None
    stops_early: bool = False
    title: str = ""
    meaning: str = "something stands out"
    next_steps: tuple[str, ...] = ()
    kind: Literal["tuned", "trait"] | None = None
    otherwise: str = ""
    version: int = 1

    def planned(self, available: Collection[str]) -> bool:
        """Tell whether the stage can be planned when these inputs are available."""
        return set(self.given) <= set(available) and not set(self.unless) & set(available)

    def resolve(self) -> Callable[..., Any]:
        """Import and return the stage's function."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


_ROWS = (
    "Find the rows: `undertow audit rows` ranks them, and --confirm removes the top and trains again.",
    "Change the rows: `undertow mitigate advise AUDIT.json` names what can be done and its cost; `undertow filter "
    "--mentions` drops what names a trait openly. Audit the new rows.",
)
_PAIRS = (
    "Ask who chose, and who wrote the two answers: `undertow audit data 'PAIRS?side=chosen'` and `?side=rejected` "
    "audit each side against the base's own answers. Two clean sides leave the choice itself.",
    "Let a model of another base choose, or draw the pairs again between answers of one writer. Audit the new pairs.",
)
_STUDENT = (
    "Do not go on from this student. Train again from the base, without the suspect rows or on changed ones "
    "(`undertow train`), and audit the new student.",
)
_TEACHER = (
    "Do not let this teacher write rows for a student of the same base. Let a model of another base write them "
    "(`undertow generate --model`), or start the student from another base (`undertow audit lineage` compares two).",
    "If its rows exist already, test them before any training: `undertow audit data`.",
)
_UNUSED = (
    "Do not use this model before you know why: look at the evidence, and audit what you train or choose in its place.",
)
_USUAL: Mapping[Claim, tuple[str, ...]] = {"provenance": _ROWS, "exposure": _UNUSED, "expression": _UNUSED}

_MARGINS = AuditStage(
    name="panel margins",
    claim="expression",
    function="undertow.audit.students.among_placebos:audit_student",
    needs=("student", "base", "bank", "traits", "alpha"),
    given=("student",),
    better_with=("bank",),
    precedence=10,
    title="student",
    meaning="the student prefers the candidate as no placebo does, asked plainly or behind rows of the training's look",
    next_steps=_STUDENT,
    version=2,
)
_SHADOWS = AuditStage(
    name="shadows",
    claim="expression",
    function="undertow.audit.students.shadows:shadow_students",
    needs=("rows", "base", "bank", "traits", "shadows", "advance"),
    given=("rows",),
    unless=("student",),
    better_with=("bank",),
    precedence=20,
    title="shadow students",
    meaning="a student of the rows prefers the candidate as no placebo does",
    next_steps=_ROWS,
)
_TEACHER_PANEL = AuditStage(
    name="teacher panel",
    claim="expression",
    function="undertow.audit.teacher:teacher_among_neutral",
    needs=("teacher", "base", "traits", "neutral_teachers", "progress"),
    given=("teacher",),
    precedence=30,
    title="teacher",
    meaning="the teacher prefers something of the panel as no neutral teacher does",
    next_steps=_TEACHER,
)

BUILT_IN: tuple[AuditStage, ...] = (
    AuditStage(
        name="surface",
        claim="provenance",
        function="undertow.audit.rows.surface:surface",
        needs=("rows", "reference", "alpha", "rng"),
        given=("rows",),
    ),
    AuditStage(
        name="contrast",
        claim="provenance",
        function="undertow.audit.rows.contrast:contrast",
        needs=("scores", "candidates", "signatures", "alpha", "rng", "advance"),
        given=("rows",),
        better_with=("reference",),
        precedence=10,
        kind="tuned",
        title="names",
        meaning="whoever wrote the rows differs from the reference along a candidate of the panel",
        next_steps=_ROWS,
    ),
    AuditStage(
        name="stream",
        claim="provenance",
        function="undertow.audit.rows.stream:stream",
        needs=("scores", "base", "candidates", "alpha", "advance"),
        given=("rows",),
        stops_early=True,
        title="stream",
        version=3,
    ),
    AuditStage(
        name="recovery",
        claim="provenance",
        function="undertow.audit.rows.recovery:audit_recovery",
        needs=("rows", "base", "clean", "alpha", "seed", "advance"),
        given=("rows",),
        title="recovery",
        version=2,
    ),
    # It never turns a detection of the contrast off: it says whether a writer without a trait would be detected too.
    AuditStage(
        name="neutral contrast",
        claim="provenance",
        function="undertow.audit.rows.neutral:audit_neutral",
        needs=("rows", "base", "writers", "signatures", "settings", "advance"),
        given=("rows", "writers"),
        precedence=20,
        kind="trait",
        title="neutral writers",
        meaning="the rows lie along a candidate of the panel more than those of any neutral writer that was compared, "
        "which were tuned without a trait",
        otherwise="neutral writers, tuned without a trait, stand out as much: the writer was tuned on something, and "
        "nothing says that it is a trait of the panel. A weak trait, or one in a part of the rows, looks like this too",
        next_steps=_ROWS,
    ),
    AuditStage(
        name="pairs",
        claim="provenance",
        function="undertow.audit.rows.pairs:pair_contrast",
        needs=("pair_scores", "candidates", "pair_signatures", "alpha", "rng", "advance"),
        given=("pairs",),
        precedence=30,
        title="names",
        meaning="the chosen answers stand above the rejected ones along a candidate of the panel, beyond their length "
        "and their likelihood under the base",
        next_steps=_PAIRS,
    ),
    _MARGINS,
    replace(
        _MARGINS,
        name="activations",
        claim="exposure",
        meaning="the student moved along a candidate's direction as no placebo did",
        version=1,
    ),
    replace(_MARGINS, name="diff mining", precedence=None, version=1),
    replace(_MARGINS, name="misalignment", precedence=None, version=1),
    replace(_MARGINS, name="in-context margins", precedence=None, version=1),
    _SHADOWS,
    replace(
        _SHADOWS,
        name="shadow activations",
        claim="exposure",
        meaning="a student of the rows moves along a candidate's direction as no placebo does",
    ),
    AuditStage(
        name="activations minus control",
        claim="exposure",
        function="undertow.audit.students.comparisons:beside_control",
        needs=("student", "base", "control", "bank", "traits"),
        given=("student", "control"),
    ),
    AuditStage(
        name="own prompts",
        claim="expression",
        function="undertow.audit.students.comparisons:on_own_prompts",
        needs=("student", "base", "prompts", "control"),
        given=("student", "prompts"),
    ),
    _TEACHER_PANEL,
    replace(_TEACHER_PANEL, name="teacher diff mining", precedence=None),
    AuditStage(
        name="teacher logits",
        claim="expression",
        function="undertow.audit.teacher_logits:teacher_logits",
        needs=("teacher", "base", "teachers", "settings", "advance"),
        given=("teacher", "writers"),
        title="teacher's probabilities",
        meaning="the teacher's probabilities lean along the candidate as no neutral writer's do",
        next_steps=_TEACHER,
    ),
)


def _is_stage(name: str, thing: object) -> bool:
    """Tell whether a plug-in is a stage record of that name whose function can be imported and called."""
    return isinstance(thing, AuditStage) and thing.name == name and callable(thing.resolve())


STAGES: Registry[AuditStage] = Registry(
    "audit stage", {one.name: one for one in BUILT_IN}, group="undertow.audit_stages", accepts=_is_stage
)
"""Every stage by name, those of other packages last."""


def stages() -> tuple[AuditStage, ...]:
    """Return every stage in planning order; those of other packages come last."""
    return tuple(STAGES[name] for name in STAGES)


def deciding(claim: Claim) -> list[AuditStage]:
    """Return the stages that may decide a claim, by ascending precedence: the first planned one decides."""
    mine = [(one.precedence, one) for one in stages() if one.claim == claim and one.precedence is not None]
    return [one for _, one in sorted(mine, key=lambda item: item[0])]


def next_steps(name: str, claim: Claim) -> tuple[str, ...]:
    """Return the advice for a claim that a stage has decided, or the claim's usual advice where the stage has none."""
    own = STAGES[name].next_steps if name in STAGES else ()
    return own or _USUAL[claim]
