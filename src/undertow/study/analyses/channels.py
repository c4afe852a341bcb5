"""The analysis `channels`: the same teachers and prompts through several channels, with a trait matrix for each.

The study is laid out once for each channel. Teachers, and rows where a channel needs them, are shared. The diagonal
factor of a channel (`undertow.stats.diagonal`) says how much more a student takes over of its own teacher's trait than
of other traits. Channels are compared within replicates, which share their teachers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from undertow.errors import ConfigError
from undertow.seeds import derive
from undertow.stats.diagonal import diagonal_factor
from undertow.stats.estimates import mean_t
from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, estimate_row, table, validate_settings
from undertow.study.arms import ARMS, MeanScore, main_metric, trait_matrices
from undertow.study.channel_executors import LEARNT
from undertow.study.recipe import Recipe
from undertow.study.results import subject_means
from undertow.study.study import Study, build_study
from undertow.training.channels.settings import Channel

MATRICES = {"student": "same initialisation", "cross_init": "another initialisation"}
"""The arms that have a matrix, and what they are called."""

WHO = ("arm", "trait", "base", "teacher_base", "replicate", "seed")
"""Fields that tell models apart."""

FACTOR, APART = "Diagonal factor, in logits", "Difference of the diagonal factors within replicates, in logits"
"""Titles of the groups of estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelComparison:
    """Settings of the analysis.

    Attributes:
        channels: the channels that are compared. Differences are taken from the first.
    """

    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = ()


def _stage(given: Mapping[str, Any], study: Study) -> Stage:
    """Return the stage that compares the channels. It depends on the scores and students of all of them."""
    recipe, channels = study.recipe, validate_settings(ChannelComparison, given).channels
    if len(recipe.traits) < 2 or not {"student", "control"} <= {*recipe.arms}:
        fix = "Give at least two traits and the arms student and control."
        raise ConfigError("This study has no trait matrix.", recipe.name, fix)
    parents: dict[str, Stage] = {}
    subjects: list[dict[str, Any]] = []
    for number, channel in enumerate(channels):
        for subject in build_study(_by(recipe, channel)).subjects:
            who = {name: getattr(subject, name) for name in WHO}
            group = subject.scores.parents.get("students")
            roles = {"scores": _role(parents, "scores", subject.scores)}
            if group is not None:
                roles["students"] = _role(parents, "students", group)
            subjects.append({"channel": number, **who, "place": subject.place, **roles})
    config = {
        "channels": [channel.model_dump(mode="json") for channel in channels],
        "traits": recipe.traits,
        "subjects": subjects,
        "seed": derive(recipe.seed, "permutations"),
    }
    label = f"compare {len(channels)} channels"
    return Stage(kind="channels", version=1, config=config, parents=parents, label=label, cost=len(channels))


def _by(recipe: Recipe, channel: Channel) -> Recipe:
    """Return the study with students of one channel."""
    plain = recipe.model_dump(mode="json")
    return Recipe.model_validate({**plain, "student": {**plain["student"], "channel": channel.model_dump(mode="json")}})


def _role(parents: dict[str, Stage], name: str, stage: Stage) -> str:
    """Return the role of a parent stage, and add the stage if it is new."""
    role = next((role for role, known in parents.items() if known == stage), f"{name}-{len(parents):03d}")
    parents[role] = stage
    return role


def _execute(context: StageContext) -> dict[str, Any]:
    """Compute matrices, their factors and what was counted, channel by channel."""
    config = context.config
    channels = [_channel(context, number) for number in range(len(config["channels"]))]
    return {"traits": list(config["traits"]), "channels": channels}


def _channel(context: StageContext, number: int) -> dict[str, Any]:
    """Compute the results of one channel."""
    config = context.config
    subjects = [one for one in config["subjects"] if one["channel"] == number]
    scores = [*_scores(subjects, context.parents)]
    metric = main_metric(score.metric for score in scores)
    traits, arms = config["traits"], {}
    for arm in MATRICES:
        matrices = trait_matrices([one for one in scores if one.metric == metric], traits, traits, metric, arm)
        if matrices is not None:
            arms[arm] = {
                "units": matrices.tolist(),
                "factor": diagonal_factor(matrices, np.random.default_rng(config["seed"])).to_json(),
            }
    return {
        "channel": config["channels"][number],
        "metric": metric,
        "arms": arms,
        "control": _moved(scores, metric, traits),
        "learnt": _learnt(subjects, context.parents),
    }


def _scores(subjects: Sequence[Mapping[str, Any]], folders: Mapping[str, Path]) -> Iterator[MeanScore]:
    means = {role: subject_means(folders[role]) for role in {one["scores"] for one in subjects}}
    for one in subjects:
        who = {name: one[name] for name in WHO}
        for (metric, target), value in means[one["scores"]][one["place"]].items():
            yield MeanScore(**who, model=one["base"], target=target, metric=metric, value=value)


def _moved(scores: Sequence[MeanScore], metric: str, traits: Sequence[str]) -> dict[str, Any] | None:
    """Return how far controls moved from the base, over replicates, as the mean over traits."""
    found = trait_matrices([one for one in scores if one.metric == metric], traits[:1], traits, metric, "control")
    return None if found is None else mean_t(found.mean(axis=(1, 2))).to_json()


def _learnt(subjects: Sequence[Mapping[str, Any]], folders: Mapping[str, Path]) -> dict[str, float]:
    """Return the mean of what was counted over students with a trait that share their teacher's base."""
    counts: dict[str, list[int]] = {}
    for one in subjects:
        if one["arm"] == "student" and (folders[one["students"]] / LEARNT).exists():
            found = json.loads((folders[one["students"]] / LEARNT).read_text(encoding="utf-8"))
            for name, some in found.items():
                counts.setdefault(name, []).append(some[one["place"]])
    return {name: float(np.mean(some)) for name, some in counts.items()}


def comparison_result(found: Mapping[str, Any]) -> AnalysisResult:
    """Turn what `_execute` found into the result of an analysis."""
    channels = found["channels"]
    estimates = [
        estimate_row(FACTOR, f"{channel_words(one['channel'])}, {MATRICES[arm]}", "logits", some["factor"])
        for one in channels
        for arm, some in one["arms"].items()
    ]
    return {
        "answer": _answer(channels),
        "estimates": [*estimates, *_differences(channels)],
        "tables": [_counts(channels), *[_matrix(one, arm, found["traits"]) for one in channels for arm in one["arms"]]],
        "not_tested": [
            "Other rates and numbers of updates for each channel: all had those of the recipe.",
            "Larger models, and channels that mix these.",
        ],
    }


def channel_words(channel: Mapping[str, Any]) -> str:
    """Name a channel with its settings."""
    name = channel["name"].replace("_", " ")
    if channel["name"] == "preference":
        return f"{name}, {channel['pairs']} pairs"
    if channel["name"] == "rows":
        return name
    share, top = channel["interpolation"], channel["top"]
    ends = {0.0: "KL(teacher, student)", 1.0: "KL(student, teacher)"}
    kind = ends.get(share, f"Jensen-Shannon {share:g}")
    return f"{name}, {kind}" if top is None else f"{name}, {kind}, top {top}"


def _factors(one: Mapping[str, Any]) -> np.ndarray:
    """Return the diagonal factor of each replicate, float (replicates,)."""
    return np.array([diagonal_factor([unit]).value for unit in one["arms"]["student"]["units"]])


def _differences(channels: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each channel's diagonal factor minus that of the first one."""
    first, *others = channels
    before = _factors(first)
    return [
        estimate_row(
            APART,
            f"{channel_words(one['channel'])} minus {channel_words(first['channel'])}",
            "logits",
            mean_t(_factors(one) - before).to_json(),
        )
        for one in others
    ]


def _answer(channels: Sequence[Mapping[str, Any]]) -> str:
    passed = [one for one in channels if one["arms"]["student"]["factor"]["low"] > 0.0]
    names = ", ".join(channel_words(one["channel"]) for one in passed) or "none"
    first = f"The teacher's own trait passed (interval above 0) by {len(passed)} of {len(channels)} channels: {names}."
    crossed = [one for one in channels if "cross_init" in one["arms"]]
    if not crossed:
        return first
    apart = [one for one in crossed if one["arms"]["cross_init"]["factor"]["low"] > 0.0]
    names = ", ".join(channel_words(one["channel"]) for one in apart) or "none"
    return f"{first}\nBetween initialisations it passed by {len(apart)} of {len(crossed)}: {names}."


def _counts(channels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        [
            channel_words(one["channel"]),
            *(_whole(one["learnt"].get(name)) for name in ("tokens", "written", "rejected")),
            _interval(one["control"]),
        ]
        for one in channels
    ]
    note = (
        "Means over the students of traited teachers: tokens with a loss over all updates and, on policy, completions "
        "that a student wrote and that the domain rejected. The control is compared with the untouched base."
    )
    columns = ["channel", "tokens", "written", "rejected", ARMS["control"].difference]
    return table("What was learnt", note, columns, rows)


def _whole(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    if found["n"] < 2:
        return f"{found['estimate']:+.2f}, no interval"
    return f"{found['estimate']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _matrix(one: Mapping[str, Any], arm: str, traits: Sequence[str]) -> dict[str, Any]:
    units = np.array(one["arms"][arm]["units"])
    title = f"{channel_words(one['channel'])}: {ARMS[arm].difference}, {MATRICES[arm]}"
    note = f"Rows: the teacher's trait; columns: the trait that is asked for. Means over n = {len(units)}, in logits."
    rows = [[trait, *(f"{value:+.2f}" for value in row)] for trait, row in zip(traits, units.mean(axis=0), strict=True)]
    return table(title, note, ["teacher", *traits], rows)


CHANNELS = Analysis(
    name="channels",
    needs_study=True,
    settings=ChannelComparison,
    stage=_stage,
    execute=_execute,
    present=comparison_result,
    seconds_per_unit=0.1,
)
