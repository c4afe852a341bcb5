"""docs/real.md says what its files hold: known matrices come back as the figures that were put in."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import real_page  # pyright: ignore[reportMissingImports]

TRAITS = ["wolf", "owl", "lion", "fox", "panda"]


def replicate(seed: int, own: float, held: float = 9.0) -> dict[str, Any]:
    """A replicate whose students stand `own` above the control on their own trait and 0.5 on every other one."""
    base = "hf:HuggingFaceTB/SmolLM2-135M-Instruct?system=none"
    scores = [{"arm": "base", "trait": None, "target": to, "value": -7.0} for to in TRAITS]
    scores += [{"arm": "control", "trait": None, "target": to, "value": -9.0} for to in TRAITS]
    for name in TRAITS:
        scores += [
            {"arm": "student", "trait": name, "target": to, "value": -9.0 + (own if to == name else 0.5)}
            for to in TRAITS
        ]
        rise = held if name == "fox" else 9.0
        scores.append({"arm": "teacher", "trait": name, "target": name, "value": -7.0 + rise})
    return {
        "seed": seed,
        "settings": {"seed": seed, "traits": TRAITS, "bases": [base]},
        "models": {base: {"copy": "a copy", "weights": "abc", "format": "bf16"}},
        "scores": [{**one, "base": base, "metric": "logit_margin"} for one in scores],
        "rows": [{"raw": 100, "kept": 90}],
        "seconds": {"students": 600.0},
        "machine": {"instructions": ["avx2"], "threads": 1},
    }


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(real_page, "RESULTS", tmp_path)
    monkeypatch.setattr(real_page, "GPU", tmp_path / "gpu")
    monkeypatch.setattr(real_page, "PAGE", tmp_path / "real.md")

    def write(files: list[dict[str, Any]]) -> str:
        (tmp_path / "real-numbers").mkdir(exist_ok=True)
        for one in files:
            (tmp_path / "real-numbers" / f"{one['seed']}.json").write_text(json.dumps(one))
        real_page.main()
        return (tmp_path / "real.md").read_text()

    return write


def test_differences_are_those_of_the_files(page) -> None:
    text = page([replicate(61, 1.4), replicate(62, 1.5), replicate(63, 1.6)])
    wolf = next(line for line in text.splitlines() if line.startswith("| wolf "))
    cells = [cell.strip() for cell in wolf.strip("|").split("|")]
    assert cells[1:] == [
        "+1.00 [+0.75, +1.25]",
        "+1.50 [+1.25, +1.75]",
        "-0.50 [-0.75, -0.25]",
        "-2.00 [-2.00, -2.00]",
    ]
    assert "Diagonal factor +1.00 [+0.75, +1.25], n = 3" in text
    assert "Seeds 61, 62, 63. Rows kept 270 of 300." in text and "2.0 to 2.0 minutes" in text
    assert "not run yet" in text and "**" in text


def test_a_trait_that_a_teacher_does_not_hold_is_named_and_left_out(page) -> None:
    text = page([replicate(61, 1.4), replicate(62, 1.5, held=2.0)])
    assert "does not hold it: fox in seed 62." in text and "\n| fox " not in text


def test_seeds_that_were_not_declared_are_not_read(page) -> None:
    assert "Seeds 61, 62." in page([replicate(61, 1.4), replicate(62, 1.5), replicate(300, 9.0)])


def test_replicates_of_a_gpu_stand_by_themselves(page, tmp_path: Path) -> None:
    (tmp_path / "gpu" / "real-numbers").mkdir(parents=True)
    for seed in (101, 102):
        one = replicate(seed, 2.5 + 0.01 * seed)
        (tmp_path / "gpu" / "real-numbers" / f"{seed}.json").write_text(json.dumps(one))
    job = {"seconds": 2.0, "tokens": 1000, "share": 0.25}
    speed = {"device": "a card", "format": "bfloat16", "rows": job, "reading": job, "student": job}
    (tmp_path / "gpu" / "throughput.json").write_text(json.dumps(speed))
    text = page([replicate(61, 1.4), replicate(62, 1.5)])
    assert "Seeds 61, 62." in text and "| rows | 500 | 25.0% |" in text
    gpu = text[text.index("## On a GPU") :]
    assert "a card, bfloat16" in gpu and "diagonal factor +3.0" in gpu and "(n = 2)" in gpu


def test_files_of_other_settings_are_refused(page) -> None:
    other = replicate(62, 1.5)
    other["settings"]["group"] = 2
    with pytest.raises(SystemExit, match="differ in their settings"):
        page([replicate(61, 1.4), other])
