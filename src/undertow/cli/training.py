"""Training by TRL from the command line, alone or in the processes of `accelerate launch`."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.study.recipe import StudentPart
    from undertow.types import Row


def train_by_trl(
    base: str, rows: "Sequence[Row]", part: "StudentPart", where: tuple[Path, int, int], report_to: Sequence[str]
) -> tuple[dict[str, Any], str] | None:
    """Train students on the same rows one after another and save them.

    Args:
        base: where training starts.
        rows: what is learnt.
        part: recipe of the students.
        where: folder of the adapters, number of students, and the seed.
        report_to: trackers; those that write files do so in the folder "trackers" beside the adapters.

    Returns:
        What is printed and the next useful command; None in every process but the main one.

    Raises:
        MissingExtraError: trl is not installed.
        ConfigError: a batch cannot be shared out evenly.
    """
    from undertow.models.load import default_device, load_model
    from undertow.seeds import derive
    from undertow.store.disk import storage_errors
    from undertow.study.executors import made_of, student_folder
    from undertow.training.trl import TrlOptions, finetune_trl, processes, require_trl
    from undertow.types import ModelRef

    require_trl()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL's own use of old names
    logging.getLogger("transformers").setLevel(logging.ERROR)
    # Before the model is loaded: each process gets its own GPU.
    main = processes(default_device(ModelRef.parse(base))).is_main_process
    out, students, seed = where
    model, folders = load_model(base), [out / student_folder(index) for index in range(students)]
    losses: list[float] = []
    for index, folder in enumerate(folders):
        options = TrlOptions(
            accumulate=part.accumulate,
            gradient_checkpointing=part.gradient_checkpointing,
            report_to=tuple(report_to),
            run_name=folder.name,
            folder=out / "trackers" if report_to else None,
        )
        student = finetune_trl(model, rows, part.training(base), derive(seed, "student", index), options)
        with storage_errors(out):
            student.save(folder)
        losses.append(round(float(student.losses[-10:].mean()), 4))
    if not main:
        return None
    found = {"students": [str(folder) for folder in folders], "final_loss": losses, "rows": len(rows)}
    return found, f"undertow eval '{made_of(model.ref, folders[0])}' --base '{model.ref}'"
