"""What making and running a benchmark is said to take."""

from dataclasses import replace

import pytest

from undertow.audit.benchmark.cases import Design
from undertow.audit.benchmark.detectors import Settings, _header, judged_before
from undertow.audit.benchmark.files import Benchmark
from undertow.audit.benchmark.workload import ASKED, OTHERS_ASKED, judging_work, making_work
from undertow.audit.benchmark.writers import ROUNDS
from undertow.audit.ranking_work import GRADIENT
from undertow.audit.workload import SCORE_S, STUDENT_S, TEACHER_S

SMALL = Design.quick("ref:finch-a", 0, 20)


def test_every_writer_is_counted_with_its_training_and_its_answers() -> None:
    trained, written = making_work(SMALL)
    # Five animals and two trees, two neutral and two harmless ones, two steered, two gated, two of other starts.
    assert trained.what == "17 of 40 writers trained"
    assert trained.seconds == pytest.approx(TEACHER_S * (5 + 2 + 2 + 2 * 1.5 + 2 + 2 * 2.0 + 2))
    answers = SMALL.prompts * (2 * ASKED["prompted"] + 2 * ASKED["steered"] + 36 * OTHERS_ASKED)
    assert written.what.startswith(f"{answers:,.0f} answers: 30 prompts") and written.seconds is not None


def test_of_an_unknown_base_the_most_is_said(tiny_model, tmp_path) -> None:
    tiny_model.save(tmp_path)
    _, written = making_work(replace(SMALL, base=f"hf:{tmp_path}"))
    assert written.what.startswith("at most ") and f"up to {ROUNDS} times" in written.what


def test_cases_that_are_judged_and_rows_that_are_known_take_nothing(bench: Benchmark, tmp_path) -> None:
    settings = Settings(store=tmp_path / "store")
    teachers, read, heard, gradients = judging_work(bench, settings)
    assert teachers.what == "panel teachers: 2 trained" and heard.what.startswith("1,200 answers")
    # Each of the ten cases has 40 rows of its own on the same 40 prompts, which 40 of the reference's rows are on.
    assert read.what.startswith("440 distinct rows") and read.seconds == pytest.approx(440 * 5 * SCORE_S)
    assert gradients.seconds == pytest.approx(10 * 80 * GRADIENT * SCORE_S)
    _, read, _, gradients = judging_work(bench, settings, judged=bench.ids[:9])
    assert read.what.startswith("80 distinct rows") and gradients.what == "80 gradients of rows in 1 cases"
    shadows = judging_work(bench, replace(settings, shadows=True))[-1]
    assert shadows.what == "40 shadow students" and shadows.seconds is not None and shadows.seconds >= 40 * STUDENT_S


def test_an_interrupted_run_tells_what_it_finished_with_the_same_settings(bench: Benchmark, tmp_path) -> None:
    settings = Settings(seed=3)
    assert not judged_before(bench, tmp_path, settings)
    lines = [_header(bench, settings), '["case-0001", {}]', '["case-0002", {}]', '["case-00']
    (tmp_path / ".unfinished.jsonl").write_text("\n".join(lines))
    assert judged_before(bench, tmp_path, settings) == {"case-0001", "case-0002"}
    assert not judged_before(bench, tmp_path, replace(settings, seed=4))
