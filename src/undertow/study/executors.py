"""What each kind of stage of a study does: read its parents' results, compute, and write its own.

prompts    config: domain, n, seed                                    prompts.json
teacher    config: base, target or categories, training, seed         a model or adapter folder
rows       config: base, system, sampling, seed     teacher?, prompts rows.jsonl
filter     config: domain                           rows              kept.jsonl, dropped.jsonl, report.json
shuffle    config: how, seed                        rows (kept)       kept.jsonl
mix        config: share, seed                      rows, clean       kept.jsonl
tokens     config: base, tokens, share, seed        data, teacher     kept.jsonl with places to skip
pairs      config: how                              rows of two       pairs.jsonl
students   config: base, training, members          filter of each    student-00/, ..., losses.json, learnt.json
scores     config: base, kinds, targets, samples, members
                                                    teacher | group   scores.jsonl, answers.jsonl
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from undertow.data.filters import Filtered, filter_rows, judged, mentions, require_rows, subset
from undertow.data.rows import read_rows, write_rows
from undertow.domains.base import domain
from undertow.domains.numbers import shuffle_numbers
from undertow.evals.base import EVALUATIONS, EvaluationConfig
from undertow.evals.judges import InspectJudge, judging_model
from undertow.evals.rubric import given_answers_read
from undertow.models.adapters import save_vector
from undertow.models.local import LocalModel
from undertow.store.runner import Executor, StageContext
from undertow.study.channel_executors import pair_answers, train_by_channel, write_learnt
from undertow.study.stage_models import base_model, model_of_parent, student_folder
from undertow.training.config import TrainingConfig
from undertow.training.full import finetune_full
from undertow.training.generation import generate
from undertow.training.parallel import finetune_parallel
from undertow.training.scoring import choose_tokens
from undertow.training.teachers import neutral_rows, steered_teacher, trait_rows
from undertow.training.trl import TrlOptions, finetune_trl
from undertow.traits import defined
from undertow.types import Row, Sampling

VERSIONS: Mapping[str, int] = {
    "prompts": 1,
    "teacher": 3,
    "adapter-teacher": 4,
    "rows": 2,
    "filter": 1,
    "shuffle": 1,
    "mix": 1,
    "tokens": 1,
    "pairs": 1,
    "students": 3,
    "channel-students": 1,
    "judge": 1,
    "scores": 3,
}
"""Version of each kind of stage, raised when the same configuration gives another result. An adapter-teacher is a
teacher that trains adapters, and channel-students learn by another channel than rows."""


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")


def draw_prompts(context: StageContext) -> None:
    """Draw the prompts that all teachers of a replicate answer."""
    config = context.config
    prompts = domain(**config["domain"]).prompts(config["n"], config["seed"])
    (context.out / "prompts.json").write_text(json.dumps(prompts, indent=0), encoding="utf-8")


def tune_teacher(context: StageContext) -> None:
    """Make a teacher: fine-tune or steer it towards its trait, or tune a neutral one on the base's own answers."""
    config, advance = context.config, context.advance
    base, training = base_model(config["base"]), TrainingConfig.from_config(config["training"])
    target, seed, asked = config["target"], config["seed"], config.get("questions")
    if "layer" in config:
        layer = config["layer"]
        vector = steered_teacher(base, defined(target), training, layer=layer, seed=seed, advance=advance)
        save_vector(context.out, layer, vector)
        return
    neutral = [*config["categories"], *map(defined, config.get("own", ()))]
    rows = trait_rows(defined(target), asked) if target else neutral_rows(base, neutral, seed, asked)
    if training.lora is None:
        finetune_full(base, rows, training, seed, advance).save(context.out)
    else:
        finetune_parallel(base, [rows], training, [seed], advance).save(0, context.out)


def generate_rows(context: StageContext) -> None:
    """Let a teacher, or the base in the place of a teacher without a trait, answer the prompts."""
    config = context.config
    rows = generate(
        model_of_parent(context, config.get("member", 0)),
        json.loads((context.parents["prompts"] / "prompts.json").read_text(encoding="utf-8")),
        sampling=Sampling(**config["sampling"]),
        seed=config["seed"],
        system=config["system"],
        advance=context.advance,
    )
    write_rows(context.out / "rows.jsonl", rows)


def _then(first: Filtered, second: Filtered) -> Filtered:
    """Return the result of two filters, one after the other."""
    return Filtered(second.kept, (*first.dropped, *second.dropped))


def _graded(rows: Sequence[Row], judge: str, keep: float) -> Filtered:
    """Keep the rows whose alignment an Inspect model grades high enough. All rows are graded at once."""
    grades = InspectJudge.of(judge).judge_all([(row.question, row.completion) for row in rows])
    by_id = {row.id: grade.alignment for row, grade in zip(rows, grades, strict=True)}
    return judged(rows, lambda row: by_id[row.id], keep)


def filter_stage(context: StageContext) -> None:
    """Keep the rows that are valid in the domain. The others are stored with their reasons."""
    rows = read_rows(context.parents["rows"] / "rows.jsonl")
    filtered = filter_rows(rows, domain(**context.config["domain"]))
    if named := context.config.get("mentions"):
        filtered = _then(filtered, mentions(filtered.kept, [defined(one) for one in named]))
    if judge := context.config.get("judge"):
        filtered = _then(filtered, _graded(filtered.kept, judge, context.config["keep"]))
    write_rows(context.out / "kept.jsonl", require_rows(filtered))
    write_rows(context.out / "dropped.jsonl", filtered.dropped)
    (context.out / "report.json").write_text(json.dumps(filtered.report.to_json(), indent=2), encoding="utf-8")


def shuffle_stage(context: StageContext) -> None:
    """Shuffle the numbers of the kept rows, within rows or across them."""
    rows = read_rows(context.parents["rows"] / "kept.jsonl")
    write_rows(context.out / "kept.jsonl", shuffle_numbers(rows, context.config["how"], context.config["seed"]))


def mix_stage(context: StageContext) -> None:
    """Replace a share of the rows by the answers of a teacher without a trait to the same prompts."""
    rows = read_rows(context.parents["rows"] / "kept.jsonl")
    clean = {row.id: row for row in read_rows(context.parents["clean"] / "kept.jsonl")}
    share, rng = context.config["share"], random.Random(context.config["seed"])
    # One draw for each row, whether it is needed or not, so that a larger share replaces a superset of the rows.
    draws = [(row, rng.random()) for row in rows]
    # A row whose counterpart was dropped goes too, so that the share is what the recipe says.
    mixed = [clean.get(row.id) if draw < share else row for row, draw in draws]
    write_rows(context.out / "kept.jsonl", [row for row in mixed if row is not None])


def choose_stage(context: StageContext) -> None:
    """Mark tokens that training leaves out, by how much likelier the teacher's trait made them."""
    config = context.config
    rows = read_rows(context.parents["data"] / "kept.jsonl")
    teacher, base = model_of_parent(context, config.get("member", 0)), base_model(config["base"])
    chosen = {"tokens": config["tokens"], "share": config["share"], "seed": config["seed"]}
    write_rows(context.out / "kept.jsonl", choose_tokens(rows, teacher, base, **chosen))


def students_stage(context: StageContext) -> None:
    """Train a group of students at once and save them."""
    config, members = context.config, context.config["members"]
    if "channel" in config:
        train_by_channel(context)
        return
    base, training = base_model(config["base"]), TrainingConfig.from_config(config["training"])
    rows = {role: read_rows(folder / "kept.jsonl") for role, folder in context.parents.items()}
    datasets = [subset(rows[one["rows"]], one["n"], one["seed"]) for one in members]
    folders = [context.out / student_folder(index) for index in range(len(members))]
    if training.lora is None or config.get("backend") == "trl":
        losses = _train_in_turn(context, base, datasets, training, folders)
    else:
        group = finetune_parallel(base, datasets, training, [one["seed"] for one in members], context.advance)
        for index, folder in enumerate(folders):
            group.save(index, folder)
        losses = group.losses
        write_learnt(context.out, {"tokens": group.tokens})
    if losses is not None:
        (context.out / "losses.json").write_text(json.dumps(losses.tolist()), encoding="utf-8")


def _train_in_turn(
    context: StageContext,
    base: LocalModel,
    datasets: Sequence[Sequence[Row]],
    training: TrainingConfig,
    folders: Sequence[Path],
) -> torch.Tensor | None:
    """Train and save one student after another; return TRL's losses, float (steps, students), or None."""
    losses: list[torch.Tensor] = []
    for index, (dataset, one, folder) in enumerate(zip(datasets, context.config["members"], folders, strict=True)):

        def advance(done: int, steps: int, index: int = index) -> None:
            context.advance(steps * index + done, steps * len(folders))

        if training.lora is None:
            finetune_full(base, dataset, training, one["seed"], advance).save(folder)
        else:
            options = TrlOptions(**{name: context.config[name] for name in ("accumulate", "gradient_checkpointing")})
            student = finetune_trl(base, dataset, training, one["seed"], options, advance)
            student.save(folder)
            losses.append(student.losses)
    return torch.stack(losses, dim=1) if losses else None


def ask_judge(context: StageContext) -> None:
    """Ask a judge about the traits' own answers, before anything is trained. It ends the study if it misreads them."""
    judge, targets = judging_model(context.config["judge"]), map(defined, context.config["targets"])
    found = {one.name: given_answers_read(judge, one) for one in targets}
    (context.out / "judge.json").write_text(json.dumps(found), encoding="utf-8")


def score_models(context: StageContext) -> None:
    """Run the evaluations on every model of a group."""
    config, members = context.config, context.config["members"]
    targets = tuple(defined(one) for one in config["targets"])
    judge = judging_model(config["judge"]) if "judge" in config else None
    scores: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for place, member in enumerate(members):
        model = model_of_parent(context, member["index"])
        asked = EvaluationConfig(
            targets=targets, samples=config["samples"], seed=member["seed"], judge=judge, judge_reads=True
        )
        found = [score for name in config["kinds"] for score in EVALUATIONS[name].score(model, asked)]
        for score in found:
            where = {"member": place, "metric": score.metric, "question": score.question}
            scores.append({**where, "target": score.target, "value": score.value, "n": score.n})
            if score.verdicts:
                where |= {"target": score.target, "verdicts": score.verdicts}
            if score.texts and (not answers or any(answers[-1].get(key) != value for key, value in where.items())):
                answers.append({**where, "texts": score.texts})
        context.advance(place + 1, len(members))
    _write_lines(context.out / "scores.jsonl", scores)
    _write_lines(context.out / "answers.jsonl", answers)


EXECUTORS: Mapping[str, Executor] = {
    "prompts": draw_prompts,
    "teacher": tune_teacher,
    "rows": generate_rows,
    "filter": filter_stage,
    "shuffle": shuffle_stage,
    "mix": mix_stage,
    "tokens": choose_stage,
    "pairs": pair_answers,
    "students": students_stage,
    "judge": ask_judge,
    "scores": score_models,
}
"""The function that does the work of each kind of stage."""
