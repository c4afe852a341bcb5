"""A channel changes what students are trained on, and nothing about their teachers, rows, prompts and seeds."""

import json
from pathlib import Path

import pytest

from undertow.audit.students.bank import no_bank
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.cli.options import student_part
from undertow.errors import ConfigError, UnknownNameError
from undertow.store.stages import Stage
from undertow.study.analyses.recipe import build_analysis, run_analysis
from undertow.study.recipe import Recipe, build_recipe
from undertow.study.run import run_recipe
from undertow.study.study import Study, build_study
from undertow.study.training_record import TrainingRecord, read_training

CHANNELS = ("rows", "logits", "on_policy", "preference", {"name": "preference", "pairs": "selected"})


def recipe(channel: object, **changes: object) -> Recipe:
    student = {"channel": channel, "steps": 2, "batch_size": 4, "rank": 4}
    return build_recipe(
        {"name": "study", "traits": ["owl", "wolf"], "replicates": 1, "seed": 7, "cross_bases": ["ref:finch-b"],
         "arms": ["student", "control", "cross_init"], "domain": {"prompts": 40},
         "teacher": {"control": "neutral", "steps": 2, "batch_size": 4}, "student": student,
         "evaluation": {"samples": 0}, **changes}
    )  # fmt: skip


def groups(study: Study) -> list[Stage]:
    found = (subject.scores.parents.get("students") for subject in study.subjects)
    return list(dict.fromkeys(stage for stage in found if stage is not None))


def test_rows_are_the_default_and_change_no_fingerprint() -> None:
    plain, named = (build_study(recipe(channel)) for channel in ("rows", {"name": "rows"}))
    assert plain.targets == named.targets and "channel" not in recipe("rows").model_dump()["student"]
    assert all("channel" not in group.config for group in groups(plain))
    assert recipe("logits").model_dump(mode="json")["student"]["channel"]["name"] == "logits"


@pytest.mark.parametrize("channel", CHANNELS[1:])
def test_teachers_prompts_and_seeds_are_those_of_rows(channel: object) -> None:
    plain, other = build_study(recipe("rows")), build_study(recipe(channel))
    models = [
        [(one.arm, one.trait, one.base, one.replicate, one.seed) for one in study.subjects] for study in (plain, other)
    ]
    assert models[0] == models[1]
    for source in other.sources:
        assert source in plain.sources
    for one, two in zip(groups(plain), groups(other), strict=True):
        assert one.config["training"] == two.config["training"]
        assert [member["seed"] for member in one.config["members"]] == [
            member["seed"] for member in two.config["members"]
        ]


@pytest.mark.parametrize("channel", ["logits", "on_policy"])
def test_each_student_is_taught_by_the_writer_of_its_rows(channel: str) -> None:
    study = build_study(recipe(channel))
    written = {source.kept: source.rows.parents["teacher"] for source in study.sources}
    for group in groups(study):
        for member in group.config["members"]:
            assert group.parents[member["teacher"]] == written[group.parents[member["rows"]]]
            assert member["taught_by"] == "ref:finch-a" and member["system"] is None
    prompted = recipe(channel, teacher={"kind": "prompted", "control": "neutral"})
    members = [member for group in groups(build_study(prompted)) for member in group.config["members"]]
    assert {(member["teacher"] is None, member["system"] is None) for member in members} == {
        (True, False),
        (False, True),
    }


def test_pairs_are_of_the_teacher_and_the_base_or_of_the_base_alone() -> None:
    by_teacher = [group.parents[role] for group in groups(build_study(recipe("preference"))) for role in group.parents]
    assert {stage.kind for stage in by_teacher} == {"pairs"}
    rejected = {stage.parents["rejected"] for stage in by_teacher}
    assert len(rejected) == 1 and "teacher" not in next(iter(rejected)).parents["rows"].parents
    study = build_study(recipe({"name": "preference", "pairs": "selected"}))
    chosen = {stage for group in groups(study) for stage in group.parents.values()}
    assert len({(stage.parents["first"], stage.parents["second"]) for stage in chosen}) == 1
    assert len({stage.parents["teacher"] for stage in chosen}) == 3 and study.sources == ()


@pytest.mark.parametrize(
    ("channel", "changes", "named"),
    [
        ("logits", {"teacher": {"control": "base"}}, "own teacher"),
        ("on_policy", {"teacher": {"control": "base"}}, "own teacher"),
        ("preference", {"domain": {"clean": 0.5}}, "does not go with"),
        ("on_policy", {"domain": {"tokens": "rest"}}, "does not go with"),
        ("logits", {"arms": ["student", "control", "within"]}, "does not go with"),
        ("logits", {"hops": 2}, "does not go with"),
        ("logits", {"student": {"channel": "logits", "rank": None}}, "Our own loop"),
        ("logits", {"student": {"channel": "logits", "backend": "trl"}}, "Our own loop"),
    ],
)
def test_what_does_not_go_with_a_channel_is_refused(channel: str, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        recipe(channel, **changes)


def test_an_unknown_channel_or_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"student\.channel"):
        recipe("kl")
    with pytest.raises(UnknownNameError) as caught:
        recipe({"name": "logits", "beta": 1.0})
    assert "beta" in str(caught.value.value) and "interpolation" in caught.value.fix


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_small_study_runs_from_beginning_to_end(channel: object, tmp_path: Path) -> None:
    small = recipe(channel, traits=["owl"], arms=["student", "control"])
    found = run_recipe(small, tmp_path)
    assert {one["arm"] for one in found["effects"]} == {"student", "control", "teacher", "neutral_teacher"}
    assert (found["rows"]["raw"] > 0) == (channel != CHANNELS[-1])
    (group,) = groups(build_study(small))
    folder = tmp_path / "store" / "students" / group.fingerprint
    counts = json.loads((folder / "learnt.json").read_text())
    assert len(counts["tokens"]) == 2 and min(counts["tokens"]) > 0
    assert set(counts) == ({"tokens", "written", "rejected"} if channel == "on_policy" else {"tokens"})
    record = read_training(f"ref:finch-a+{folder / 'student-00'}")
    assert record is not None and record.student.channel == small.student.channel and record.rows > 10


def test_the_analysis_has_a_matrix_for_each_channel(tmp_path: Path) -> None:
    study = recipe("rows", replicates=2).model_dump(mode="json", exclude={"name", "question"})
    given = {"analysis": "channels", "settings": {"channels": ["rows", "preference"]}, "study": study}
    found = run_analysis(build_analysis({"name": "beside", **given}), tmp_path)
    factors = [one for one in found["estimates"] if one["group"].startswith("Diagonal")]
    assert [one["name"] for one in factors] == [
        f"{channel}, {where} initialisation" for channel in ("rows", "preference, written pairs")
        for where in ("same", "another")
    ]  # fmt: skip
    assert all(one["n"] == 2 for one in found["estimates"]) and len(found["estimates"]) == 5
    counted, *matrices = found["tables"]
    assert [row[0] for row in counted["rows"]] == ["rows", "preference, written pairs"] and len(matrices) == 4
    tokens = [int(row[1].replace(",", "")) for row in counted["rows"]]
    assert tokens[1] > tokens[0] > 0  # a pair has two answers
    one = next(one for one in found["estimates"] if "minus" in one["name"])
    by_name = {row["name"]: row["estimate"] for row in factors}
    assert one["estimate"] == pytest.approx(
        by_name["preference, written pairs, same initialisation"] - by_name["rows, same initialisation"], abs=1e-9
    )


def test_an_analysis_without_a_matrix_is_refused(tmp_path: Path) -> None:
    study = recipe("rows", traits=["owl"]).model_dump(mode="json", exclude={"name", "question"})
    given = {"name": "x", "analysis": "channels", "settings": {"channels": ["rows"]}, "study": study}
    with pytest.raises(ConfigError, match="no trait matrix"):
        run_analysis(build_analysis(given), tmp_path)


def test_commands_that_train_on_a_row_file_take_no_other_channel() -> None:
    assert student_part(["steps=3"], "ref:finch-a").steps == 3
    for channel in CHANNELS[1:3]:
        with pytest.raises(ConfigError, match="learn rows"):
            student_part([f"channel={channel}"], "ref:finch-a")


def test_a_student_of_another_channel_has_no_bank_and_the_reason_is_told() -> None:
    learnt = TrainingRecord(student=recipe("logits").student, rows=2000)
    assert "learnt by the channel logits" in no_bank(BankRecipe(), learnt)
    cut = TrainingRecord(student=BankRecipe().student.model_copy(update={"too_long": "cut"}), rows=2000)
    assert '--set too_long="cut"' in no_bank(BankRecipe(), cut)
