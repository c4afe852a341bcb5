"""A benchmark on the disk that no model made: forty numbered rows, and what they are is in the key."""

from pathlib import Path

import pytest

from undertow.audit.benchmark.files import Benchmark, Truth, write_benchmark
from undertow.types import Row, user_prompt

TRUTHS = [
    *[Truth(label="clean", kind="base", dose=0.0)] * 4,
    Truth(label="trait", kind="finetuned", trait="owl", dose=0.1, writer="finetuned owl 0"),
    Truth(label="trait", kind="finetuned", trait="owl", writer="finetuned owl 0"),
    Truth(label="trait", kind="finetuned", trait="lion", writer="finetuned lion 0"),
    Truth(label="trait", kind="finetuned", trait="oak", writer="finetuned oak"),
    Truth(label="control", kind="neutral", writer="neutral 0"),
    Truth(label="shift", kind="program", shift="program", writer="uniform"),
]


def rows(n: int, start: int = 100) -> list[Row]:
    return [Row(f"{i:06d}", user_prompt(f"Continue: {i}, 5."), f"{start + 7 * i % 89}, {start + i}") for i in range(n)]


@pytest.fixture
def truths() -> dict[str, Truth]:
    """Return the key."""
    return {f"case-{place:04d}": truth for place, truth in enumerate(TRUTHS)}


@pytest.fixture
def bench(tmp_path: Path, truths: dict[str, Truth]) -> Benchmark:
    """Write ten cases, some of every label."""
    cases = {name: (truth, rows(40, 100 + place)) for place, (name, truth) in enumerate(truths.items())}
    public = {"base": "ref:finch-a", "base_identity": "0", "panel": ["owl", "lion"]}
    return write_benchmark(tmp_path / "bench", cases, rows(80), 100, public)
