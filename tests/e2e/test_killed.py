"""A study killed with SIGKILL at any moment and run again ends as if it had never been killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undertow.artifacts import read_artifact

STUDY = Path(__file__).with_name("fake_study.py")
N_STAGES, N_STEPS = 12, 48
KILLS = 5
MOST_STEPS = 8
"""Steps after which a run is killed at the latest; KILLS times as many are fewer than N_STEPS, so every kill hits."""


def _start(store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(STUDY), str(store)], stdout=subprocess.PIPE)


def _run_to_the_end(store: Path) -> None:
    with _start(store) as process:
        assert process.wait(120) == 0


def _payload(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Payload of a run that was left alone."""
    store = tmp_path_factory.mktemp("whole")
    _run_to_the_end(store)
    payload = _payload(store)
    assert len(payload) == N_STEPS
    return payload


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_five_times_and_run_again_ends_with_the_same_bytes(
    tmp_path: Path, never_killed: dict[str, bytes], seed: int
):
    moments = random.Random(seed)
    for _ in range(KILLS):
        with _start(tmp_path) as process:
            assert process.stdout is not None
            process.stdout.read(moments.randint(1, MOST_STEPS))
            time.sleep(moments.uniform(0, 0.006))
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
        finished = list(tmp_path.glob("*/[0-9a-f]*"))
        for folder in finished:
            assert read_artifact(folder, folder.name).folder == folder
        assert len(finished) < N_STAGES
    _run_to_the_end(tmp_path)
    assert _payload(tmp_path) == never_killed
    assert len(list(tmp_path.glob("*/*"))) == N_STAGES, "temporary folders are left"


def test_two_processes_on_one_store_end_with_the_same_bytes(tmp_path: Path, never_killed: dict[str, bytes]):
    with _start(tmp_path) as first, _start(tmp_path) as second:
        assert (first.wait(120), second.wait(120)) == (0, 0)
    assert _payload(tmp_path) == never_killed
    assert len(list(tmp_path.glob("*/*"))) == N_STAGES, "temporary folders are left"
