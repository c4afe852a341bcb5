"""docs/schemas.md names every kind of JSON that the code writes, and the keys that a run really has."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/schemas.md").read_text(encoding="utf-8")
KIND = re.compile(r"undertow\.[a-z-]+/[0-9]+")


def test_the_page_names_every_schema_and_no_other() -> None:
    code = [path for folder in ("src", "scripts") for path in (ROOT / folder).rglob("*.py")]
    written = {kind for path in code for kind in re.findall(r'"(undertow\.[a-z-]+/[0-9]+)"', path.read_text("utf-8"))}
    assert set(KIND.findall(PAGE)) == written


def test_the_keys_of_a_run_are_those_of_the_page() -> None:
    section = PAGE.split("## A study")[1].split("## An audit")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    described = {key for cell in first for key in re.findall(r"`(\w+)`", cell)}
    run = json.loads((ROOT / "results/figures/demo/results.json").read_text(encoding="utf-8"))
    assert described | {"schema"} == set(run)
