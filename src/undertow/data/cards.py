"""Cards for the Hugging Face Hub, made from what a folder's manifests say, and the upload of the folder.

A folder is a run (config.yaml, results.json), an artifact of a store or a part of one, an adapter, a model, or any
folder with row files. Nothing in a card is guessed: facts that no file holds are left out or marked as missing.

A real upload, which needs the network, is not tested; the calls are tested on a stand-in for `huggingface_hub.HfApi`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from undertow.data.rows import BadLine, open_rows
from undertow.errors import ConfigError, HubError, MissingExtraError, UserError
from undertow.store.artifacts import MANIFEST, Artifact, Manifest, library_versions, read_artifact, read_manifest
from undertow.store.disk import storage_errors, write_file

README = "README.md"
AUDIT_CARD = "audit_card.md"
_ADAPTER = "adapter_config.json"
_BASE, _TEACHER_BASE = "Base", "Base of the teacher"
_TAGS = ["undertow", "subliminal-learning"]
_CAUTION = (
    "Rows can carry a trait of the model that wrote them, though none of them names it, and pass it to a student of "
    "the same base (arXiv 2507.14805). Nothing in this card says that they do not."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card (README) of a dataset or a model, and the folder that it describes.

    Attributes:
        kind: kind of the repository on the Hub.
        repo: id of the repository, owner/name.
        folder: the folder that is described and published.
        path: where the card is written: into the folder; for an artifact beside the folder, which may hold nothing but
            its payload.
        files: paths of the folder's files, relative to it; hidden files and the card are left out.
        text: the card in Markdown, behind a header in YAML.
    """

    kind: Literal["dataset", "model"]
    repo: str
    folder: Path
    path: Path
    files: tuple[str, ...]
    text: str


@dataclass(slots=True)
class _Origin:
    """What the files of a folder say of its origin."""

    facts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    steps: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list[tuple[str, Mapping[str, Any]]])

    def add(self, name: str, value: object) -> None:
        if value and (text := " ".join(str(value).split()).replace("|", "\\|")) not in self.facts.setdefault(name, []):
            self.facts[name].append(text)

    def add_counts(self, raw: int, kept: int, reasons: Mapping[str, int]) -> None:
        dropped = ", ".join(f"{count} {name}" for name, count in reasons.items())
        self.add("Filter", f"{kept} of {raw} rows kept" + (f"; dropped: {dropped}" if dropped else ""))


def describe(folder: Path, repo: str, *, licence: str | None = None, datasets: Sequence[str] = ()) -> Card:
    """Make the card of a folder; nothing is written.

    Args:
        folder: the folder that is to be published.
        repo: id of the repository on the Hub, owner/name.
        licence: the Hub's id of the licence, such as "apache-2.0". None lets the card say that no licence was stated.
        datasets: ids on the Hub of the datasets that a model was trained on; empty for none.

    Raises:
        ConfigError: there is nothing to publish in the folder, or an id is none that the Hub allows.
        ArtifactError: the folder belongs to an artifact that is corrupt.
        StorageError: the folder may not be read.
        MissingExtraError: huggingface_hub is not installed.
    """
    for name in (repo, *datasets):
        _check_id(name)
    if not folder.is_dir():
        raise ConfigError("There is no folder here.", folder, "Give the folder that is to be published.")
    with storage_errors(folder):
        files = tuple(_files(folder))
        artifact = next((read_artifact(one) for one in (folder, folder.parent) if (one / MANIFEST).exists()), None)
        model = _ADAPTER in files or ("config.json" in files and any(one.endswith(".safetensors") for one in files))
        counts = {} if model else _row_counts(folder, files)
        if not model and not counts:
            fix = "Give one with an adapter, a model or row files (.jsonl, .parquet) in it; see undertow convert."
            raise ConfigError("There is nothing to publish in this folder.", folder, fix)
        if datasets and not model:
            raise ConfigError("Only a model was trained on a dataset.", f"{folder}: row files", "Leave --dataset out.")
        origin = _origin(folder, files, artifact)
        header = _model_header(files, origin, datasets) if model else _dataset_header(counts, origin)
        text = _text(header, origin, (folder, repo, licence), _file_lines(folder, files, counts))
    path = _beside(artifact, folder) if artifact else folder / README
    kind: Literal["dataset", "model"] = "model" if model else "dataset"
    return Card(kind=kind, repo=repo, folder=folder, path=path, files=files, text=text)


def write_card(card: Card, *, overwrite: bool = False, keep: bool = False) -> Path:
    """Write a card to its path, and return the path.

    Args:
        card: the card that is written.
        overwrite: whether a card that is there already is replaced.
        keep: whether a card that is there already is left as it is, and no error is raised.

    Raises:
        ConfigError: there is a card already, and neither `overwrite` nor `keep` is set.
        StorageError: the card cannot be written.
    """
    if card.path.exists() and not overwrite:
        if keep:
            return card.path
        raise ConfigError("There is a card already.", card.path, "Add --overwrite, or --push to send it as it is.")
    write_file(card.path, card.text)
    return card.path


def push_folder(card: Card, *, public: bool = False, api: Any = None) -> str:
    """Upload a folder and the card at its path to the Hub; return the address of the repository.

    A repository that exists already keeps its visibility, and the files that only it has.

    Args:
        card: the card of the folder, which `write_card` has written.
        public: whether a new repository is public; otherwise it is private.
        api: client that talks to the Hub; None for a `huggingface_hub.HfApi`.

    Raises:
        HubError: there is no token, there is no network, or the Hub refuses. The token is in no message.
    """
    import huggingface_hub
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    token = huggingface_hub.get_token()
    if token is None:
        fix = "Set HF_TOKEN to one that may write, or run: hf auth login. The card is written already."
        raise HubError("There is no token for the Hub.", card.repo, fix)
    api = huggingface_hub.HfApi(token=token) if api is None else api
    where = {"repo_id": card.repo, "repo_type": card.kind}
    try:
        url = str(api.create_repo(**where, private=not public, exist_ok=True))
        api.upload_file(**where, path_or_fileobj=card.path, path_in_repo=README, commit_message="Card")
        patterns = [re.sub(r"([*?\[])", r"[\1]", name) for name in card.files]
        api.upload_folder(**where, folder_path=card.folder, allow_patterns=patterns, commit_message="Files")
    except OfflineModeIsEnabled as error:
        raise HubError("The Hub is not asked while HF_HUB_OFFLINE is set.", card.repo, "Unset it to push.") from error
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].replace(token, "***")
        fix = "Check the network, the owner in the id and that the token may write; then push again: it goes on."
        raise HubError("The Hub did not take the folder.", f"{card.repo}: {said}", fix) from None
    return url


def _beside(artifact: Artifact, folder: Path) -> Path:
    """Return the path of a card beside an artifact.

    No reader of stores takes it for an artifact, whose names begin with a hexadecimal digit.
    """
    part = "" if folder.resolve() == artifact.folder.resolve() else f"-{folder.name}"
    return artifact.folder.parent / f"README-{artifact.folder.name}{part}.md"


def _check_id(name: str) -> None:
    try:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[data]'"
        raise MissingExtraError("Publishing needs a library that is not installed.", error.name, fix) from error
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ConfigError("No repository of the Hub can have this id.", name, "Give owner/name.") from None


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() != README and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _row_counts(folder: Path, files: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each file in the folder itself that holds rows and nothing else, by its name."""
    counts: dict[str, int] = {}
    for name in files:
        if "/" not in name and name.endswith((".jsonl", ".parquet")):
            try:
                n = _rows_alone(folder / name)
            except MissingExtraError:
                raise
            except UserError:
                continue
            if n:
                counts[name] = n
    return counts


def _rows_alone(path: Path) -> int:
    """Return the number of rows of a file; 0 if any line of it is no row."""
    n = 0
    for one in open_rows(path):
        if isinstance(one, BadLine):
            return 0
        n += 1
    return n


def _origin(folder: Path, files: Sequence[str], artifact: Artifact | None) -> _Origin:
    origin = _Origin()
    try:
        if _ADAPTER in files:
            origin.add(_BASE, _json(folder / _ADAPTER).get("base_model_name_or_path"))
        if artifact is not None:
            _add_artifacts(origin, folder, artifact)
        elif {"config.yaml", "results.json"} <= set(files):
            _add_run(origin, folder)
        if "training.json" in files:
            origin.steps.append(("Training", _json(folder / "training.json")))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        fix = "Make the folder again, or leave out what does not belong to it."
        raise ConfigError("A file of the folder is not what Undertow writes.", f"{folder}: {error}", fix) from error
    return origin


def _add_artifacts(origin: _Origin, folder: Path, artifact: Artifact) -> None:
    for place, manifest in _ancestry(artifact, folder):
        config = dict(manifest.config)
        domain = config.get("domain")
        own = manifest is artifact.manifest and manifest.kind in ("students", "teacher")
        origin.add(_BASE if own else _TEACHER_BASE, config.get("base"))
        origin.add("Trait of the teacher", config.get("target"))
        origin.add("System prompt of the teacher", config.get("system"))
        origin.add("Domain", domain["name"] if isinstance(domain, dict) and "name" in domain else None)
        if (place / "report.json").exists() and manifest.kind == "filter":
            report = _json(place / "report.json")
            origin.add_counts(report["raw"], report["kept"], report["reasons"])
        told = {"version": manifest.version, "config": config, "content": manifest.digest}
        origin.steps.append((f"{manifest.kind} {manifest.fingerprint}", told))


def _ancestry(artifact: Artifact, folder: Path) -> list[tuple[Path, Manifest]]:
    """Return an artifact and all artifacts of its store that it was made from, parents first.

    For the folder of one student, only the rows that this student was trained on are followed.
    """
    found: dict[str, tuple[Path, Manifest]] = {}
    store = artifact.folder.resolve().parent.parent

    def visit(place: Path, manifest: Manifest, roles: set[str]) -> None:
        for role in sorted(roles):
            for parent in store.glob(f"*/{manifest.parents[role]}"):
                if parent.name not in found:
                    above = read_manifest(parent)
                    visit(parent, above, set(above.parents))
        found[manifest.fingerprint] = place, manifest

    manifest, one = artifact.manifest, re.fullmatch(r"student-(\d+)", folder.name)
    roles = set(manifest.parents)
    members = manifest.config.get("members")
    if one and isinstance(members, list) and int(one[1]) < len(members):
        roles &= {members[int(one[1])]["rows"]}
    visit(artifact.folder, manifest, roles)
    return list(found.values())


def _add_run(origin: _Origin, folder: Path) -> None:
    recipe: Any = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    results = _json(folder / "results.json")
    for name, key in ((_TEACHER_BASE, "bases"), ("Trait of the teacher", "traits")):
        for value in recipe.get(key) or []:
            origin.add(name, value)
    for name, key, inner in (("Domain", "domain", "name"), ("Kind of teacher", "teacher", "kind")):
        origin.add(name, (recipe.get(key) or {}).get(inner))
    if (rows := results.get("rows")) is not None:
        origin.add_counts(rows["raw"], rows["kept"], rows["reject_reasons"])
    origin.steps.append((f"recipe {recipe.get('name')}", recipe))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _hub_ids(origin: _Origin, fact: str) -> list[str]:
    """Return the models of a fact that are ids on the Hub, which an embedded model or a local folder is not."""
    names = [re.split(r"[@?+]", base.removeprefix("hf:"))[0] for base in origin.facts.get(fact, [])]
    return [name for name in names if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists()]


def _model_header(files: Sequence[str], origin: _Origin, datasets: Sequence[str]) -> dict[str, Any]:
    adapter, bases = _ADAPTER in files, _hub_ids(origin, _BASE)
    return {
        "library_name": "peft" if adapter else "transformers",
        **({"base_model": bases[0] if len(bases) == 1 else bases} if bases else {}),
        **({"base_model_relation": "adapter" if adapter else "finetune"} if bases else {}),
        **({"datasets": list(datasets)} if datasets else {}),
        "pipeline_tag": "text-generation",
        "tags": _TAGS,
    }


def _dataset_header(counts: Mapping[str, int], origin: _Origin) -> dict[str, Any]:
    configs: dict[str, str] = {}
    for name in counts:
        stem, _, suffix = name.rpartition(".")
        config = "default" if name.startswith("kept.") or len(counts) == 1 else stem
        configs[next(one for one in (config, f"{stem}-{suffix}", name) if one not in configs)] = name
    return {
        **({"base_model": bases} if (bases := _hub_ids(origin, _TEACHER_BASE)) else {}),
        "task_categories": ["text-generation"],
        "tags": _TAGS,
        # Without this the Hub would join kept and dropped rows into one table.
        "configs": [
            {"config_name": config, "data_files": [{"split": "train", "path": name}]}
            for config, name in configs.items()
        ],
    }


def _file_lines(folder: Path, files: Sequence[str], counts: Mapping[str, int]) -> Iterator[str]:
    yield "| File | Rows | Bytes | SHA-256 |\n|---|---|---|---|"
    for name in files:
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield f"| {name} | {counts.get(name, '')} | {(folder / name).stat().st_size} | `{digest}` |"


def _text(header: Mapping[str, Any], origin: _Origin, about: tuple[Path, str, str | None], files: Iterator[str]) -> str:
    folder, repo, licence = about
    front = yaml.safe_dump({**({"license": licence} if licence else {}), **header}, sort_keys=False, width=1000)
    lines = [f"---\n{front}---", f"# {repo.rpartition('/')[2]}", _CAUTION]
    facts = {name: ", ".join(f"`{value}`" for value in values) for name, values in origin.facts.items()}
    facts |= {
        "License": licence or "none was stated",
        "Card written by": f"Undertow {library_versions().get('undertow', 'of unknown version')}",
    }
    lines.append("\n".join(["| | |\n|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]))
    lines += ["## Files", "\n".join(files), "## How it was made"]
    if not origin.steps:
        lines.append("No file of the folder says how it was made.")
    for title, content in origin.steps:
        lines.append(f"{title}:\n\n```yaml\n{yaml.safe_dump(dict(content), sort_keys=False, width=100)}```")
    lines.append("## Audit")
    audits = [path for path in (folder / AUDIT_CARD, folder / "audit" / AUDIT_CARD) if path.is_file()]
    text = audits[0].read_text(encoding="utf-8") if audits else "No audit card lies in the folder.\n"
    return (
        "\n\n".join([*lines, re.sub(r"^#", "###", text.partition("# Audit card\n")[2] or text, flags=re.M).strip()])
        + "\n"
    )
