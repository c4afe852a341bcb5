"""Which code made a result: library versions and the revision of the source."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("numpy", "peft", "safetensors", "scipy", "tokenizers", "torch", "transformers", "undertow")
"""Distributions that results depend on."""

_SOURCE = Path(__file__)


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the version of Python and of each installed library, without importing any of them."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def git_revision() -> str | None:
    """Return the commit of this package's source, with "-dirty" after it where tracked files were changed.

    None for a package that was not run from its repository, also when it lies inside somebody else's repository.
    """
    if not _git("ls-files", "--", _SOURCE.name):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_SOURCE.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
