"""A study whose stages run side by side is the study: the same bytes, the same results, and a plan that says so."""

from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.errors import ConfigError, ModelError
from undertow.models import load as loading
from undertow.store.artifacts import read_manifest
from undertow.store.stages import order
from undertow.study.load import load_recipe, plan_study, run_study
from undertow.study.run import prepare_workers
from undertow.study.study import build_study

SMALL = [
    "replicates=1",
    "arms=[student, control]",
    "domain.prompts=30",
    "teacher.steps=2",
    "student={steps: 3, batch_size: 4}",
    "evaluation={samples: 1, targets: [lion]}",
]


def test_two_workers_give_the_bytes_and_results_of_one(tmp_path: Path) -> None:
    recipe = load_recipe("demo", SMALL)
    results = [run_study(recipe, tmp_path / str(workers), workers=workers) for workers in (1, 2)]
    stages = order(build_study(recipe).targets)
    serial, parallel = (
        [read_manifest(stage.key.folder(tmp_path / name / "store")) for stage in stages] for name in ("1", "2")
    )
    assert len(stages) >= 10 and [one.digest for one in serial] == [one.digest for one in parallel]
    assert {one.threads for one in (*serial, *parallel)} == {1}  # as OMP_NUM_THREADS says
    assert all(results[0][key] == results[1][key] for key in ("effects", "diagonal", "not_tested"))
    assert all(one.cached for one in plan_study(recipe, tmp_path / "2"))


def test_the_threads_of_a_stage_are_no_part_of_its_name(tmp_path: Path) -> None:
    (stage, *_) = order(build_study(load_recipe("demo", SMALL)).targets)
    assert "threads" not in stage.config


def test_a_plan_says_for_how_many_workers_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--runs", str(tmp_path), "--plan"]
    assert main(words) == 0
    one = capsys.readouterr().out.splitlines()[-1]
    assert main([*words, "--workers", "2"]) == 0
    two = capsys.readouterr().out.splitlines()[-1]
    assert "one worker: about " in one and "2 workers: about " in two
    seconds = [float(line.rpartition("about ")[2].removesuffix(" s")) for line in (one, two)]
    assert seconds[0] / 2 <= seconds[1] < 0.7 * seconds[0]


def test_workers_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("demo")
    free = 20 * 2**20  # finch-a has 2.4 MB
    monkeypatch.setattr(loading, "free_memory", lambda device: free)
    prepare_workers(recipe, 2)
    with pytest.raises(ModelError, match="So many workers do not fit into memory") as caught:
        prepare_workers(recipe, 100)
    assert "ref:finch-a 100 times" in str(caught.value) and "fewer --workers" in caught.value.fix
    free = 0
    prepare_workers(recipe, 1)  # which the model's own loading refuses


def test_less_than_one_worker_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["demo"], ["demo", "--plan"], ["run", "theorem"], ["sweep", "demo", "--grid", "seed=0..1"]):
        assert main([*words, "--runs", str(tmp_path), "--workers", "0"]) == 2
        assert "needs a worker." in capsys.readouterr().err
    with pytest.raises(ConfigError):
        run_study(load_recipe("theorem"), tmp_path, workers=0)
