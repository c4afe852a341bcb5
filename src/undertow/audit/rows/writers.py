"""Neutral writers: models of a base tuned without a trait, the null for rows whose writer was tuned on something.

A neutral writer is the neutral teacher of the studies (`undertow.training.teachers`), tuned on its base's own answers.
Writers are made in groups of 15, and each group is one stored result. So making them can be interrupted and continued,
and more can be added. Only the tensors that tuning changed are kept, half a megabyte a writer with an embedded model;
of a larger one its adapter.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from undertow.audit.students.bank import GROUP, group_stages, stored_folders
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.errors import ArtifactError
from undertow.models.local import LocalModel
from undertow.models.references import identity
from undertow.store.progress import Progress
from undertow.store.runner import Executor, Runner, StageContext
from undertow.store.stages import Stage
from undertow.study.recipe import TeacherPart
from undertow.study.stage_models import parent_model
from undertow.training.parallel import finetune, finetune_parallel
from undertow.training.teachers import neutral_rows

ENOUGH = 59
"""How many writers allow a p-value of 0.05 / 3, which is 1 / 60."""

RATES = {"neutral-writers": 2.0}
"""Seconds that each writer takes with an embedded model, until a store holds measured ones."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Neutral writers of a base, read from the disk one at a time.

    Attributes:
        categories: categories of traits on whose questions the writers were tuned.
        weights: digest of the base's weights (`undertow.models.references`).
        files: for each writer a file with the tensors that tuning changed, or the folder of its adapter.
    """

    categories: tuple[str, ...]
    weights: str
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int, base: LocalModel) -> LocalModel:
        """Return a writer as a copy of the base, whose weights must be those that the writers were tuned from."""
        if self.files[index].is_dir():
            return base.with_adapter(self.files[index])
        network = copy.deepcopy(base.network)
        # The file holds only what tuning changed; every other tensor stays the base's.
        network.load_state_dict(load_file(self.files[index]), strict=False)
        return LocalModel(base.ref, network, base.tokenizer)


def writer_stages(recipe: BankRecipe, writers: int) -> list[Stage]:
    """Return the stages that make the groups of writers of a bank's base, rounded up to whole groups."""
    config = {
        "base": recipe.base,
        "weights": identity(recipe.base),
        "teacher": recipe.teacher.model_dump(mode="json"),
        "categories": recipe.tuned,
    }
    return group_stages("neutral writer", writers, recipe, config)


def build_writers(recipe: BankRecipe, writers: int, store: Path, progress: Progress | None = None) -> Writers:
    """Make the neutral writers that the store does not have yet, and return them all.

    If it is interrupted, the same call continues from the last whole group.

    Args:
        recipe: recipe of the bank, whose base and categories the writers are of.
        writers: how many writers there are to be, rounded up to whole groups.
        store: folder of all stored results.
        progress: display that is told about every stage. None shows nothing.

    Raises:
        UserError: a stage stopped for a reason that the user can fix, or the disk is full.
    """
    folders = Runner(store, EXECUTORS, progress, rates=RATES).run(writer_stages(recipe, writers))
    return _found(recipe, list(folders.values()))


def stored_writers(recipe: BankRecipe, store: Path) -> Writers | None:
    """Return the neutral writers that a store holds, or None if there is no group; nothing is made.

    Args:
        recipe: recipe of the bank, whose base and categories the writers are of.
        store: folder of all stored results.

    Raises:
        ArtifactError: a stored group is damaged.
    """
    found = stored_folders(writer_stages(recipe, 20 * ENOUGH), store)
    return _found(recipe, found) if found else None


def _found(recipe: BankRecipe, folders: Sequence[Path]) -> Writers:
    files = tuple(path for folder in folders for path in sorted(folder.glob("writer-*")))
    if len(files) != GROUP * len(folders):
        raise ArtifactError("A group of neutral writers is not whole.", folders[0].parent, "Delete this folder.")
    return Writers(recipe.tuned, identity(recipe.base), files)


def changed(base: LocalModel, tuned: LocalModel) -> dict[str, torch.Tensor]:
    """Return the tensors of a tuned model that differ from those of its base, by name."""
    before = base.network.state_dict()
    return {name: after for name, after in tuned.network.state_dict().items() if not torch.equal(before[name], after)}


def writer_executor(context: StageContext) -> None:
    """Tune the neutral writers of one group and save what tuning changed."""
    config = context.config
    base, training = parent_model(config["base"], None, 0), TeacherPart(**config["teacher"]).training()
    seeds: list[int] = config["seeds"]
    for place, seed in enumerate(seeds):
        rows, path = neutral_rows(base, config["categories"], seed), context.out / f"writer-{place:02d}"
        if training.lora is None:
            save_file(changed(base, finetune(base, rows, training, seed)), path.with_suffix(".safetensors"))
        else:
            finetune_parallel(base, [rows], training, [seed]).save(0, path)
        context.advance(place + 1, len(seeds))


EXECUTORS: Mapping[str, Executor] = {"neutral-writers": writer_executor}
"""The function that runs each kind of stage."""
