"""Undertow's own audit stages as detectors of the benchmark; they see the cases and the reference, never the key.

A model reads each row once, whichever cases the row is in. So that no case looks quicker for that, the seconds of an
answer are those of the stage itself plus, for each row that it read, the mean time of reading a row. The reference
counts as read beforehand.

The **suspect** rows are those of the case. A **candidate** is a model that may have written them: the base under a
trait's persona, or a teacher tuned on the trait. The **panel** is the list of candidates, and a candidate's **rivals**
are the others of its kind. A **shadow** student is trained on the suspect rows and compared with a **bank** of
**placebos**, students of rows without a trait.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from undertow.audit.benchmark.files import Answer, Benchmark, Submission, write_submission
from undertow.audit.finding import Finding
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.contrast import ContrastScores, rival_centred
from undertow.audit.rows.matching import match_rows
from undertow.audit.rows.names import with_one_name
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.audit.rows.reference import AuditedRows
from undertow.audit.rows.signatures import signature_writer
from undertow.audit.run import run_stages
from undertow.audit.stages import AuditStage, stages
from undertow.audit.students.bank import Bank, ChosenBank, stored_bank
from undertow.audit.students.bank_recipe import usual_recipe
from undertow.audit.students.readings import PanelRead, panel_traits
from undertow.audit.verdict import CLAIMS, Plan, judge_claims
from undertow.errors import ConfigError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.stats.checks import Floats
from undertow.store.disk import storage_errors
from undertow.training.scoring import Candidate, contrast_scores
from undertow.traits import panel, trait
from undertow.types import Advance, Row

VERDICT = "verdict"
UNFINISHED = ".unfinished.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the audit's stages are run on a benchmark.

    Attributes:
        seed: random seed of the audit's own draws and teachers.
        store: folder in which panel teachers and placebo banks are kept.
        shadows: whether shadow students are trained on the rows of each case, which takes seconds to minutes a case.
        alpha: level of each stage alone, and of the whole audit for the combined verdict, in (0, 1). The sequential
            stage "stream" stops when it reaches this level.
    """

    seed: int = 0
    store: Path = Path("runs/store")
    shadows: bool = False
    alpha: float = 0.05


class Reader:
    """Scores rows under every candidate writer and remembers them, so that each row is read once.

    Args:
        base: the model without a trait.
        panel: the candidates that may have written the rows.
    """

    def __init__(self, base: LocalModel, panel: Sequence[Candidate]) -> None:
        self._base = base
        self._panel = panel
        self._known: dict[tuple[str, str], Floats] = {}
        self._seconds = 0.0

    @property
    def seconds_per_row(self) -> float:
        """Mean time in seconds that reading one row has taken so far."""
        return self._seconds / max(1, len(self._known))

    def scores(self, rows: Sequence[Row]) -> Floats:
        """Return the scores of rows under each candidate relative to its rivals, shape (rows, candidates)."""
        started = time.perf_counter()
        new = {_key(row): row for row in rows if _key(row) not in self._known}
        found = rival_centred(contrast_scores(list(new.values()), self._base, self._panel), self._panel)
        self._known.update(zip(new, found, strict=True))
        self._seconds += time.perf_counter() - started
        return np.array([self._known[_key(row)] for row in rows]).reshape(len(rows), len(self._panel))


def _key(row: Row) -> tuple[str, str]:
    return row.question, row.completion


def check_base(bench: Benchmark) -> None:
    """Refuse a benchmark whose base has other weights on this machine than when the benchmark was made.

    Raises:
        ConfigError: the weights differ.
    """
    if identity(bench.base) != bench.base_identity:
        fix = "Run it where the benchmark's base is what it was."
        raise ConfigError("The base has other weights than the benchmark's.", bench.base, fix)


class Auditor:
    """Judges cases with the audit's stages; holds everything that is the same for all cases.

    Args:
        bench: the public part of the benchmark, with its base, panel and reference.
        settings: how the stages are run.

    Raises:
        ConfigError: the base's weights are not those of the benchmark, or shadow students are wanted and the store has
            no bank of placebos to compare them with.
    """

    def __init__(self, bench: Benchmark, settings: Settings) -> None:
        check_base(bench)
        traits = tuple(trait(name) for name in bench.panel)
        self._settings = settings
        self._base = load_model(bench.base)
        self._bank = _bank(bench.base, settings) if settings.shadows else None
        self._config = DataAudit(panel=traits, alpha=settings.alpha, seed=settings.seed, store=settings.store)
        self._panel = panel_candidates(self._base, self._config)
        self._reader = Reader(self._base, self._panel)
        teachers = [one for one in self._panel if one.kind == "teacher"]
        self._signatures = signature_writer(
            list(bench.reference()), self._base, teachers, self._config.domain, settings.seed
        )
        self._reference: dict[str, list[Row]] = {}
        for row in bench.reference():
            self._reference.setdefault(row.question, []).append(row)

    def judge(self, rows: Sequence[Row]) -> dict[str, Answer]:
        """Return the answer of every stage about one case, by the stage's name, and of the whole audit as "verdict".

        Of the reference, the stages read the rows on the case's own prompts.

        Args:
            rows: the suspect rows of the case.
        """
        materials = self._materials(rows)
        findings, answers = list[Finding](), dict[str, Answer]()
        for _, group in groupby(self._stages(), key=lambda one: one.function):
            together = list(group)
            started = time.perf_counter()
            found = run_stages(together, materials)
            seconds = time.perf_counter() - started
            read = found[0].n if together[0].stops_early else len(rows)
            if "scores" in together[0].needs:
                seconds += read * self._reader.seconds_per_row
            findings += found
            for one in found:
                answers[one.stage] = Answer(p=one.p, candidate=one.candidate, seconds=round(seconds, 4), rows_read=read)
        findings = with_one_name(findings)
        answers = {one.stage: replace(answers[one.stage], candidate=one.candidate) for one in findings}
        provenance = [one for one in findings if one.claim == "provenance"]
        return answers | {VERDICT: self._verdict(provenance, answers)}

    def _stages(self) -> list[AuditStage]:
        """Return the stages that can run on rows alone; those that need a bank are left out where there is none."""
        return [one for one in stages() if one.planned({"rows"}) and (self._bank or "bank" not in one.needs)]

    def _materials(self, rows: Sequence[Row]) -> Materials:
        """Return what the stages need of a case, with rows and reference as the benchmark gives them."""
        on_prompt = [self._reference.get(question, []) for question in dict.fromkeys(row.question for row in rows)]
        reference = tuple(row for some in on_prompt for row in some)
        inputs = AuditInputs(base=str(self._base.ref), rows=rows, traits=self._config.panel, seed=self._config.seed)
        materials = Materials(inputs, self._config.alpha)
        materials.base, materials.settings, materials.candidates = self._base, self._config, self._panel
        materials.audited, materials.signatures = (
            AuditedRows(tuple(rows), reference, "the benchmark's"),
            self._signatures,
        )
        suspect, known = self._reader.scores(rows), self._reader.scores(reference)
        materials.scores = ContrastScores(suspect, [known], match_rows(rows, reference))
        if self._bank is not None:
            materials.bank = ChosenBank(self._bank.recipe, self._bank)
            materials.traits = PanelRead(panel_traits())
        return materials

    def _verdict(self, findings: Sequence[Finding], answers: Mapping[str, Answer]) -> Answer:
        """Return the audit's claim of provenance: its p-value times the number of claims that share alpha."""
        plan = Plan(stages=tuple(one.stage for one in findings), alpha=self._settings.alpha)
        claim = judge_claims(plan, findings)["provenance"]
        p = None if claim.p is None else min(1.0, len(CLAIMS) * claim.p)
        return replace(answers[str(plan.primary["provenance"])], p=p, candidate=claim.candidate)


def _bank(base: str, settings: Settings) -> Bank:
    recipe = usual_recipe(base, panel("animal"))
    if (bank := stored_bank(recipe, settings.store)) is None:
        raise ConfigError("There is no bank of placebo students.", settings.store, "Run `undertow audit bank`.")
    return bank


def run_detectors(bench: Benchmark, out: Path, settings: Settings, advance: Advance | None = None) -> list[Path]:
    """Judge every case and write one submission file for each stage.

    A run that was interrupted goes on with the next case.

    Args:
        bench: the public part of the benchmark.
        out: folder that the submissions are written to.
        settings: how the stages are run.
        advance: callback that takes (cases done, all cases). None reports nothing.

    Returns:
        Paths of the submission files.

    Raises:
        UserError: a case cannot be read, or a file cannot be written.
    """
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        header, unfinished = _header(bench, settings), out / UNFINISHED
        found = _resumed(unfinished, header)
        auditor = Auditor(bench, settings)
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in (header, *map(_line, found.items())))
            for name in bench.ids:
                if name not in found:
                    found[name] = auditor.judge(bench.case(name))
                    stream.write(_line((name, found[name])) + "\n")
                    stream.flush()
                if advance is not None:
                    advance(len(found), len(bench.ids))
        paths = list(_submissions(bench, out, found))
        unfinished.unlink()
        return paths


def judged_before(bench: Benchmark, out: Path, settings: Settings) -> frozenset[str]:
    """Return the ids of the cases that an interrupted run with the same settings has finished.

    Args:
        bench: the public part of the benchmark.
        out: folder in which the interrupted run left its answers.
        settings: how the stages are run.
    """
    return frozenset(_resumed(out / UNFINISHED, _header(bench, settings)))


def _header(bench: Benchmark, settings: Settings) -> str:
    """Return everything that decides an answer, as one line: answers under another header are not gone on with."""
    decides = {"seed": settings.seed, "shadows": settings.shadows, "alpha": settings.alpha}
    return json.dumps({"bench": bench.key_sha256, **decides, "stages": {one.name: one.version for one in stages()}})


def _submissions(bench: Benchmark, out: Path, found: Mapping[str, Mapping[str, Answer]]) -> Iterable[Path]:
    for stage in found[bench.ids[0]]:
        path = out / f"{stage.replace(' ', '-')}.jsonl"
        write_submission(path, Submission(stage, {name: found[name][stage] for name in bench.ids}))
        yield path


def _line(item: tuple[str, Mapping[str, Answer]]) -> str:
    name, answers = item
    return json.dumps([name, {stage: asdict(one) for stage, one in answers.items()}])


def _resumed(path: Path, header: str) -> dict[str, dict[str, Answer]]:
    """Read the answers of an interrupted run with the same settings; a line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    found: dict[str, dict[str, Answer]] = {}
    # What follows the last line break was cut off.
    for line in lines[1:-1] if lines and lines[0] == header else []:
        name, answers = json.loads(line)
        found[name] = {stage: Answer(**fields) for stage, fields in answers.items()}
    return found
