"""Which bases a user knows: the models in a folder, the lines of a list, and single references."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from undertow.errors import ConfigError, UserError
from undertow.models.gguf_files import is_gguf
from undertow.types import ModelRef

ADAPTER = "adapter_config.json"

_CACHED = "models--"
"""How the cache of the Hugging Face Hub begins the name of a repository's folder, whose snapshots are the models."""


@dataclass(frozen=True, slots=True)
class KnownBase:
    """A model that may be the base of another.

    Attributes:
        reference: reference of the model, as `load_model` takes it.
        place: where it was named: a folder, a line of a list, or "--known".
        found: whether it was found by searching a folder. A model that a user named himself is refused if it cannot be
            read. One that merely lies in a folder is left out and listed.
    """

    reference: str
    place: str
    found: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was named or lay in a folder, and is compared with nothing.

    Attributes:
        name: reference or path of what is left out.
        why: reason for leaving it out.
        do: what to do about it.
    """

    name: str
    why: str
    do: str


_LINE = "Write ref:<name> or hf:<folder, GGUF file or id>, one a line; what follows # is a comment."
_HOLD = "A known base is a folder with config.json and safetensors, an adapter, whose base counts, or a .gguf file."


def known_bases(names: Sequence[str]) -> tuple[tuple[KnownBase, ...], tuple[LeftOut, ...]]:
    """Return the models that some names stand for, each once, and what was left out.

    Args:
        names: folders, text files with one reference on each line, or references.

    Raises:
        ConfigError: a name is none of these, a line is no reference, or there is no model in all of them.
    """
    bases: dict[str, KnownBase] = {}
    left: list[LeftOut] = []
    for item in (item for name in names for item in _named(name)):
        if isinstance(item, LeftOut):
            left.append(item)
        elif item.reference not in bases:
            bases[item.reference] = item
        elif not item.found:  # two adapters of one base in a folder are no mistake
            first = bases[item.reference].place
            left.append(LeftOut(item.reference, f"{item.place} names it again after {first}", "Name it once."))
    if not bases:
        value = "; ".join([*names, *(f"{one.name}: {one.why}" for one in left[:3])]) or "nothing was named"
        raise ConfigError("There is no known base to compare with.", value, _HOLD)
    return tuple(bases.values()), tuple(left)


def _named(name: str) -> Iterator[KnownBase | LeftOut]:
    path = Path(name).expanduser()
    try:
        folder, file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # too long for a path, or a zero byte
        folder = file = False
    if folder:
        yield from _models_in(path)
    elif file and is_gguf(path):
        yield KnownBase(_local(path), "--known")
    elif file:
        yield from _lines(path)
    else:
        yield KnownBase(_reference(name, name), "--known")


def _reference(text: str, place: str) -> str:
    try:
        ref = ModelRef.parse(text)
    except UserError as error:
        what = "This is neither a folder, nor a file, nor a reference of a model."
        raise ConfigError(what, place if place == text else f"{place}: {text}", _LINE) from error
    if ref.kind == "api":
        raise ConfigError("A remote model has no weights here.", f"{place}: {ref.shown}", _LINE)
    return str(ref)


def _lines(path: Path) -> Iterator[KnownBase]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("The list of known bases cannot be read as text.", f"{path}: {error}", _LINE) from error
    for number, line in enumerate(lines, 1):
        text = line if (mark := _comment(line)) is None else line[:mark]
        if text.strip():
            place = f"{path}:{number}"
            yield KnownBase(_reference(text.strip(), place), place)


def _comment(line: str) -> int | None:
    """Return where the comment of a line begins, or None; a # within a name begins none."""
    return next((at for at, sign in enumerate(line) if sign == "#" and (at == 0 or line[at - 1].isspace())), None)


def _local(path: Path) -> str:
    return str(ModelRef(kind="hf", name=str(path)))


def _models_in(folder: Path) -> Iterator[KnownBase | LeftOut]:
    """Find the models in a folder; a folder that is itself a model is not searched further."""
    own = list(_model_at(folder))
    yield from own
    if own and any((folder / name).exists() for name in ("config.json", ADAPTER)):
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            inside = list(_model_at(path))
            yield from inside
            if not inside:
                why = "no config.json with safetensors, no adapter and no .gguf file lies in it"
                yield LeftOut(str(path), why, _HOLD)


def _model_at(folder: Path) -> Iterator[KnownBase | LeftOut]:
    """Yield the model that a folder is, the base of the adapter that it is, or the GGUF files in it."""
    place = str(folder)
    if folder.name.startswith(_CACHED):
        for snapshot in sorted((folder / "snapshots").glob("*")):
            yield from _model_at(snapshot)
        return
    if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
        yield KnownBase(_local(folder), place, found=True)
        return
    for path in sorted(folder.iterdir()):
        if is_gguf(path):
            yield KnownBase(_local(path), place, found=True)
    if (folder / ADAPTER).exists():
        yield _base_of(folder)


def _base_of(adapter: Path) -> KnownBase | LeftOut:
    """Return the base that an adapter names: a reference, a folder or an id of the Hugging Face Hub."""
    fix = f"Name the base itself, or write it into {ADAPTER} as base_model_name_or_path."
    try:
        named = json.loads((adapter / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        return LeftOut(str(adapter), f"its {ADAPTER} cannot be read", "Copy the adapter again.")
    if not isinstance(named, str) or not named:
        return LeftOut(str(adapter), "the adapter does not name its base", fix)
    text = named if named.startswith(("ref:", "hf:")) else str(ModelRef(kind="hf", name=named))
    try:
        return KnownBase(str(ModelRef.parse(text).without_adapter), f"{adapter} (an adapter of it)", found=True)
    except UserError:
        return LeftOut(str(adapter), f"the adapter names {named!r} as its base, which is no reference", fix)
