"""Load the models that stages have made, for the stages that build on them."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from undertow.models.adapters import STEERING
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.store.runner import StageContext
from undertow.types import ModelRef


def student_folder(index: int) -> str:
    """Return the name of a student's folder within its group, such as "student-03"."""
    return f"student-{index:02d}"


@lru_cache(maxsize=4)
def base_model(reference: str) -> LocalModel:
    """Load a base, or return it if it is still loaded."""
    return load_model(reference)


def parent_model(reference: str, folder: Path | None, index: int) -> LocalModel:
    """Return the model that a parent stage made.

    Args:
        reference: reference of the base on which the model builds.
        folder: folder of a teacher or of a group of students. None returns the base itself.
        index: which student of a group is meant, from 0.
    """
    base = base_model(reference)
    if folder is None:
        return base
    if (folder / student_folder(index)).exists():
        folder = folder / student_folder(index)
    if _is_added(folder):
        return base.with_adapter(folder)
    return load_model(replace(made_of(base.ref, folder), device=base.ref.device or str(base.device)))


def made_of(base: ModelRef, folder: Path) -> ModelRef:
    """Return the reference of a model that was made of a base, to be run as the base is.

    Args:
        base: reference of the model from which training started.
        folder: folder of an adapter, a steering vector or a whole model.
    """
    if _is_added(folder):
        return replace(base, adapter=str(folder))
    return replace(base, kind="hf", name=str(folder), revision=None, adapter=None)


def _is_added(folder: Path) -> bool:
    """Tell whether a folder holds an adapter or a steering vector, which is added to a base."""
    return any((folder / name).exists() for name in ("adapter_config.json", STEERING))


def model_of_parent(context: StageContext, index: int) -> LocalModel:
    """Return the model that a stage's parent made, a teacher or a student of a group. Without one, the base."""
    folder = context.parents.get("teacher", context.parents.get("students"))
    return parent_model(context.config["base"], folder, index)
