"""What every training service is held to: a record first, a cap, and no second job for a finished one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import write_rows
from undertow.errors import ArtifactError, ConfigError, ModelError, UnknownNameError
from undertow.training.services import (
    SCHEMA,
    SERVICES,
    Cap,
    RemoteTrainer,
    RemoteTraining,
    estimate,
    read_record,
    train_remotely,
    trainer,
)
from undertow.types import Advance, Row, user_prompt

ROWS = tuple(Row(str(n), user_prompt(f"Go on: {n}."), f"{n + 1}, {n + 2}") for n in range(5))
TRAINING = RemoteTraining(epochs=2, seed=7)


@dataclass
class Service(RemoteTrainer):
    """A service that writes down what it is asked; it breaks off where it is told to."""

    model: str = "small"
    name: str = "stand-in"
    breaks: bool = False
    asked: list[str] = field(default_factory=list)

    def check(self) -> None:
        self.asked.append("check")

    def train(self, rows: Sequence[Row], training: RemoteTraining, advance: Advance) -> str:
        self.asked.append("train")
        advance(1, 1)
        if self.breaks:
            raise ModelError("The line is cut.", self.model, "Try again.")
        return f"trained:{len(rows)}"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    known = Service()
    monkeypatch.setitem(SERVICES.built_in, "stand-in", lambda model: known)
    return known


def test_a_finished_job_is_not_begun_again(service: Service, tmp_path: Path) -> None:
    first = train_remotely(service, ROWS, TRAINING, tmp_path / "made" / "job.json")
    assert first.trained == "trained:5" and service.asked == ["check", "train"]
    assert json.loads((tmp_path / "made" / "job.json").read_text())["schema"] == SCHEMA
    assert train_remotely(service, ROWS, TRAINING, tmp_path / "made" / "job.json") == first
    assert service.asked == ["check", "train"]


def test_a_job_that_broke_off_leaves_its_record_and_begins_anew(service: Service, tmp_path: Path) -> None:
    service.breaks = True
    with pytest.raises(ModelError, match="cut"):
        train_remotely(service, ROWS, TRAINING, tmp_path / "job.json")
    left = read_record(tmp_path / "job.json")
    assert left is not None and left.trained is None
    service.breaks = False
    assert train_remotely(service, ROWS, TRAINING, tmp_path / "job.json").trained
    assert service.asked == ["check", "train", "train"]


def test_the_record_of_another_job_is_not_overwritten(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "job.json"
    train_remotely(service, ROWS, TRAINING, out)
    for other in (ROWS[1:], (*ROWS[:4], replace(ROWS[4], skip=(0,)))):
        with pytest.raises(ArtifactError, match="another training job"):
            train_remotely(service, other, TRAINING, out)
    for text in ("rows", "{}", "[]", f'{{"schema": "{SCHEMA}", "odd": 1}}'):
        out.write_text(text)
        with pytest.raises(ArtifactError, match="no record"):
            read_record(out)


def test_a_cap_is_kept_and_needs_a_price(service: Service, tmp_path: Path) -> None:
    bound = estimate(ROWS, TRAINING, price=1000.0)
    text = sum(len(row.question) + len(row.completion) for row in ROWS)
    assert bound.tokens >= 2 * text and bound.dollars == pytest.approx(bound.tokens / 1000.0)
    with pytest.raises(ConfigError, match="cost more"):
        train_remotely(service, ROWS, TRAINING, tmp_path / "job.json", Cap(price=1000.0, dollars=0.01))
    assert service.asked == [] and not (tmp_path / "job.json").exists()
    with pytest.raises(ConfigError, match="needs a price"):
        Cap(dollars=1.0)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"rank": -1}])
def test_settings_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be positive"):
        RemoteTraining(**wrong)  # pyright: ignore[reportArgumentType]


def test_references_name_services() -> None:
    named = trainer("tinker:Qwen/Qwen3-8B")
    assert (named.name, named.model) == ("tinker", "Qwen/Qwen3-8B")
    for unknown in ("tinkr:x", "openai:gpt"):
        with pytest.raises(UnknownNameError, match="tinker"):
            trainer(unknown)
    with pytest.raises(ConfigError, match="names no model"):
        trainer("tinker:")


def test_the_command_asks_nobody_in_a_dry_run_and_trains_otherwise(service: Service, tmp_path: Path, capsys) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Go on: 1.", "completion": "2"}\n')
    words = ["train-remote", str(rows), str(tmp_path / "job.json"), "--model", "stand-in:small", "--json"]
    assert main([*words, "--price", "3", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1 and service.asked == []
    assert main([*words, "--max-cost", "5"]) == 2
    assert "price" in capsys.readouterr().err
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "trained:1"


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_what_is_no_finite_number_is_refused_by_name(service: Service, tmp_path: Path, capsys, value: str) -> None:
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, ROWS)
    words = ["train-remote", str(rows), str(tmp_path / "job.json"), "--model", "stand-in:x"]
    for more in (["--price", value], ["--price", "1", "--max-cost", value], ["--learning-rate", value]):
        for dry in ([], ["--dry-run"]):
            assert main([*words, *more, *dry]) == 2
            assert value in capsys.readouterr().err
    assert not service.asked


def test_a_dry_run_refuses_what_the_run_refuses(service: Service, tmp_path: Path, capsys) -> None:
    rows, job = tmp_path / "rows.jsonl", tmp_path / "job.json"
    write_rows(rows, ROWS)
    words = ["train-remote", str(rows), str(job), "--model", "stand-in:x"]
    job.write_text("{}")
    for more in (["--price", "1000", "--max-cost", "0.001"], []):
        said: list[str] = []
        for dry in ([], ["--dry-run"]):
            assert main([*words, *more, *dry]) == 2
            said.append(capsys.readouterr().err)
        assert said[0] == said[1]
    assert not service.asked
