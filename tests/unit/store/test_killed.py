"""A run that is killed at any moment and started again gives the same bytes as one that never was."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undertow.store.artifacts import MANIFEST, read_artifact

SCRIPT = Path(__file__).with_name("killable.py")


def start(store: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(store), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(store: Path) -> None:
    process = start(store)
    process.communicate()
    assert process.returncode == 0


def payload(store: Path) -> dict[str, bytes]:
    """Return every payload file after verifying each artifact; temporary folders would show as further files."""
    for manifest in store.glob("*/*/manifest.json"):
        read_artifact(manifest.parent, manifest.parent.name)
    files = (path for path in store.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("never-killed")
    finish(store)
    files = payload(store)
    assert len(files) == 12 * 4
    return files


def leftovers(store: Path) -> list[Path]:
    return list(store.glob("*/.tmp-*"))


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(seed: int, never_killed: dict[str, bytes], tmp_path: Path) -> None:
    """Six kills, each one to seven files and up to 15 ms into a run."""
    moments = random.Random(seed)
    seen_leftovers = 0
    for _ in range(6):
        process = start(tmp_path, "--linger")
        assert process.stdout is not None
        for _ in range(moments.randint(1, 7)):
            process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.015))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        seen_leftovers += len(leftovers(tmp_path))
    assert seen_leftovers > 0, "no kill came while a stage was writing"
    finish(tmp_path)
    assert payload(tmp_path) == never_killed
    assert leftovers(tmp_path) == []


def test_killed_before_each_step_of_the_commit(never_killed: dict[str, bytes], tmp_path: Path) -> None:
    """A stage flushes four files, the manifest and two folders, with the rename in between: eight steps."""
    for step in range(1, 10):
        process = start(tmp_path, "--die-at", str(step))
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(tmp_path)
    assert payload(tmp_path) == never_killed
    assert leftovers(tmp_path) == []


def test_two_runs_at_once(never_killed: dict[str, bytes], tmp_path: Path) -> None:
    """Both succeed: the slower of two writers of the same stage takes the other's result."""
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    assert payload(tmp_path) == never_killed
    assert leftovers(tmp_path) == []
