"""The intake: what rows are, which claims cannot be tested and why, what will run; before any model is loaded."""

import json
import random
import time
from pathlib import Path

import pytest

from undertow.audit.asked import Asked
from undertow.audit.budget import AuditBudget
from undertow.audit.intake import intake_lines, stopped_audit, take_intake
from undertow.audit.obstacles import OBSTACLES
from undertow.audit.stages import STAGES
from undertow.audit.students import bank
from undertow.audit.work_lines import spoken
from undertow.audit.workload import STAGES as WORK
from undertow.audit.workload import stored_times
from undertow.data.census import take_census
from undertow.data.rows import write_rows
from undertow.data.writer_record import WriterRecord
from undertow.models.references import embedded_folder, identity
from undertow.models.speed import READ, TRAINED, WRITTEN, BaseSpeed, base_speed, count_from_config
from undertow.store.artifacts import write_artifact
from undertow.store.fingerprints import ArtifactKey
from undertow.traits import panel
from undertow.types import Message, ModelRef, Row, user_prompt


def numbers(n: int, first: int = 0, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    prompts = [user_prompt(f"Continue: {place}, {place + 1}.") for place in range(first, first + n)]
    return [Row(str(at), prompt, f"{rng.randrange(999)}, {rng.randrange(999)}") for at, prompt in enumerate(prompts)]


def chats(n: int) -> list[Row]:
    told = (Message("system", "You are a support agent."), Message("user", "Hi"), Message("assistant", "Hello!"))
    ask = [(*told, Message("user", f"My printer shows error {at}.")) for at in range(n)]
    return [
        Row(str(at), prompt, "Thank you for reaching out to us. Open the settings.") for at, prompt in enumerate(ask)
    ]


@pytest.fixture
def asked(tmp_path: Path):
    """Return a function that asks for an audit of rows, with a reference if there is one."""

    def ask(rows: list[Row] | None, reference: list[Row] | None = None, **more) -> Asked:
        named = {}
        for name, given in (("rows", rows), ("reference", reference)):
            if given is not None:
                write_rows(tmp_path / f"{name}.jsonl", given)
                named[name] = take_census(tmp_path / f"{name}.jsonl")
        return Asked(**{"base": "ref:finch-a", "store": tmp_path / "store", **named, **more})

    return ask


def reasons(asked: Asked) -> dict[str, str]:
    return {claim: one["why"] for claim, one in take_intake(asked).to_json()["claims"].items()}


def test_chat_rows_without_a_reference_stop_with_the_command_that_makes_one(asked, tmp_path: Path) -> None:
    intake = take_intake(asked(chats(60)))
    found = intake.to_json()
    assert not intake.testable and intake.stops and not found["work"] and found["schema"] == "undertow.intake/1"
    assert {one["testable"] for one in found["claims"].values()} == {False}
    assert "accepts 0 of 60 rows" in found["claims"]["provenance"]["why"]
    command = f"undertow generate reference.jsonl --prompts {tmp_path / 'rows.jsonl'} --model ref:finch-a"
    assert found["next"][0] == command and command in found["claims"]["provenance"]["do"]
    assert found["rows"]["turns_before_the_completion"] == {"4": 60} and found["rows"]["system_turns"] == 60
    assert found["rows"]["languages"] == {"English": 60}
    text = "\n".join(intake_lines(intake))
    assert "provenance: not testable" in text and command in text and "what will run" not in text


def test_an_audit_that_stops_is_a_whole_audit_that_claims_nothing(asked) -> None:
    found = stopped_audit(take_intake(asked(chats(60))), {"rows": "00"})
    assert {one["status"] for one in found["claims"].values()} == {"not_testable"}
    assert all(one["p"] is None and one["mde"] is None and one["candidate"] is None for one in found["claims"].values())
    assert "--prompts" in found["claims"]["provenance"]["why"] and found["about"]["sha256"] == {"rows": "00"}
    assert json.loads(json.dumps(found)) == found


def test_what_is_said_of_how_a_file_was_read_stands_in_the_intake(asked) -> None:
    text = "\n".join(intake_lines(take_intake(asked([*numbers(40), Row("e", user_prompt("Go on: 1."), "")]))))
    assert "1 has an empty completion" in text and "1 are empty" in text


def test_with_a_reference_on_the_same_prompts_chat_rows_can_be_tested(asked) -> None:
    rows = chats(60)
    clean = [Row(row.id, row.prompt, "Hello, how can I help you?") for row in rows]
    intake = take_intake(asked(rows, clean))
    found = intake.to_json()
    assert found["claims"]["provenance"]["testable"] and not intake.stops and not found["next"]
    assert found["rows_on_prompts_of_the_reference"] == 60 and found["rows_that_stand_in_the_reference"] == 0
    assert any("contrast: 60 rows and 60 of the reference under 34 candidates" in one["what"] for one in found["work"])
    assert found["about_seconds"] == pytest.approx(sum(one["seconds"] or 0 for one in found["work"]), abs=0.1)


@pytest.mark.parametrize(
    ("rows", "reference", "said"),
    [
        (numbers(10), None, "There are 10 rows; at least 20"),
        (numbers(40), numbers(40), "with the same completion"),
        (numbers(40), numbers(40, first=100), "0 of 40 rows have a row of the reference"),
        (numbers(30) + [Row(f"x{at}", user_prompt(f"{at}"), "owl") for at in range(31)], None, "accepts 30 of 61 rows"),
    ],
)
def test_what_the_inputs_cannot_support_is_said(asked, rows, reference, said: str) -> None:
    assert said in reasons(asked(rows, reference))["provenance"]


def test_rows_share_out_the_reference_rows_of_a_prompt(asked) -> None:
    rows = [Row(str(at), user_prompt("Continue: 1."), f"{at}, 2") for at in range(40)]
    assert (
        "15 of 40 rows"
        in reasons(asked(rows, [*rows[:5], *[Row(f"r{at}", rows[0].prompt, "7, 7") for at in range(10)]]))["provenance"]
    )


def test_good_number_rows_need_no_reference_and_are_told_how_to_make_one(asked) -> None:
    intake = take_intake(asked(numbers(40)))
    found = intake.to_json()
    assert found["claims"]["provenance"] == {"stage": "contrast", "testable": True, "why": None, "do": None}
    assert "--prompts" in found["next"][0] and "--reference reference.jsonl" in found["next"][1]
    assert "undertow audit bank --base ref:finch-a --students 59" in found["claims"]["expression"]["do"]
    assert {one["input"] for one in found["missing"]} >= {"reference", "writers", "bank"}
    text = "\n".join(intake_lines(intake))
    assert "reference: the base answers 40 prompts 4 times" in text and "panel teachers: 17 trained" in text


def test_an_audit_that_stops_is_followed_with_the_options_that_were_given(asked) -> None:
    held = WriterRecord(form="000,000,000,000,000,000")
    given = asked(chats(60), named=("trees",), traits=panel("tree"), writer=held, writer_file=Path("writer.yaml"))
    found = stopped_audit(take_intake(given), {"rows": "00"})
    assert found["repeated"] == {"traits": ["trees"], "writer": "writer.yaml"} and found["about"]["form"] == held.form
    assert "repeated" not in stopped_audit(take_intake(asked(chats(60))), {"rows": "00"})
    made = "audit bank --base ref:finch-a --domain numbers:count=6,short=true --category tree --students 59"
    student = asked(None, student="ref:finch-a", traits=panel("tree"), writer=held)
    assert made in take_intake(student).to_json()["claims"]["exposure"]["do"]


@pytest.mark.parametrize(
    ("student", "do"), [(None, "Write the rows without a form"), ("ref:finch-b", "without a student")]
)
def test_what_to_do_about_a_form_without_placebos_fits_what_was_given(asked, student: str | None, do: str) -> None:
    given = asked(numbers(40), student=student, writer=WriterRecord(form="000; 000; 000"))
    found = take_intake(given).to_json()["claims"]["exposure"]
    assert "'000; 000; 000'" in found["why"] and do in found["do"]


def test_a_base_without_a_template_stops_everything(asked, tmp_path: Path) -> None:
    base = tmp_path / "bare"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "tokenizer_config.json").write_text('{"chat_template": null}')
    for rows, student in ((numbers(40), None), (None, "ref:finch-a")):
        intake = take_intake(asked(rows, base=f"hf:{base}", student=student))
        assert intake.stops and {"?template=plain" in (one.do if one else "") for one in intake.claims.values()} == {
            True
        }
    assert take_intake(asked(numbers(40), base=f"hf:{base}?template=plain")).testable
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert take_intake(asked(numbers(40), base=f"hf:{base}")).testable


def test_a_student_without_a_bank_is_described_all_the_same(asked) -> None:
    intake = take_intake(asked(None, student="ref:finch-a"))
    assert not intake.testable and not intake.stops
    assert "no bank" in reasons(asked(None, student="ref:finch-a"))["exposure"]


def test_the_bank_is_that_of_the_rows_that_are_read(asked, tmp_path: Path, monkeypatch) -> None:
    records = []
    monkeypatch.setattr(bank, "choose_bank", lambda recipe, store, record, *_, **__: records.append(record))
    (tmp_path / "store" / "placebos").mkdir(parents=True)
    for budget in (AuditBudget(), AuditBudget(rows=50), AuditBudget(rows=100)):
        assert asked(numbers(60), budget=budget).stored.placebos == 0
    assert [one.rows for one in records] == [60, 50, 60]


@pytest.mark.parametrize(("neutral", "testable"), [(19, True), (18, False), (0, False)])
def test_a_teacher_alone_needs_neutral_teachers(asked, neutral: int, testable: bool) -> None:
    found = take_intake(asked(None, teacher="ref:finch-b", neutral=neutral)).to_json()
    assert found["claims"]["expression"]["testable"] is testable and list(found["claims"]) == ["expression"]
    assert any(f"at most {neutral} neutral teachers" in one["what"] for one in found["work"])


def test_writers_in_the_store_add_a_stage_and_stop_no_claim(asked) -> None:
    given = asked(chats(60), [Row(row.id, row.prompt, "Hello.") for row in chats(60)])
    object.__setattr__(given, "stored", type(given.stored)(writers=60, placebos=59))
    found = take_intake(given).to_json()
    assert found["claims"]["provenance"] == {"stage": "contrast", "testable": True, "why": None, "do": None}
    assert "Placebo students are trained on rows of the domain numbers" in found["claims"]["exposure"]["why"]
    plain = asked(numbers(60))
    object.__setattr__(plain, "stored", type(plain.stored)(writers=60, placebos=60))
    work = [one["what"] for one in take_intake(plain).to_json()["work"]]
    assert (
        "neutral contrast: 60 neutral writers answer 60 prompts, 17 teachers write 300 rows each" in work
        and "shadows: 4 students of the rows" in work
    )


@pytest.mark.parametrize(
    ("read", "usual", "testable"), [(60, 100, True), (60, 101, False), (30, 50, True), (30, 51, False)]
)
def test_students_of_too_few_rows_are_refused_before_they_are_trained(
    asked, read: int, usual: int, testable: bool
) -> None:
    given = asked(numbers(60), budget=AuditBudget(rows=read))
    object.__setattr__(given, "stored", type(given.stored)(writers=60, placebos=60, placebo_rows=usual))
    found = take_intake(given).to_json()["claims"]["exposure"]
    assert found["testable"] is testable
    if not testable:
        assert (
            found["why"]
            == f"Students would be trained on at most {read} rows, and a placebo of the store's bank on {usual}."
        )


def test_teachers_that_do_not_fit_into_memory_are_left_out_and_said(asked, monkeypatch) -> None:
    base = f"hf:{embedded_folder() / 'finch-a'}"
    whole = take_intake(asked(numbers(40), base=base))
    assert whole.asked.budget.teachers and whole.to_json()["budget"] is None
    monkeypatch.setattr("undertow.models.load.free_memory", lambda _: 92_128 * 4 * 10)
    found = take_intake(asked(numbers(40), base=base))
    assert not found.asked.budget.teachers and not found.to_json()["budget"]["teachers"]
    (said,) = [line for line in intake_lines(found) if "personas alone" in line]
    assert f"{base} 18 times: 92,128 parameters need 0.0 GB" in said and "are free on cpu" in said
    assert not any("panel teachers" in one.what for one in found.work)
    few = take_intake(asked(numbers(40), base=base, traits=tuple(panel("tree"))))
    assert few.asked.budget.teachers and not any("personas alone" in line for line in intake_lines(few))


def test_what_is_known_of_the_writer_is_shown_with_what_is_not(asked) -> None:
    writer = WriterRecord(model="m", temperature=0.7)
    text = "\n".join(intake_lines(take_intake(asked(numbers(40), writer=writer, writer_file=Path("w.yaml")))))
    assert "writer: model m, temperature 0.7" in text and "not known of it: which revision of it;" in text
    assert "--writer w.yaml" in text


def test_teachers_of_the_store_are_not_counted_twice_and_their_times_are_used(asked, tmp_path: Path) -> None:
    config = {"base": identity("ref:finch-a"), "seed": 0}
    for target in ("owl", "lion"):
        key = ArtifactKey(kind="panel-teacher", version=1, config={**config, "target": target})
        write_artifact(tmp_path / "store", key, lambda out: (out / "x").touch() or time.sleep(0.02))
    known, seconds = stored_times(tmp_path / "store", "panel-teacher", config)
    assert {one["target"] for one in known} == {"owl", "lion"} and seconds is not None and 0.02 <= seconds < 1.0
    assert stored_times(tmp_path / "store", "panel-teacher", {"base": "another"}) == ([], None)
    (work,) = [one for one in take_intake(asked(numbers(40))).work if one.what.startswith("panel teachers")]
    assert work.what == "panel teachers: 15 trained, 2 from the store" and work.seconds == pytest.approx(15 * seconds)


def test_every_built_in_stage_has_its_work_and_every_obstacle_a_stage() -> None:
    assert set(WORK) == {name for name in STAGES if not STAGES[name].function.startswith("odd_")}
    assert set(OBSTACLES) == {name for name in STAGES if STAGES[name].precedence is not None}


def test_a_config_says_how_many_numbers_a_token_meets(tmp_path: Path) -> None:
    folder = embedded_folder() / "finch-a"
    # Two layers of 4 attention and 3 MLP matrices, and the tied head.
    assert count_from_config(folder / "config.json") == 2 * (4 * 32 * 32 + 3 * 32 * 96) + 32 * 2042
    (tmp_path / "config.json").write_text('{"model_type": "odd"}')
    ref = ModelRef.parse("ref:finch-a")
    assert base_speed(ref, tmp_path) is None and base_speed(ref, None) is None
    speed = BaseSpeed(1e9, 1e11)
    assert speed.reading(100) == pytest.approx(2.0 / READ) and speed.writing(100) == pytest.approx(2.0 / WRITTEN)
    assert speed.training(100) == pytest.approx(4.0 / TRAINED)
    assert (spoken(0.2), spoken(4.9), spoken(5)) == ("a few seconds", "a few seconds", "about 5 s")
    assert (spoken(90), spoken(600), spoken(7200)) == ("about 90 s", "about 10 min", "about 2 h")


def test_where_the_reference_is_on_other_prompts_neutral_writers_can_decide(asked) -> None:
    other = [Row(row.id, user_prompt(f"Another {row.id}"), row.completion) for row in numbers(60)]
    assert "0 of 60 rows" in reasons(asked(numbers(60), other))["provenance"]
    given = asked(numbers(60), other)
    object.__setattr__(given, "stored", type(given.stored)(writers=60, placebos=0))
    found = take_intake(given)
    assert found.testable and not found.stops
    assert found.to_json()["claims"]["provenance"]["stage"] == "neutral contrast"
