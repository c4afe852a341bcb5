"""Our own stages on a benchmark: what the audit itself says, without the key, and resumed where it was stopped."""

import dataclasses

import pytest

from undertow.audit.benchmark import detectors
from undertow.audit.benchmark.detectors import UNFINISHED, Auditor, Settings, judged_before, run_detectors
from undertow.audit.benchmark.files import read_submission, write_benchmark
from undertow.audit.rows.panel import DataAudit
from undertow.audit.run import audit_data
from undertow.errors import ConfigError
from undertow.models.load import load_model
from undertow.models.references import identity
from undertow.traits import trait
from undertow.types import Row, user_prompt

PANEL = ("owl", "lion")


def rows(start: int, n: int = 30) -> list[Row]:
    return [Row(f"{i:06d}", user_prompt(f"We have {100 + i}."), f"{start + 7 * i % 89}, {start + i}") for i in range(n)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Three cases without a key in sight."""
    from undertow.audit.benchmark.files import Truth

    folder = tmp_path_factory.mktemp("bench") / "bench"
    cases = {f"case-{i:04d}": (Truth(label="clean", kind="base"), rows(100 * i)) for i in (1, 2, 3)}
    reference = [dataclasses.replace(row, id=f"{start}-{row.id}") for start in (500, 600) for row in rows(start)]
    public = {"base": "ref:finch-a", "base_identity": identity("ref:finch-a"), "panel": PANEL}
    made = write_benchmark(folder, cases, reference, 100, public)
    (folder / "truth.json").unlink()
    return made


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(seed=100, store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def auditor(bench, settings):
    return Auditor(bench, settings)


@pytest.mark.usefixtures("rows_in_order")
def test_the_stages_say_what_the_audit_says(bench, settings, auditor) -> None:
    case = bench.case("case-0002")
    config = DataAudit(panel=tuple(map(trait, PANEL)), seed=settings.seed, store=settings.store)
    found = audit_data(case, load_model(bench.base), config, reference=bench.reference())
    answers = auditor.judge(case)
    assert tuple(one.stage for one in found) == ("surface", "contrast", "stream", "recovery")
    for one in found:
        assert answers[one.stage].p == pytest.approx(one.p) and answers[one.stage].candidate == one.candidate
        assert answers[one.stage].rows_read == one.n
    contrast = answers["contrast"]
    assert answers["verdict"].p == min(1.0, 3 * contrast.p)
    assert answers["verdict"].candidate == (contrast.candidate if contrast.p <= 0.05 / 3 else None)


def test_a_row_is_read_once_and_its_time_counts_for_every_case(bench, auditor) -> None:
    case = bench.case("case-0001")
    first, again = auditor.judge(case), auditor.judge(case)
    assert first["contrast"].p == again["contrast"].p
    assert again["contrast"].seconds > 0.2 * first["contrast"].seconds


def test_every_stage_answers_every_case(bench, settings, tmp_path) -> None:
    told = []
    paths = run_detectors(bench, tmp_path / "out", settings, lambda done, total: told.append((done, total)))
    assert [path.stem for path in paths] == ["surface", "contrast", "stream", "recovery", "verdict"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not (tmp_path / "out" / UNFINISHED).exists()
    for path in paths:
        found = read_submission(path, bench.ids)
        assert found.detector == path.stem
        assert all(one.p is not None and one.seconds >= 0 and one.rows_read <= 30 for one in found.answers.values())


def test_a_stopped_run_goes_on_with_the_next_case(bench, settings, tmp_path, monkeypatch) -> None:
    whole = run_detectors(bench, tmp_path / "whole", settings)
    judged = []
    judge = Auditor.judge

    def stopped(self, case):
        judged.append(case)
        if len(judged) == 2:
            raise KeyboardInterrupt
        return judge(self, case)

    monkeypatch.setattr(Auditor, "judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_detectors(bench, tmp_path / "out", settings)
    # A line that was cut off while it was written.
    with (tmp_path / "out" / UNFINISHED).open("a") as stream:
        stream.write('["case-0002", {"sur')
    paths = run_detectors(bench, tmp_path / "out", settings)
    assert len(judged) == 4
    for one, other in zip(whole, paths, strict=True):
        first, second = (read_submission(path, bench.ids).answers for path in (one, other))
        assert [answer.p for answer in first.values()] == [answer.p for answer in second.values()]


def test_only_a_run_with_the_same_settings_and_stages_is_gone_on_with(bench, settings, tmp_path, monkeypatch) -> None:
    answers = '["case-0001", {"surface": {"p": 0.5, "candidate": null, "seconds": 1.0, "rows_read": 30}}]'
    (tmp_path / UNFINISHED).write_text(f"{detectors._header(bench, settings)}\n{answers}\n")
    assert judged_before(bench, tmp_path, settings) == {"case-0001"}
    for other in ({"seed": 1}, {"alpha": 0.01}, {"shadows": True}):
        assert judged_before(bench, tmp_path, dataclasses.replace(settings, **other)) == set()
    newer = [dataclasses.replace(one, version=one.version + 1) for one in detectors.stages()]
    monkeypatch.setattr(detectors, "stages", lambda: newer)
    assert judged_before(bench, tmp_path, settings) == set()


def test_what_cannot_be_run_is_refused(bench, settings) -> None:
    with pytest.raises(ConfigError, match="no bank of placebo students"):
        Auditor(bench, dataclasses.replace(settings, shadows=True))
    with pytest.raises(ConfigError, match="other weights"):
        Auditor(dataclasses.replace(bench, base_identity="0"), settings)
