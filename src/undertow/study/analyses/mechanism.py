"""The analysis `mechanism`: how students move inside, layer by layer, and which numbers go with a trait.

Exposure is the cosine between the teacher's shift in the residual stream and the student's shift minus its control's
(Blank et al., arXiv:2606.00995, with the control's shift subtracted). Without the subtraction a student of any rows may
have a high cosine, because fine-tuning moves all students alike. It is shown beside expression, the change of the
student's answers.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from undertow.domains.base import domain
from undertow.errors import ConfigError
from undertow.evals.favourite import answer_probabilities, mean_margins
from undertow.evals.questions import questions_of
from undertow.models.local import LocalModel
from undertow.seeds import derive
from undertow.stats.comparisons import rank_correlation
from undertow.stats.estimates import mean_t, with_interval
from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, estimate_row, table, validate_settings
from undertow.study.stage_models import parent_model
from undertow.study.study import Study, Subject
from undertow.traits import Trait, defined, definition
from undertow.types import user_prompt

CROSSED = "cross-init minus its control"
"""Name of the curve of students on other bases."""

ASKED = 5
"""How many favourite questions give the margin after each number."""

StateKey = tuple[str, str | None, str, int]
"""A model: arm, trait, base and replicate."""

Shifts = dict[StateKey, dict[str, np.ndarray]]
"""Mean shift of the residual stream from the base for each model, by kind of prompt: float (layers + 1, width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismConfig:
    """Settings of the analysis.

    Attributes:
        prompts: how many number prompts shifts are measured on. No teacher has answered them.
        numbers: how many numbers, from 0 on, are tested for entanglement with a trait.
    """

    prompts: int = 200
    numbers: int = 1000


def _stage(given: Mapping[str, Any], study: Study) -> Stage:
    """Return the stage that analyses a study's models. It needs number rows and teachers with weights of their own."""
    recipe = study.recipe
    if (
        recipe.domain.name != "numbers"
        or recipe.teacher.kind == "prompted"
        or not {"student", "control"} <= {*recipe.arms}
    ):
        fix = "Use the domain numbers, the arms student and control, and a fine-tuned or steered teacher."
        raise ConfigError("This study has nothing to look into.", recipe.name, fix)
    if len(recipe.bases) != 1:
        raise ConfigError("This analysis compares models of one base.", ", ".join(recipe.bases), "Name one base.")
    parents: dict[str, Stage] = {}
    members: list[dict[str, Any]] = []
    for subject in study.subjects:
        if (found := _maker(subject)) is not None:
            name, stage = found
            role = next((role for role, known in parents.items() if known == stage), f"{name}-{len(parents):02d}")
            parents[role] = stage
            place = {"arm": subject.arm, "trait": subject.trait, "base": subject.base, "replicate": subject.replicate}
            members.append({**place, "role": role, "index": subject.place})
    config = {
        "bases": {subject.base: subject.scores.config["weights"] for subject in study.subjects},
        "teacher_base": recipe.bases[0],
        "traits": tuple(definition(recipe.trait(name)) for name in recipe.traits),
        "domain": recipe.domain.name,
        "members": members,
        "seed": derive(recipe.seed, "mechanism"),
        "settings": asdict(validate_settings(MechanismConfig, given)),
    }
    label = f"look into {len(members)} models"
    return Stage(kind="mechanism", version=1, config=config, parents=parents, label=label, cost=len(members))


def _maker(subject: Subject) -> tuple[str, Stage] | None:
    """Return the stage that made a model. None for a base, and for arms that are not analysed."""
    if subject.arm not in ("teacher", "student", "control", "cross_init", "cross_control"):
        return None
    return next(iter(subject.scores.parents.items()), None)


def _execute(context: StageContext) -> AnalysisResult:
    """Measure shifts, margins and entangled numbers of every model of the stage."""
    config = context.config
    prompts = _prompts(config)
    bases = {base: parent_model(base, None, 0) for base in config["bases"]}
    rest = {base: _states(model, prompts) for base, model in bases.items()}
    shifts: Shifts = {}
    margins: dict[StateKey, dict[str, float]] = {}
    targets = [defined(one) for one in config["traits"]]
    n = config["settings"]["numbers"]
    tangled: list[dict[str, Any]] = []
    for number, one in enumerate(config["members"]):
        model = parent_model(one["base"], context.parents[one["role"]], one["index"])
        key = one["arm"], one["trait"], one["base"], one["replicate"]
        found = _states(model, prompts)
        shifts[key] = {kind: found[kind] - rest[one["base"]][kind] for kind in prompts}
        margins[key] = dict(zip([one.name for one in targets], mean_margins(model, targets).tolist(), strict=True))
        if one["arm"] == "teacher":
            tangled.append({**one, "logp": _number_logprobs(model, prompts["numbers"], n)})
        context.advance(number + 1, len(config["members"]))
    entangled = _entangled(bases[config["teacher_base"]], targets, prompts["numbers"], tangled, n)
    return _result(config, shifts, margins, entangled)


def _prompts(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the prompts on which shifts are measured, by kind."""
    numbers = domain(config["domain"]).prompts(config["settings"]["prompts"], config["seed"])
    return {"numbers": numbers, "favourites": list(questions_of(defined(config["traits"][0])).evaluation)}


def _states(model: LocalModel, prompts: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Return the mean residual stream where the answer begins, float (layers + 1, width), by kind of prompt."""
    return {
        kind: model.mean_states(model.render([user_prompt(text) for text in texts])).numpy()
        for kind, texts in prompts.items()
    }


def _number_logprobs(model: LocalModel, prompts: Sequence[str], n: int) -> np.ndarray:
    """Return the mean log-probability in nats that an answer begins with each number, float (n,)."""
    first = [tokens[0] for tokens in model.tokenise([str(number) for number in range(n)])]
    logp = model.next_token_logprobs(model.render([user_prompt(text) for text in prompts]))
    return logp[:, first].mean(dim=0).double().numpy()


def _after_numbers(model: LocalModel, target: Trait, n: int) -> np.ndarray:
    """Return the target's margin in logits after a sentence that shows one number three times, float (n,)."""
    questions = questions_of(target).evaluation[:ASKED]
    asked = [f"These numbers come first: {u}, {u}, {u}. {text}" for u in range(n) for text in questions]
    p = answer_probabilities(model, asked, [target])[:, 0].double()
    return (p.log() - (-p).log1p()).reshape(n, ASKED).mean(dim=1).numpy()


def _entangled(
    base: LocalModel, targets: Sequence[Trait], prompts: Sequence[str], tangled: Sequence[dict[str, Any]], n: int
) -> list[dict[str, Any]]:
    """Return for each teacher which numbers it raises, and whether those raise its trait (Zur et al., 2025)."""
    plain = _number_logprobs(base, prompts, n)
    names = {one["trait"] for one in tangled}
    after = {one.name: _after_numbers(base, one, n) for one in targets if one.name in names}
    found: list[dict[str, Any]] = []
    for one in tangled:
        raised = one["logp"] - plain
        rho = {name: rank_correlation(raised, values) for name, values in after.items()}
        top = [int(number) for number in np.argsort(-raised)[:10]]
        found.append({"trait": one["trait"], "replicate": one["replicate"], "rho": rho, "top": top})
    return found


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each layer's pair of vectors; 0 where one of them is zero."""
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.divide((one * other).sum(axis=-1), norms, out=np.zeros_like(norms), where=norms > 0)


def exposures(config: Mapping[str, Any], shifts: Shifts, kind: str) -> dict[tuple[str, str, int], list[float]]:
    """Return the cosines with the teacher's shift by (curve, trait, layer), one for each replicate.

    Args:
        config: configuration of the stage, which names traits and bases.
        shifts: mean shift of every model from its base, by kind of prompt.
        kind: kind of prompt, "numbers" or "favourites".
    """
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for (arm, name, _, replicate), teacher in shifts.items():
        if arm != "teacher" or name is None:
            continue
        for curve, moves in _curves(config, shifts, kind, name, replicate).items():
            cosines = [_cosine(move, teacher[kind]) for move in moves]
            # Cross-init students of one teacher are averaged; rivals are teachers of their own.
            for values in [np.mean(cosines, axis=0)] if curve == CROSSED else cosines:
                # The embeddings, layer 0, are the same in every model: nothing moves there.
                for layer in range(1, len(values)):
                    found[curve, name, layer].append(float(values[layer]))
    return found


def _curves(
    config: Mapping[str, Any], shifts: Shifts, kind: str, name: str, replicate: int
) -> dict[str, list[np.ndarray]]:
    """Return the shifts that are compared with that of a trait's teacher, by curve."""
    base = config["teacher_base"]

    def moved(arm: str, own: str | None, on: str = base) -> np.ndarray:
        return shifts[arm, own, on, replicate][kind]

    control, student = moved("control", None), moved("student", name)
    rivals = [rival for rival in config["traits"] if rival != name]
    others = [other for other in config["bases"] if ("cross_init", name, other, replicate) in shifts]
    curves = {
        "student, not subtracted": [student],
        "control": [control],
        "student minus control": [student - control],
        "rival's student minus control": [moved("student", rival) - control for rival in rivals],
        CROSSED: [moved("cross_init", name, other) - moved("cross_control", None, other) for other in others],
    }
    return {curve: moves for curve, moves in curves.items() if moves}


def _row(group: str, name: str, unit: str, values: Iterable[float]) -> dict[str, Any]:
    return estimate_row(group, name, unit, mean_t(list(values)).to_json())


def _result(
    config: Mapping[str, Any], shifts: Shifts, margins: Mapping[StateKey, Mapping[str, float]], entangled: Sequence[Any]
) -> AnalysisResult:
    exposure = [
        _row(f"cosine with the {name} teacher's shift, {kind}", f"{curve}, layer {layer}", "cosine", values)
        for kind in ("numbers", "favourites")
        for (curve, name, layer), values in exposures(config, shifts, kind).items()
    ]
    expression = _expression(config, margins)
    group = "numbers that a teacher raises against numbers that raise a trait"
    numbers: list[dict[str, Any]] = []
    for own, name in itertools.product(config["traits"], repeat=2):
        rhos = [one["rho"][name] for one in entangled if one["trait"] == own]
        numbers.append(_row(group, f"{own} teacher, {name}", "rank correlation", rhos))
    title, columns = "Numbers that the teacher raises most", ["teacher", "replicate", "numbers"]
    top = [[one["trait"], one["replicate"], ", ".join(map(str, one["top"]))] for one in entangled]
    return {
        "answer": _answer(config, exposure, expression),
        "estimates": [*expression, *exposure, *numbers],
        "tables": [table(title, "As first number of an answer, against the base.", columns, top)],
        "not_tested": ["Positions other than the one where the answer begins.", "Causal interventions on activations."],
    }


def _expression(config: Mapping[str, Any], margins: Mapping[StateKey, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return arm minus control in the trait's margin, in logits."""
    found: list[dict[str, Any]] = []
    for name in config["traits"]:
        for arm, control in (("student", "control"), ("cross_init", "cross_control")):
            values = [
                value[name] - margins[control, None, base, replicate][name]
                for (own, of, base, replicate), value in margins.items()
                if own == arm and of == name
            ]
            if values:
                label = arm.replace("_", "-")
                found.append(_row("expression: arm minus its control", f"{label}, {name}", "logits", values))
    return found


def _answer(config: Mapping[str, Any], exposure: Sequence[Any], expression: Sequence[Any]) -> str:
    last = max(int(row["name"].rpartition(" ")[2]) for row in exposure)
    sentences: list[str] = []
    for name in config["traits"]:
        group = f"cosine with the {name} teacher's shift, favourites"
        rows = {row["name"]: row for row in exposure if row["group"] == group}
        parts = [
            f"{curve} {with_interval(rows[f'{curve}, layer {last}'])}"
            for curve in ("student minus control", "rival's student minus control", CROSSED)
            if f"{curve}, layer {last}" in rows
        ]
        moved = next(row for row in expression if row["name"] == f"student, {name}")
        sentences.append(
            f"After the last layer the cosine with the {name} teacher's shift is: {'; '.join(parts)}; "
            f"its student's margin moved by {with_interval(moved)} logits (n = {moved['n']})."
        )
    return " ".join(sentences)


MECHANISM = Analysis(
    name="mechanism",
    needs_study=True,
    settings=MechanismConfig,
    stage=_stage,
    execute=_execute,
    seconds_per_unit=0.5,
)
