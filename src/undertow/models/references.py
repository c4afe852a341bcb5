"""From a reference to files: the folder of a model's files, and a hash of what they hold.

The files are in the package, in a folder, or on the Hub and then in its cache. The hash (`identity`) keeps a result
from being reused for other weights under the same name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from undertow.errors import ModelError, UserError, listed, unknown_name
from undertow.models.gguf_files import file_hash, gguf_in, is_gguf, unpacked
from undertow.models.given_templates import BUILT_IN, is_named, read_template
from undertow.models.number_format import number_format
from undertow.types import ModelRef

SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "README.md")
"""Patterns of all files of a model except the weights."""

_ALL = ("*.safetensors", *SMALL)
_NOT = ("consolidated*", *(f"*/{pattern}" for pattern in _ALL if not pattern.endswith(".jinja")))
"""Patterns of files that are not fetched: other forms of the same weights, and subfolders except those of named
templates."""


def embedded_folder() -> Path:
    """Return the folder that holds one folder per embedded model."""
    return Path(str(resources.files("undertow.reference"))) / "weights"


def embedded_models() -> tuple[str, ...]:
    """Return the names of the embedded models."""
    folder = embedded_folder()
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir())) if folder.is_dir() else ()


def model_folder(ref: ModelRef, files: Sequence[str] = _ALL) -> Path:
    """Return the folder of a model's files, which are fetched from the Hub if they are not in its cache yet.

    Args:
        ref: reference to the model; its adapter is not looked at.
        files: patterns of the files that are fetched from the Hub.

    Raises:
        UnknownNameError: no embedded model has this name.
        ModelError: the model is remote, or cannot be fetched.
    """
    if ref.kind == "api":
        raise ModelError("A remote model has no weights here.", str(ref), "Use a ref: or hf: model.")
    if ref.kind == "ref":
        if ref.name not in embedded_models():
            raise unknown_name("embedded model", ref.name, embedded_models())
        return embedded_folder() / ref.name
    packed = gguf_file(ref)
    return _folder(ref.name, ref.revision, files, "model") if packed is None else unpacked(packed)


def gguf_file(ref: ModelRef) -> Path | None:
    """Return the GGUF file that a reference names, or that lies in its folder; None for any other model.

    Raises:
        ModelError: the file does not exist, or the folder holds several.
    """
    if ref.kind != "hf":
        return None
    path = Path(ref.name).expanduser()
    if path.is_dir():
        return gguf_in(path)
    if not is_gguf(path):
        return None
    if path.exists() or _is_path(ref.name.rpartition("/")[0]) or ref.name.count("/") != 2:
        if not path.exists():
            raise ModelError("There is no such file.", ref.name, "Check the path.")
        return path
    repository, _, file = ref.name.rpartition("/")
    folder = _from_hub(repository, ref.revision, (file,), "model")
    if not (folder / file).exists():
        raise ModelError("The repository has no such file.", ref.name, "Check the name on the repository's page.")
    return folder / file


def adapter_folder(ref: ModelRef) -> Path | None:
    """Return the folder of the reference's adapter, fetched like a model; None without an adapter."""
    return None if ref.adapter is None else _folder(ref.adapter, None, _ALL, "adapter")


def _folder(name: str, revision: str | None, files: Sequence[str], what: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        fix = f"Give the folder that it lies in, with all files of the {what}, such as {path.parent}."
        raise ModelError(f"This is a single file, and the {what} is read from a folder.", name, fix)
    if _is_path(name):
        raise ModelError(f"There is no such folder of the {what}.", name, f"Check the path; seen from {Path.cwd()}.")
    return _from_hub(name, revision, files, what)


def _is_path(name: str) -> bool:
    """Tell whether a name can only be meant as a path: an id of the Hub is `name` or `owner/name`."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.endswith("/")


def _from_hub(name: str, revision: str | None, files: Sequence[str], what: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    fixes = {
        errors.GatedRepoError: ("The repository is gated.", "Accept its terms on the Hub and set HF_TOKEN."),
        errors.RevisionNotFoundError: ("The repository has no such revision.", "Check what follows the @."),
        errors.RepositoryNotFoundError: (
            "There is no such folder, nor such a repository on the Hub.",
            "Check the spelling; a private repository needs HF_TOKEN.",
        ),
        errors.HFValidationError: ("There is no such folder, and this is no id of the Hub.", "Check the path."),
    }
    where = name if revision is None else f"{name}@{revision}"
    where = where if what == "model" else f"{what} {where}"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(_NOT)))
    except tuple(fixes) as error:
        said, fix = next(text for kind, text in fixes.items() if isinstance(error, kind))
        raise ModelError(said, where, fix) from error
    except (OSError, ValueError, errors.RevisionResolutionError) as error:
        from huggingface_hub.constants import is_offline_mode

        offline = is_offline_mode()
        reason = "HF_HUB_OFFLINE is set" if offline else (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = f"{'Unset HF_HUB_OFFLINE' if offline else 'Check the network'}, or give the folder of a download."
        raise ModelError(f"The {what} is neither a folder nor in the cache.", f"{where}: {reason}", fix) from error


def check_files(folder: Path, name: str, *, weights: bool = True) -> None:
    """Refuse a folder that lacks files of a model.

    Args:
        folder: folder in which the files must be.
        name: name by which the user called the model.
        weights: whether the weights must be there too.

    Raises:
        ModelError: a file is missing; the value says which, and what is there.
    """
    has_config, there = (folder / "config.json").exists(), sorted(path.name for path in folder.iterdir())
    has_weights = any(item.endswith(".safetensors") and not item.startswith("adapter_") for item in there)
    if has_config and (has_weights or not weights):
        return
    missing = " and ".join(
        [*([] if has_config else ["config.json"]), *([] if has_weights else ["weights in safetensors"])]
    )
    fix = "Give the folder of a causal language model, with config.json, tokenizer and safetensors weights."
    if "adapter_config.json" in there and not has_config:
        fix = f"This is an adapter: write hf:<its base>+{name}."
    elif has_config and any(item.endswith((".bin", ".pt", ".pth")) for item in there):
        fix = "Save the model again with save_pretrained, which writes safetensors."
    held = listed(there) or "nothing"
    raise ModelError("The model cannot be loaded.", f"{name}: no {missing} in the folder, which holds {held}", fix)


_WEIGHTS = ("*.safetensors", "tokenizer.json", "config.json", "adapter_config.json", "adapter_model.bin")
_TEMPLATE = ("chat_template.jinja", "additional_chat_templates/*.jinja", "tokenizer_config.json")
"""Patterns of the files of a chat template, which also decide what a model sees. They are left out for embedded models,
whose template is part of the package's version, but not for adapters of them."""


def _template_text(name: str | None) -> str | None:
    """Return what tells a template from others.

    It is the text of a built-in one or a file. One of the model's own is known by its name, since its text is hashed
    with the model's files.
    """
    return name if name is None or (is_named(name) and name not in BUILT_IN) else read_template(name)


def identity(reference: str) -> str:
    """Return a short hash of everything that decides what a model answers.

    That is the weights (or the GGUF file), tokenizer, config and chat template, the text of a template in the
    reference, the revision's commit for a repository of the Hub, and the options other than the device.

    A remote model is known by its reference alone.

    Args:
        reference: reference to the model as text, as for `load_model`.

    Returns:
        16 hexadecimal digits; for a remote model its reference.

    Raises:
        UserError: the model or its adapter cannot be found, so nothing says which weights these are.
    """
    ref = ModelRef.parse(reference)
    if ref.kind == "api":
        return reference
    digest, packed, template = hashlib.sha256(), gguf_file(ref), _template_text(ref.template)
    base, adapter = None if packed else model_folder(ref, SMALL), adapter_folder(ref)
    if base is not None:
        digest.update(_content(base, _WEIGHTS if ref.kind == "ref" else _WEIGHTS + _TEMPLATE))
    if adapter is not None:
        digest.update(_content(adapter, _WEIGHTS + _TEMPLATE))
    if packed is not None:
        digest.update(bytes.fromhex(file_hash(packed)))
    # Two formats give two results; float32 that nobody asked for is what it always was.
    own = number_format(ref, base)
    ref = ref if own == "fp32" else replace(ref, dtype=own)
    if ref.system or ref.dtype:
        shown = replace(ref, name="-", adapter=None, revision=None, device=None, template=None)
        digest.update(str(shown).encode())
    if template is not None:
        digest.update(f"template:{template}".encode())
    return digest.hexdigest()[:16]


def _content(folder: Path, patterns: Sequence[str]) -> bytes:
    """Return a hash of each file of a folder, in the order of their names; of a folder of the Hub's cache its name."""
    if folder.parent.name == "snapshots":  # where a folder has the commit's name
        return folder.name.encode()
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    if not files:
        fix = "Give the folder that holds config.json and the weights as .safetensors."
        raise ModelError("This folder holds no file of a model.", folder, fix)
    hashes: list[bytes] = []
    for path in files:
        with path.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").digest())
    return b"".join(hashes)


def loaded_identity(ref: ModelRef) -> str:
    """Return the identity of a model that is loaded; one that was made in memory has no files, only its reference."""
    try:
        return identity(str(ref))
    except UserError:
        return str(ref)
