"""Where the code came from is told without importing the libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

from undertow.store import artifacts as provenance


@pytest.fixture(autouse=True)
def fresh():
    """Forget what an earlier test found."""
    provenance.git_revision.cache_clear()
    provenance.library_versions.cache_clear()
    yield
    provenance.git_revision.cache_clear()
    provenance.library_versions.cache_clear()


def test_versions_are_told_without_importing_torch():
    code = (
        "import sys; from undertow.store.artifacts import library_versions as v; print(sorted(v())); "
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'python'" in done.stdout
    assert "'numpy'" in done.stdout


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance, "LIBRARIES", ("no-such-distribution",))
    assert set(provenance.library_versions()) == {"python"}


def test_revision_is_a_commit_of_its_own_repository_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Untracked source (an installed package within somebody's repository) has none; tracked source has a commit."""
    source = tmp_path / "provenance.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_SOURCE", source)

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert provenance.git_revision() is None
    provenance.git_revision.cache_clear()
    git("init")
    assert provenance.git_revision() is None
    provenance.git_revision.cache_clear()
    git("add", ".")
    git("commit", "-m", "first")
    revision = provenance.git_revision()
    assert revision is not None
    assert len(revision) == 40
    provenance.git_revision.cache_clear()
    source.write_text("x = 2\n")
    assert provenance.git_revision() == f"{revision}-dirty"


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_revision() is None
