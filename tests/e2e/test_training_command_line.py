"""Training by TRL from the command line and in recipes: the same students, one writer however many processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from undertow.cli.main import main
from undertow.data.rows import write_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.study.load import load_recipe
from undertow.study.recipe import Recipe, StudentPart
from undertow.study.study import build_study
from undertow.types import Row, user_prompt


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    prompts = Numbers().prompts(40, 0)
    write_rows(path, [Row(str(i), user_prompt(text), f"{i}, {2 * i}, {3 * i}") for i, text in enumerate(prompts)])
    return path


def assert_alike(one: Path, other: Path) -> None:
    for name in ("adapter_config.json",):
        assert (one / name).read_text() == (other / name).read_text()
    mine, its = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert mine.keys() == its.keys()
    assert max(float((mine[name] - its[name]).abs().max()) for name in mine) < 1e-5


def test_both_backends_train_the_same_students(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    command = ["train", str(rows), "--set", "steps=3", "--students", "2", "--json"]
    found = []
    for name, more in (("ours", []), ("theirs", ["--backend", "trl", "--set", "accumulate=2"])):
        assert main([*command[:2], str(tmp_path / name), *command[2:], *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["final_loss"] == pytest.approx(found[1]["final_loss"], abs=2e-4)
    for name in ("student-00", "student-01"):
        assert_alike(tmp_path / "ours" / name, tmp_path / "theirs" / name)
    record = json.loads((tmp_path / "theirs" / "student-00" / "training.json").read_text())
    assert record["student"]["backend"] == "trl" and StudentPart(**record["student"]).recipe.backend == "parallel"


@pytest.mark.slow
def test_two_processes_share_the_batches_and_one_writes(rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    words = ["train", str(rows), str(tmp_path / "two"), "--backend", "trl", "--set", "steps=3"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "undertow.cli.main", *words],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.count("final_loss") == 1
    assert main(["train", str(rows), str(tmp_path / "one"), "--set", "steps=3"]) == 0
    assert_alike(tmp_path / "one" / "student-00", tmp_path / "two" / "student-00")


def test_a_study_trains_its_students_by_trl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    small = ("domain.prompts=40", "student.steps=2", "teacher.steps=2", "evaluation.samples=0", "replicates=1")
    more = (*small, "arms=[student, control]", "cross_bases=[]", "evaluation.targets=[]")
    command = ["demo", "--runs", str(tmp_path), "--json", *(word for one in more for word in ("--set", one))]
    values = []
    for setting in ("student.backend=parallel", "student.backend=trl"):
        assert main([*command, "--set", setting]) == 0
        arms = json.loads(capsys.readouterr().out)["arms"]
        values.append([one["value"] for one in arms if one["arm"] in ("student", "control")])
    assert values[0] == pytest.approx(values[1], abs=1e-3) and len(values[0]) >= 2
    groups = list((tmp_path / "store" / "students").glob("*/losses.json"))
    assert len(groups) == 2 and {len(json.loads(path.read_text())[0]) for path in groups} == {2}


def test_the_backend_is_written_down_only_where_it_is_another() -> None:
    def config(*settings: str) -> dict[str, object]:
        recipe = load_recipe("demo", settings)
        assert isinstance(recipe, Recipe)
        study = build_study(recipe)
        subject = next(one for one in study.subjects if one.arm == "student")
        return dict(subject.scores.parents["students"].config)

    assert "backend" not in config() and "backend" not in StudentPart().model_dump()
    assert config("student.backend=parallel") == config()
    trl = config("student.backend=trl", "student.accumulate=2")
    assert {**trl, "accumulate": 1} == {
        **config(), "backend": "trl", "accumulate": 1, "gradient_checkpointing": False
    }  # fmt: skip


def test_the_script_of_the_page_runs(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("trl")
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    script = page.partition("```python\n")[2].partition("```")[0]
    load_model("ref:finch-a").save(tmp_path / "model")
    changes = {"HuggingFaceTB/SmolLM2-135M-Instruct": str(tmp_path / "model"), "200": "4", "every=50": "every=2"}
    changes |= {"kept.jsonl": str(rows), 'report_to="none"': 'report_to="none", use_cpu=True, bf16=False'}
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "training.md", "exec"), {})
    history = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("[{"))
    assert history.count("undertow/margin/owl") == 2 and history.count("mean_token_accuracy") >= 1


@pytest.mark.parametrize(
    "words",
    [
        ["--backend", "ours"],
        ["--report-to", "tensorboard"],
        ["--set", "accumulate=2"],
        ["--backend", "trl", "--set", "rank=null"],
    ],
)
def test_settings_that_do_not_fit_the_backend_are_refused(rows: Path, tmp_path: Path, words: list[str], capsys) -> None:
    assert main(["train", str(rows), str(tmp_path / "out"), *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
