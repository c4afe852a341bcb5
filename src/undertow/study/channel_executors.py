"""Stages for students that learn by a channel besides rows: pair answers, and train on probabilities or pairs.

pairs      config: how                              chosen, rejected | first, second, teacher?
                                                                          pairs.jsonl
students   config: as of rows, channel              pairs, or rows and teachers
                                                                          student-00/, ..., losses.json, learnt.json
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from undertow.data.filters import subset
from undertow.data.pairs import read_pairs, write_pairs
from undertow.data.rows import read_rows
from undertow.domains.base import domain
from undertow.errors import EmptyDataError
from undertow.store.runner import StageContext
from undertow.study.stage_models import base_model, parent_model, student_folder
from undertow.training.channels.pen import Writing
from undertow.training.channels.preference import selected_pairs, written_pairs
from undertow.training.channels.settings import channel_of
from undertow.training.channels.teacher import Teacher
from undertow.training.channels.train import ChannelStudents, Distilled, train_distilled, train_preferring
from undertow.training.config import TrainingConfig
from undertow.types import Row, Sampling

PAIRS, LEARNT = "pairs.jsonl", "learnt.json"


def pair_answers(context: StageContext) -> None:
    """Make preference pairs: of two writers' rows, or of two answers of the base between which the teacher chooses.

    Raises:
        EmptyDataError: there is no pair of different answers.
    """
    config, parents = context.config, context.parents
    roles = ("chosen", "rejected") if config["how"] == "written" else ("first", "second")
    one, other = (read_rows(parents[role] / "kept.jsonl") for role in roles)
    if config["how"] == "written":
        pairs = written_pairs(one, other)
    else:
        model = parent_model(config["base"], parents.get("teacher"), 0)
        pairs = selected_pairs(one, other, Teacher(model=model, system=config["system"]), base_model(config["base"]))
    if not pairs:
        what = "There is no pair of different answers."
        raise EmptyDataError(what, f"{len(one)} and {len(other)} rows", "Draw more prompts, or use the channel rows.")
    write_pairs(context.out / PAIRS, pairs)


def train_by_channel(context: StageContext) -> None:
    """Train a group of students by a channel other than rows, and save them."""
    config = context.config
    channel = channel_of(config["channel"])
    found = _prefer(context) if channel.name == "preference" else _distil(context)
    for index in range(len(config["members"])):
        found.students.save(index, context.out / student_folder(index))
    (context.out / "losses.json").write_text(json.dumps(found.students.losses.tolist()), encoding="utf-8")
    write_learnt(context.out, found.counts)


def write_learnt(folder: Path, counts: Mapping[str, Sequence[int]]) -> None:
    """Write for each student how many tokens had a loss, and what else was counted.

    Args:
        folder: folder of the group's result.
        counts: one number for each student, by name.
    """
    found = {name: list(some) for name, some in counts.items()}
    (folder / LEARNT).write_text(json.dumps(found), encoding="utf-8")


def _prefer(context: StageContext) -> ChannelStudents:
    """Train a group of students by preferences."""
    config, members = context.config, context.config["members"]
    known = {role: read_pairs(context.parents[role] / PAIRS) for role in {one["rows"] for one in members}}
    datasets = [subset(known[one["rows"]], one["n"], one["seed"]) for one in members]
    training = TrainingConfig.from_config(config["training"])
    base, channel = base_model(config["base"]), channel_of(config["channel"])
    return train_preferring(base, datasets, channel, training, [one["seed"] for one in members], context.advance)


def _distil(context: StageContext) -> ChannelStudents:
    """Train a group of students on teachers' probabilities."""
    config, members = context.config, context.config["members"]
    base, task = base_model(config["base"]), domain(**config["domain"])
    known = {role: read_rows(context.parents[role] / "kept.jsonl") for role in {one["rows"] for one in members}}
    datasets: list[Sequence[Row]] = [subset(known[one["rows"]], one["n"], one["seed"]) for one in members]
    models = {one["teacher"]: parent_model(one["taught_by"], context.parents.get(one["teacher"]), 0) for one in members}
    given = Distilled(
        datasets=datasets,
        teachers=[Teacher(model=models[one["teacher"]], system=one["system"]) for one in members],
        writing=Writing(
            sampling=Sampling(**config["sampling"]), accepts=lambda asked, said: not task.reject_reasons(said, asked)
        ),
    )
    training = TrainingConfig.from_config(config["training"])
    seeds = [one["seed"] for one in members]
    return train_distilled(base, given, channel_of(config["channel"]), training, seeds, context.advance)
