"""The audit benchmark as a user types it: score, what is refused, and once from making it to its table."""

import json
from pathlib import Path

import pytest

from undertow.audit.benchmark.files import Answer, Submission, Truth, write_benchmark, write_submission
from undertow.cli.main import main
from undertow.types import Row, user_prompt

TRUTHS = (
    Truth(label="clean", kind="base", dose=0.0),
    Truth(label="trait", kind="finetuned", trait="owl", writer="owl"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [Row(f"{i:06d}", user_prompt(f"We have {i}."), f"{i}") for i in range(20)]
    cases = {f"case-{place:04d}": (truth, rows) for place, truth in enumerate(TRUTHS)}
    public = {"base": "ref:finch-a", "base_identity": "0", "panel": ["owl", "lion"]}
    write_benchmark(tmp_path / "bench", cases, rows, 100, public)
    answers = {name: Answer(p=0.5 - place * 0.49, candidate="owl", seconds=1.0) for place, name in enumerate(cases)}
    write_submission(tmp_path / "mine.jsonl", Submission("mine", answers))
    return tmp_path


def test_a_submission_is_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "bench", "score", str(folder / "bench"), str(folder / "mine.jsonl")]
    assert main(words) == 0
    assert "### mine" in (text := capsys.readouterr().out) and "| trait | finetuned | 100% | 1 (1) " in text
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "undertow.bench-score/1"
    groups = found["detectors"][0]["groups"]
    assert [one["called"]["value"] for one in groups] == [0.0, 1.0] and groups[1]["named"]["value"] == 1.0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["score", "{0}/none", "{0}/mine.jsonl"], "There is no benchmark in this folder."),
        (["score", "{0}/bench", "{0}/none.jsonl"], "The submission cannot be read."),
        (["score", "{0}/bench", "{0}/mine.jsonl", "--key", "{0}/mine.jsonl"], "There is no key of a benchmark here."),
        (["run", "{0}/none"], "There is no benchmark in this folder."),
        (["run", "{0}/bench", "--out", "{0}/out"], "The base has other weights than the benchmark's."),
        (["make", "{0}/bench"], "The folder is not empty."),
        (["make", "{0}/new", "--base", "ref:finch-z"], "There is no embedded model of this name."),
    ],
)
def test_what_is_wrong_is_said_in_three_lines(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    capsys.readouterr()
    assert main(["audit", "bench", *(word.format(folder) for word in words)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[1/1]")]
    assert lines[0] == what and len(lines) == 3
    assert not (folder / "new").exists()


@pytest.mark.slow
def test_from_making_it_to_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, out = str(tmp_path / "bench"), str(tmp_path / "out")
    assert main(["audit", "bench", "make", bench, "--seed", "100", "--quick", "--rows", "20"]) == 0
    (tmp_path / "bench" / "truth.json").rename(tmp_path / "key.json")
    assert main(["audit", "bench", "run", bench, "--out", out, "--store", str(tmp_path / "store")]) == 0
    capsys.readouterr()
    files = [str(path) for path in sorted(Path(out).glob("*.jsonl"))]
    assert main(["audit", "bench", "score", bench, *files, "--key", str(tmp_path / "key.json"), "--json"]) == 0
    found = {one["detector"]: one for one in json.loads(capsys.readouterr().out)["detectors"]}
    assert set(found) == {"surface", "contrast", "stream", "recovery", "verdict"}
    labels = {group["label"] for group in found["verdict"]["groups"]}
    assert labels == {"clean", "trait", "control", "shift"}
