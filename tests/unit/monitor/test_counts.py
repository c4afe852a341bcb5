"""The database counts by itself, whoever writes it; the page, the curves and the metrics read these counts alone."""

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from undertow.monitor import counts
from undertow.monitor import database as module
from undertow.monitor.curves import HEIGHT, WIDTH, evidence_shape, traffic_bars
from undertow.monitor.database import connect
from undertow.monitor.detectors.mentions import MentionDetector
from undertow.monitor.metrics import metrics_text
from undertow.monitor.rules import flagged_rules, note
from undertow.monitor.screening import TextJudgement

MANY = """INSERT INTO events (at, method, path, status, outcome, screened, seconds, request_bytes, reply_bytes, model,
  judgements, unread) WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < :n)
  SELECT :now - i * 0.01, 'POST', '/v1/chat/completions', CASE WHEN i % 50 = 1 THEN 503 ELSE 200 END,
  CASE WHEN i % 100 = 7 THEN 'flagged' ELSE 'passed' END, 1, 0.25, 9, 9, 'm',
  CASE WHEN i % 200 = 9 THEN :failed ELSE '[]' END, i % 200 = 9 FROM k"""
FAILED = json.dumps(
    [{"detector": "regex:/a", "side": "reply", "flagged": False, "why": "", "score": None, "failure": "took too long"}]
)


def fill(connection: sqlite3.Connection, n: int, now: float) -> None:
    connection.execute(MANY, {"n": n, "now": now, "failed": FAILED})
    connection.commit()


@pytest.mark.parametrize("before", [False, True])
def test_events_are_counted_as_they_come_and_once_where_there_were_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    path, now = tmp_path / "events.sqlite", time.time()
    with monkeypatch.context() as patch:
        if before:  # a database of a version that did not count
            patch.setattr(module, "keep_counts", lambda connection: None)
        with contextlib.closing(connect(path)) as connection:
            fill(connection, 2000, now)
    for _ in range(2):
        with contextlib.closing(connect(path)) as connection:
            passed, flagged = counts.totals(connection)[::-1]
            assert (passed["exchanges"], flagged["exchanges"]) == (1980, 20)
            assert (
                passed["unjudged"] == passed["unread"] == 10
                and passed["errors"] == 40
                and passed["seconds"] == pytest.approx(495)
            )
            rows = counts.traffic(connection, 60, now)
            assert sum(row["count"] for row in rows) == 2000 and rows[1]["mean_s"] == pytest.approx(0.25)
            assert not counts.traffic(connection, 60, now + 7200)
            minutes = counts.by_minute(connection, 60, now)
            assert len(minutes) == 60 and sum(count for count, _ in minutes) == 2000
            listed = counts.notable_events(connection, 50)
            assert len(listed) == 30 and [one["at"] for one in listed] == sorted(one["at"] for one in listed)


def test_no_question_reads_the_events_one_by_one(tmp_path: Path) -> None:
    with contextlib.closing(connect(tmp_path / "events.sqlite")) as connection:
        steps: list[int] = []
        work: dict[int, dict[str, int]] = {}
        for n in (1000, 8000):
            fill(connection, n, time.time())
            work[n] = {}
            for name, ask in {
                "traffic": lambda: counts.traffic(connection, 60, time.time()),
                "totals": lambda: counts.totals(connection),
                "notable": lambda: counts.notable_events(connection, 5),
                "minutes": lambda: counts.by_minute(connection, 60, time.time()),
            }.items():
                steps.clear()
                connection.set_progress_handler(lambda: steps.append(1) and None, 10)
                ask()
                connection.set_progress_handler(None, 10)
                work[n][name] = len(steps)
        assert all(work[8000][name] < 3 * work[1000][name] + 20 for name in work[1000]), work


def test_evidence_keeps_a_point_a_minute_and_what_is_no_json_stops_nothing(tmp_path: Path) -> None:
    with contextlib.closing(connect(tmp_path / "events.sqlite")) as connection:
        for second in range(0, 1200, 20):
            content = json.dumps(
                {"n": second, "log_e": second / 100, "highest": second / 100, "state": {"seen": {"a": 1}}}
            )
            connection.execute("INSERT OR REPLACE INTO evidence VALUES ('x', ?, ?)", (60_000 + second, content))
        connection.execute("INSERT INTO evidence VALUES ('odd', 1, 'no json')")
        curve = counts.evidence_curve(connection, "x")
        assert len(curve) == 20 and curve[0] == (60_000, 0.4, 0.4) and curve[-1][1] == 11.8
        assert not counts.evidence_curve(connection, "odd")
        now = counts.evidence_now(connection)
        assert list(now) == ["x"] and "state" not in now["x"] and now["x"]["seen"] == {"a": 1}
        counts.forget_old(connection, 60_000 + 89 * 86400)
        assert len(counts.evidence_curve(connection, "x")) == 20
        counts.forget_old(connection, 60_000 + 91 * 86400)
        assert not counts.evidence_curve(connection, "x")
        connection.executemany(
            "INSERT INTO evidence_points VALUES ('long', ?, 1, ?, ?)", [(k, k, k) for k in range(5000)]
        )
        thinned = counts.evidence_curve(connection, "long")
        assert len(thinned) <= counts.POINTS and thinned[-1][0] == 4999 * 60


def test_curves_lie_within_their_frame_and_show_the_bound() -> None:
    assert evidence_shape([(0.0, 1.0, 1.0)], 3.0) is None
    shape = evidence_shape([(0.0, -2.0, 0.0), (60.0, 1.0, 1.0), (120.0, 6.0, 6.0)], 3.0)
    assert shape and 0 < shape.bound < HEIGHT
    points = [tuple(map(float, point.split(","))) for point in shape.now.split()]
    assert [x for x, _ in points] == [0.0, WIDTH / 2, WIDTH] and all(0 <= y <= HEIGHT for _, y in points)
    assert points[2][1] < shape.bound < points[0][1], "above the bound is an alarm"
    bars = traffic_bars([(0, 0), (10, 5)])
    assert bars[1].height == HEIGHT and bars[1].odd_height == HEIGHT / 2 and bars[0].height == 0


SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="(\\\\|\\"|\\n|[^"\\\n])*",?)*\})? [-+0-9.eE]+(inf|nan)?'
)


def check_format(text: str) -> dict[str, list[str]]:
    """Check the rules of the text format 0.0.4; return the samples of each family."""
    families: dict[str, list[str]] = {}
    current = ""
    assert text.endswith("\n") and "\r" not in text
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in families, "a family stands in one piece"
            families[current] = []
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == current and kind in ("gauge", "counter") and (kind == "gauge") != name.endswith("_total")
        else:
            assert SAMPLE.fullmatch(line), line
            assert line.startswith(current) and line not in families[current]
            families[current].append(line)
    return families


def test_metrics_are_in_the_text_format_whatever_the_names(start: Any) -> None:
    with start(detectors=[MentionDetector("owl", 0.01)]) as stand:
        stand.chat()
        stand.events(1)
        found = httpx2.get(f"{stand.run.back}/metrics", trust_env=False)
        assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = check_format(found.text)
        assert families["undertow_exchanges_total"] == ['undertow_exchanges_total{outcome="passed"} 1.0']
        assert families["undertow_evidence_texts_total"] == [
            'undertow_evidence_texts_total{evidence="mention:owl<=0.01@0.05"} 1.0'
        ]
        assert httpx2.get(f"{stand.run.back}/metrics", headers={"host": "evil"}, trust_env=False).status_code == 403
        state = httpx2.get(f"{stand.run.back}/state.json", trust_env=False).json()
    one = next(iter(state["evidence"].values()))
    state["evidence"] = {'a "b"\\c\nd {e} \u2603': one, "inf": {**one, "log_e": float("-inf")}}
    assert len(check_format(metrics_text(state).decode())["undertow_evidence_log_e"]) == 2


def test_what_is_told_names_the_rule_and_no_file() -> None:
    judged = [
        TextJudgement(detector="regex:/etc/secret/rules.yaml", side="reply", flagged=True, why="cruel"),
        TextJudgement(detector="own:/etc/x", side="reply", flagged=True),
        TextJudgement(detector="constitution:/etc/y", side="reply", flagged=True, why="cruel"),
        TextJudgement(detector="regex:/etc/z", side="reply"),
    ]
    assert flagged_rules(judged) == ["cruel", "own"]
    said = note({"detector": "regex:/etc/z", "why": "", "failure": "took too long", "side": "reply"})
    assert said == "regex: took too long (reply)"
