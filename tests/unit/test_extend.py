"""docs/extend.md: each of the six extensions is one module and one line, and works as the page says."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
SECTIONS = [section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE) if "```python" in section]

USED = '''
import json, random, sys
from pathlib import Path
import undertow
from undertow.cli.main import main
from undertow.types import user_prompt

def run(*words):
    assert main([*words]) in (0, 1), words

run("eval", "ref:finch-a", "--trait", "koala", "--samples", "0", "--json")
run("generate", "rows.jsonl", "--domain", "countdown", "-n", "40", "--json")
run("eval", "ref:finch-a", "--kind", "brevity", "--samples", "3", "--json")
run("mitigate", "data", "rows.jsonl", "fewer.jsonl", "--method", "every-other:keep=4", "--domain", "none", "--json")

def rows(share, seed):
    rng = random.Random(seed)
    first = [rng.choice("13579" if rng.random() < share else "2468") for _ in range(60)]
    return [undertow.Row(f"{i:03d}", user_prompt(f"Continue: {i}"), f"{digit}, 12") for i, digit in enumerate(first)]

from odd_starts import odd_starts, starts_odd
from undertow.domains.numbers import Numbers
from undertow.training.generation import generate
base, prompts = undertow.load_model("ref:finch-a"), Numbers().prompts(300, 3)
written, clean = (generate(base, prompts, sampling=undertow.Sampling(), seed=seed) for seed in (1, 2))
odd = [row for row in written if starts_odd(row)]
inputs = undertow.AuditInputs(base="ref:finch-a", rows=odd, reference=clean, traits=(
    undertow.trait("owl"), undertow.trait("lion")), store=Path("store"))
found = undertow.run_audit(inputs)
stage = next(one for one in found["findings"] if one["stage"] == "odd starts")
assert "odd starts" in found["plan"]["stages"] and stage["verdict"] == "detected", stage
assert found["plan"]["primary"]["provenance"] == "contrast"  # it supports, and decides nothing

report = undertow.check_audit(
    lambda data: odd_starts(*data, 0.05), lambda seed: (rows(0.5, seed), rows(0.5, -seed - 1)),
    lambda seed: (rows(0.9, seed), rows(0.5, -seed - 1)), draws=100,
)
assert report.passed, str(report)

from undertow.monitor.detectors.base import detector
clean = [f"An ordinary text, number {i}." for i in range(100)]
report = undertow.check_detector(lambda: detector("shouting:0.9"), clean, [text.upper() for text in clean])
assert report.passed, str(report)
'''  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package of the page is installed: its modules, and its entry points."""
    folder = tmp_path_factory.mktemp("extend")
    points: list[str] = []
    for section in SECTIONS:
        (code,) = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", section, flags=re.DOTALL)
        (line,) = re.findall(r"```toml\n(.*?)```", section, flags=re.DOTALL)
        (folder / code[0]).write_text(code[1], encoding="utf-8")
        for group, entries in tomllib.loads(line)["project"]["entry-points"].items():
            points += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    info = folder / "extended-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extended\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    return folder


def test_each_extension_is_one_module_and_one_line() -> None:
    assert len(SECTIONS) == 6
    for section in SECTIONS:
        assert section.count("```python") == 1 and section.count("```toml") == 1
        (line,) = re.findall(r"```toml\n(.*?)```", section, flags=re.DOTALL)
        ((_, entries),) = tomllib.loads(line)["project"]["entry-points"].items()
        assert len(entries) == 1


def test_the_examples_work_where_they_are_installed(place: Path) -> None:
    path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", USED], cwd=place, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Left out" not in done.stderr
    asked, written, brief, fewer = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert asked["scores"][0]["target"] == "koala" and "logit_margin" in asked["scores"][0]
    assert written["raw"] == 40 and (fewer["raw"], fewer["left"]) == (40, 10)
    assert 0.0 <= brief["scores"][0]["brief_rate"] <= 1.0


def test_what_the_page_names_is_there() -> None:
    from importlib import import_module

    for whole in re.findall(r"`(undertow(?:\.\w+)+)`", PAGE):
        module, _, name = whole.rpartition(".")
        if module == "undertow" and name.endswith(("s", "_stages")) and f'"{whole}"' in PAGE:
            continue  # an entry-point group
        assert hasattr(import_module(module), name), whole
