"""Exceptions of Undertow, one tree.

    UndertowError                  our fault unless it is one of the children (exit code 3)
    +-- UserError                  the user can fix it (exit code 2); three sentences: what, value, fix
        +-- ConfigError            a setting is unknown or out of range (also a ValueError)
        +-- UnknownNameError       a trait, domain, model, recipe or key that does not exist (also a LookupError)
        +-- RowsError              a row file that cannot be read as rows (also a ValueError)
        +-- EmptyDataError         nothing is left to work on, with the reasons (also a ValueError)
        +-- ArtifactError          a stored artifact is corrupt, half-written or of another version
        +-- StorageError           no space left, read-only or missing folder
        +-- WorkerError            a stage that lost its worker process again and again
        +-- ModelError             a model that cannot be loaded or lacks what is asked of it
        +-- HubError               the Hub cannot be reached or refuses
        +-- MissingExtraError      an optional dependency is not installed (also an ImportError)

A message of `UserError` answers three questions in this order: what happened, which value caused it, what to do.
"""

import difflib
from collections.abc import Iterable, Sequence


class UndertowError(Exception):
    """Base of every exception that Undertow raises on purpose."""


class UserError(UndertowError):
    """An error that the user can fix. Its message has three sentences: what happened, the value, the fix.

    Attributes:
        what: one sentence that says what happened.
        value: the value that caused the error; shown as text.
        fix: one sentence that says what to do.
    """

    def __init__(self, what: str, value: object, fix: str) -> None:
        super().__init__(what, value, fix)
        self.what = what
        self.value = value
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.value}\n{self.fix}"


class ConfigError(UserError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class UnknownNameError(UserError, LookupError):
    """A name does not exist. `unknown_name` builds this error with the nearest valid names."""


class RowsError(UserError, ValueError):
    """A row file cannot be read as rows; the value names the file, the line and the reason."""


class EmptyDataError(UserError, ValueError):
    """No data is left to work on; the value says how much was dropped for which reason."""


class ArtifactError(UserError):
    """A stored artifact is corrupt, half-written or written by another version."""


class StorageError(UserError):
    """The disk is full, the folder is read-only or does not exist."""


class WorkerError(UserError):
    """A stage could not be finished because the process that worked on it died."""


class ModelError(UserError):
    """A model cannot be loaded, or lacks a capability that was asked of it."""


class HubError(UserError):
    """The Hugging Face Hub cannot be reached, or refuses what is sent."""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is not installed."""


def out_of_memory(error: Exception, value: object) -> ModelError | None:
    """Build the error for a machine or a GPU whose memory is used up; None if the exception means something else.

    Args:
        error: the exception that was raised. Torch has a class of its own for a full GPU; a full machine shows only in
            the words of a RuntimeError.
        value: what did not fit into the memory, as shown in the message.
    """
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    if not said and not isinstance(error, MemoryError):
        return None
    fix = "Use ?dtype=bf16, smaller batches or groups, a smaller model or a larger machine; what is finished is kept."
    return ModelError("The memory is used up.", value, fix)


EXTRAS = {
    "torch": "train",
    "transformers": "train",
    "tokenizers": "train",
    "safetensors": "train",
    "peft": "train",
    "accelerate": "train",
    "matplotlib": "report",
    "sklearn": "detect",
    "uvicorn": "monitor",
    "httpx2": "api",
    "datasets": "data",
    "pyarrow": "data",
    "gguf": "gguf",
}
"""The extra of undertow that installs a package, by the package's import name."""


def missing_extra(error: Exception) -> MissingExtraError | None:
    """Build the error for an optional package that is not installed; None if the exception means something else."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in EXTRAS:
        return None
    return MissingExtraError("This needs an optional package.", name, f"Run: pip install 'undertow[{EXTRAS[name]}]'")


def listed(names: Sequence[str], most: int = 6) -> str:
    """Join names for a message, at most `most` of them, and say how many more there are.

    A name that cannot be printed is escaped and put in quotes.
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if name and name.isprintable() else ascii(name) for name in names[:most]) + rest


def unknown_name(kind: str, name: object, valid: Iterable[object]) -> UnknownNameError:
    """Build the error for a name that does not exist, with the nearest valid ones.

    Args:
        kind: what the name stands for, such as "trait".
        name: the name that was given. It may be a number or None, since YAML parses unquoted values.
        valid: all names that exist; the message lists them or the nearest ones.
    """
    names = sorted(map(str, valid))
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    fix = f"Did you mean {', '.join(near)}?" if near else f"Valid names: {', '.join(names)}."
    return UnknownNameError(f"There is no {kind} of this name.", name, fix)
