"""Every Python block of the pages runs here, in another test that is named, or not at all for a named reason."""

import re
import sys
from pathlib import Path

import pytest

from undertow.cli.main import main

sys.path.append(str(Path(__file__).parents[2] / "docs"))
from checked_commands import PAGES, ROOT  # pyright: ignore[reportMissingImports]

ELSEWHERE = {
    ("docs/api.md", 0): "tests/unit/test_front_door.py",
    **{("docs/extend.md", place): "tests/unit/test_extend.py" for place in range(6)},
    ("docs/training.md", 1): "needs a bank of placebo students; tests/unit/audit/test_callback.py has one",
}
SMALLER = {
    '"seed=7"]': '"seed=7", "replicates=2", "domain.prompts=60", "student.steps=3", "cross_bases=[ref:finch-b]"]',
    "numbers.prompts(2000, seed=1)": "numbers.prompts(80, seed=1)",
    "steps=160": "steps=4",
    '"HuggingFaceTB/SmolLM2-135M-Instruct"': '"teacher"',
    "max_steps=200": "max_steps=6, use_cpu=True, per_device_train_batch_size=2",
    "every=50": "every=3",
    "margin=2.0": "margin=50.0",
}
"""What stands in a block, and what stands there for a run of seconds."""


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


ALL = [(page, place) for page in PAGES for place in range(len(blocks(page)))]


def test_what_runs_elsewhere_is_still_on_the_pages() -> None:
    assert set(ELSEWHERE) <= set(ALL)
    tests = {where for where in ELSEWHERE.values() if " " not in where}
    assert all((ROOT / where).exists() for where in tests)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "place"), [one for one in ALL if one not in ELSEWHERE])
def test_a_block_runs(page: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = blocks(page)[place]
    if "trl" in text:
        pytest.importorskip("trl", reason="the block needs the extra trl")
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "kept.jsonl", "--trait", "owl", "-n", "12", "--save-teacher", "teacher"]) == 0
    for whole, small in SMALLER.items():
        text = text.replace(whole, small)
    exec(compile(text, page, "exec"), {"__name__": "example"})
