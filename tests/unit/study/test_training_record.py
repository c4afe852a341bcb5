"""How a student was trained is read from beside its adapter, or from the manifest of its group in a study."""

from pathlib import Path

import pytest

from undertow.store.artifacts import write_artifact
from undertow.store.stages import Stage
from undertow.study.recipe import StudentPart
from undertow.study.stage_models import student_folder
from undertow.study.training_record import TrainingRecord, read_training

PART = StudentPart(steps=30, learning_rate=0.004, rank=4, alpha=8.0)


def group(store: Path, part: StudentPart, n: int | None) -> Path:
    """Write rows and a group of two students as a study does; return the folder of the second student."""
    rows = Stage(kind="shuffle", version=1, config={}, label="rows")
    write_artifact(store, rows.key, lambda out: (out / "kept.jsonl").write_text("{}\n" * 7))
    members = [{"n": n, "rows": "rows-00", "seed": 1}] * 2
    config = {"base": "ref:finch-a", "members": members, "training": part.training("ref:finch-a").to_config()}
    stage = Stage(kind="students", version=2, config=config, parents={"rows-00": rows}, label="students")
    made = write_artifact(store, stage.key, lambda out: [(out / student_folder(at)).mkdir() for at in range(2)])
    return made.folder / student_folder(1)


@pytest.mark.parametrize(("n", "rows"), [(None, 7), (5, 5), (9, 7)])
@pytest.mark.parametrize(
    "part", [PART, PART.model_copy(update={"rank": None}), PART.model_copy(update={"layers": (1,)})]
)
def test_the_manifest_of_a_study_says_how_its_students_were_trained(
    tmp_path: Path, part: StudentPart, n: int | None, rows: int
) -> None:
    folder = group(tmp_path, part, n)
    found = read_training(f"ref:finch-a+{folder}")
    assert found is not None and found.rows == rows
    assert found.student.training() == part.training()


def test_a_file_beside_the_adapter_comes_first(tmp_path: Path) -> None:
    folder = group(tmp_path, PART, None)
    record = TrainingRecord(student=StudentPart(steps=9), rows=3)
    record.save(folder)
    assert read_training(f"ref:finch-a+{folder}") == record


@pytest.mark.parametrize("spoil", ["manifest.json", "rows"])
def test_nothing_is_said_where_nothing_is_known(tmp_path: Path, spoil: str) -> None:
    folder = group(tmp_path, PART, None)
    if spoil == "rows":
        next(tmp_path.glob("shuffle/*/kept.jsonl")).unlink()
    else:
        (folder.parent / spoil).write_text("{}")
    assert read_training(f"ref:finch-a+{folder}") is None
    assert read_training(f"ref:finch-a+{tmp_path / 'elsewhere'}") is None
    assert read_training("ref:finch-a") is None
