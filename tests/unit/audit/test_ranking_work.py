"""What ranking rows is said to take: counts of passes over the tokens that the base's own tokenizer counts."""

import json
import random
from pathlib import Path

import pytest

from undertow.audit.asked import Asked, Ranking
from undertow.audit.attribution import ARMS, SEEDS
from undertow.audit.intake import take_intake
from undertow.audit.ranking_work import CONFIRMING, GRADIENT
from undertow.audit.workload import STUDENT_S, TEACHER_S, TOKENS, Workload
from undertow.data.census import take_census
from undertow.data.rows import write_rows
from undertow.models import gguf_files, speed
from undertow.traits import trait
from undertow.types import Row, user_prompt


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    rng = random.Random(0)
    answers = [", ".join(str(rng.randrange(999)) for _ in range(8)) for _ in range(30)]
    found = [Row(str(at), user_prompt(f"Continue: {at}, {at + 1}."), text) for at, text in enumerate(answers)]
    write_rows(tmp_path / "rows.jsonl", found)
    return found


def asked(folder: Path, base: str, ranking: Ranking) -> Asked:
    return Asked(base=base, rows=take_census(folder / "rows.jsonl"), ranking=ranking, store=folder / "store")


def test_each_kind_of_ranking_names_what_it_trains(rows, tmp_path: Path) -> None:
    given, own = Ranking(), Ranking(own=trait("owl"), confirmed=True)
    (only,) = take_intake(asked(tmp_path, "ref:finch-a", given)).work
    assert only.what.startswith("ranking: 30 rows read by two models")
    teacher, read, confirmed = take_intake(asked(tmp_path, "ref:finch-a", own)).work
    assert teacher.what == "panel teachers: 1 trained" and teacher.seconds == pytest.approx(TEACHER_S)
    assert read == only and len(ARMS) * len(SEEDS) == CONFIRMING
    assert confirmed.what.startswith("confirmation: 20 students")
    assert confirmed.seconds == pytest.approx(CONFIRMING * STUDENT_S)


def test_a_base_of_a_folder_counts_its_own_tokens(rows, tiny_model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(speed, "probe", lambda name: 1e6)  # so slow that tokens decide, not what a row takes at least
    tiny_model.save(tmp_path / "base")
    given = asked(tmp_path, f"hf:{tmp_path / 'base'}", Ranking())
    encoded = tiny_model.encode(rows)
    tokens = sum(len(row) - 1 for row in encoded) / len(rows)  # the end of turn is not written
    work = Workload(given)
    assert work.row_tokens == pytest.approx(tokens)
    (one,) = take_intake(given).work
    assert work.known_speed is not None and one.seconds is not None
    readings = (one.seconds - work.loading(2)) / work.known_speed.reading(tokens * len(rows))
    assert readings == pytest.approx(2 + GRADIENT)
    # Four answers to each of ten prompts read ten prompts.
    asked_for = 10 * work.prompt_tokens + 40 * TOKENS
    assert work.written(40, prompts=10) == pytest.approx(work.known_speed.writing(asked_for))
    assert work.prompt_tokens == pytest.approx(sum(len(row.prompt) for row in encoded) / len(rows))


def test_without_sizes_there_is_no_time(rows, tiny_model, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: config[name] for name in ("model_type", "architectures")}))
    given = asked(tmp_path, f"hf:{tmp_path / 'base'}", Ranking(own=trait("owl")))
    intake = take_intake(given)
    assert [one.seconds for one in intake.work] == [None, None] and intake.seconds == 0


def test_a_packed_base_is_looked_at_where_it_was_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(gguf_files.CACHE, str(tmp_path / "cache"))
    packed = tmp_path / "model.gguf"
    packed.write_bytes(b"GGUF")
    given = Asked(base=f"hf:{packed}")
    assert given.folder is None and given.has_template is None
    unpacked = tmp_path / "cache" / "gguf" / gguf_files.file_hash(packed)[:16]
    unpacked.mkdir(parents=True)
    again = Asked(base=f"hf:{packed}")
    assert again.folder == unpacked and again.has_template is False
