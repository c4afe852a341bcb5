"""How long making a benchmark, or running the audit's stages on one, takes: estimated before any model is loaded."""

from collections import Counter
from collections.abc import Container
from functools import cache

from undertow.audit.asked import Asked
from undertow.audit.benchmark.cases import CLEAN_ANSWERS, REFERENCE_ANSWERS, Design, planned_cases
from undertow.audit.benchmark.detectors import Settings
from undertow.audit.benchmark.files import Benchmark
from undertow.audit.benchmark.writers import ROUNDS, Writer, WriterKind
from undertow.audit.ranking_work import GRADIENT
from undertow.audit.rows.limits import SIGNED, SIGNED_OWN
from undertow.audit.workload import SHADOWS, TEACHER_S, Workload
from undertow.data.census import take_census
from undertow.domains.numbers import Numbers
from undertow.evals.forecast import COUNTED, Forecast
from undertow.evals.loads import Load
from undertow.study.recipe import TeacherPart
from undertow.training.teachers import trait_rows
from undertow.traits import trait
from undertow.types import Sampling, Work, known_sum, user_prompt

TRAINED: dict[WriterKind, float] = {"finetuned": 1.0, "neutral": 1.0, "harmless": 1.5, "steered": 1.0, "gated": 2.0}
"""Work of training each kind of teacher, in trainings of a favourite. Code is longer, and a gated teacher learns as
much again."""

ASKED = {"prompted": 4.0, "steered": 2.0}
OTHERS_ASKED = 1.15
"""How often an embedded writer is asked a prompt, on average. How often other writers give a valid answer is not known;
they are asked at most `ROUNDS` times."""


def making_work(design: Design) -> list[Work]:
    """Return what training the writers of a benchmark and letting them answer takes, in seconds.

    Raises:
        UserError: there is no such base.
    """
    planned = [one for one, _ in planned_cases(design) if one is not None and one.kind != "program"]
    own = Writer(name="base", kind="base", model=design.base)
    writers = [*dict.fromkeys(planned), *[own] * (CLEAN_ANSWERS + REFERENCE_ANSWERS)]
    taught, models = [one for one in writers if one.kind in TRAINED], cache(Forecast)
    answers = sum(map(_asked, writers)) * design.prompts
    most = "at most " if any(_asked(one) == ROUNDS for one in writers) else ""
    asked = f"{design.prompts} prompts, each asked until its answer is valid, up to {ROUNDS} times"
    trained = known_sum(_training(models(one.model), one) for one in taught)
    written = known_sum(_writing(models(one.model), one, design) for one in writers)
    return [
        Work(f"{len(taught)} of {len(writers)} writers trained", trained),
        Work(f"{most}{round(answers):,} answers: {asked}", written),
    ]


def _asked(writer: Writer) -> float:
    return ASKED.get(writer.kind, OTHERS_ASKED) if writer.model.startswith("ref:") else float(ROUNDS)


def _training(base: Forecast, writer: Writer) -> float | None:
    part, rows = TeacherPart(), trait_rows(trait("owl"))
    if base.speed is None:
        return None
    tokens = part.steps * part.batch_size * base.row_tokens(rows)
    return TRAINED[writer.kind] * max(TEACHER_S, base.speed.training(tokens))


def _writing(base: Forecast, writer: Writer, design: Design) -> float | None:
    task = Numbers()
    prompts = [user_prompt(text) for text in task.prompts(min(COUNTED, design.prompts), design.seed)]
    row = base.prompt_tokens(prompts) + base.answer_tokens(Sampling(max_new_tokens=task.max_new_tokens))
    n = round(_asked(writer) * design.prompts)
    return base.seconds(Load(what="", tokens=round(n * row), texts=n, written=True))


def judging_work(bench: Benchmark, settings: Settings, judged: Container[str] = ()) -> list[Work]:
    """Return what the audit's own stages take on the cases that are not judged yet, in seconds.

    Args:
        bench: the public part of the benchmark.
        settings: how the stages are run.
        judged: ids of the cases that an interrupted run has finished.

    Raises:
        UserError: a case cannot be read, or the base is not on this machine.
    """
    left, panel = [name for name in bench.ids if name not in judged], tuple(map(trait, bench.panel))
    census = take_census(bench.folder / "reference.jsonl")
    work = Workload(Asked(base=bench.base, rows=census, traits=panel, store=settings.store, seed=settings.seed))
    cases, known = [bench.case(name) for name in left], Counter(row.question for row in bench.reference())
    on_prompts = [sum(known[question] for question in {row.question for row in rows}) for rows in cases]
    rows = len({(row.question, row.completion) for some in cases for row in some})
    answered = {row.question for some in cases for row in some}
    reference = sum(known[question] for question in answered)
    signed, gradients = (len(panel) + SIGNED_OWN) * SIGNED, sum(map(len, cases)) + sum(on_prompts)
    read, heard = work.scored(rows + reference, work.candidates), work.written(signed) + work.scored(signed, len(panel))
    under = f"under {work.candidates} candidates, the reference's among them"
    found = [
        work.teachers(),
        Work(f"{rows + reference:,} distinct rows read {under}", read),
        Work(f"{signed:,} answers of teachers and base, where rows differ", heard),
        Work(f"{gradients:,} gradients of rows in {len(cases)} cases", work.readings(gradients, GRADIENT)),
    ]
    if settings.shadows:
        n = SHADOWS * len(cases)
        found.append(Work(f"{n} shadow students", work.students(n)))
    return [Work(one.what, work.timed(one.seconds)) for one in found]
