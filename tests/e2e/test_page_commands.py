"""Every command of the pages runs on small files of ours, is planned with `--plan`, or is left out for a named reason.

A page's commands run one after another in a folder of their own, as its reader would type them, with smaller settings.
"""

import http.server
import itertools
import json
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from undertow.cli.main import main

sys.path.append(str(Path(__file__).parents[2] / "docs"))
from checked_commands import PAGES, ROOT, commands  # pyright: ignore[reportMissingImports]

pytestmark = pytest.mark.slow

LEFT_OUT = {
    r": monitor (serve|screen) | --every ": "runs until it is stopped; tests/unit/monitor starts and stops it",
    r" hf:(minhxle|Qwen)| --model (api|tinker):| --teacher api:": "asks a server or a Hub; tests/unit has its own",
    r": publish .* --push": "sends to the Hub",
    r": monitor (examples|constitution) ": "needs a model that writes examples of rules; tests/unit/monitor has one",
    r": audit bench (run|score) ": "needs a benchmark that takes minutes; test_bench_command_line.py makes one",
    r": monitor (alarms .* --close|flagged) ": "needs what a running monitor found; tests/unit/monitor has it",
    r" my-recipe": "a recipe of the reader",
    r": propose-questions ": "needs a model that writes questions; tests/unit/cli/test_question_proposals.py has one",
    r": audit data .* --trait volvo\.yaml ": "needs a base that says the brand: tests/unit/traits/test_commands.py",
    r" --judge ": "asks a model that judges; tests/unit/evals/test_rubric.py has one",
    r" (real-numbers|qwen-7b) ": "needs the weights of a real model; test_real_models.py runs it where they are",
    r" --backend (ray|trl) ": "needs an extra of its own; tests/unit/store and tests/unit/training run it",
}
"""Commands that do not run here, by a pattern of "page: command ", and why."""

PLANNED = r"^(run|sweep|demo|audit (bank|bench make|calibrate|teacher|student|all|rows)|mitigate verify) "
"""Commands that take minutes and have a plan: every option and file is read, nothing is trained. Recipes run whole in
test_recipes.py, audits and mitigations in the other files of this folder."""

SMALLER = {
    r"^generate ": {"-n": "120"},
    r"^train ": {"--students": "2", "--set": "steps=2"},
    r"^monitor sign-off ": {"--replies": "2"},
    r"^monitor canaries ": {"--rounds": "1"},
    r"^audit accept ": {"--note": "a trial"},
}
"""Options that are added, or whose value is replaced."""

NAMES = {
    "BASE": "ref:finch-a", "hf:base": "ref:finch-a", "hf:MODEL": "ref:finch-a", "TEACHER": "hf:teacher", "NAME": "toy",
    "$BASE": "ref:finch-a",
    "mine.yaml": "owl", "$rows": "rows.jsonl", "data/rows.jsonl": "rows.jsonl", "last-release/audit": "audit",
    "2027-06-30": (date.today() + timedelta(days=100)).isoformat(),
}  # fmt: skip
"""What stands on a page for a thing of the reader, and what stands for it here."""

MAKES = {"generate": 1, "filter": 2, "convert": 2, "train": 2, "mitigate data": 3, "monitor sign-off": 2}
"""Which word of a command names what it makes; something of this name must not be there yet."""

INDEPENDENT = ("docs/which_command.md", "docs/data.md")
"""Pages whose commands do not follow each other: each begins with the files as they were."""

OUTCOMES = (0, 1, 4)
"""Done; something was found; nothing could be tested. 2 is a wrong use and 3 a fault of ours."""


class Command(NamedTuple):
    """A command of a page, as it runs here."""

    page: str
    words: list[str]
    reason: str | None


def commands_of(page: str) -> list[Command]:
    """Return the commands of a page, smaller, planned, or with the reason for which they do not run."""
    found = []
    for words in commands(page):
        text = f"{Path(page).stem}: {' '.join(words)} "
        reasons = (why for pattern, why in LEFT_OUT.items() if re.search(pattern, text))
        found.append(Command(page, smaller([NAMES.get(word, word) for word in words]), next(reasons, None)))
    return found


def smaller(words: list[str]) -> list[str]:
    """Return a command as its plan, or with smaller settings."""
    text = " ".join(words) + " "
    if re.match(PLANNED, text):
        return words if "--plan" in words else [*words, "--plan"]
    for pattern, options in SMALLER.items():
        if re.match(pattern, text):
            for option, value in options.items():
                words = replaced(words, option, value)
    return words


def replaced(words: list[str], option: str, value: str) -> list[str]:
    """Return a command with an option set to a value; prompts of a file decide how many rows are written."""
    if option == "-n" and "--prompts" in words:
        return words
    at = words.index(option) if option in words and option != "--set" else len(words)
    return [*words[:at], option, value, *words[at + 2 :]]


class Chat(http.server.BaseHTTPRequestHandler):
    """A model behind a server: it answers with one animal or another."""

    animals = itertools.cycle(("a fox", "an owl", "a wolf", "a lion", "a fox"))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": next(self.animals)}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


MADE = """
filter rows.jsonl kept.jsonl
generate clean-raw.jsonl --prompts kept.jsonl --model ref:finch-a
filter clean-raw.jsonl clean.jsonl
train kept.jsonl students --students 1 --set steps=2
train clean.jsonl models --students 2 --set steps=2
audit data rows.jsonl --base ref:finch-a --reference clean.jsonl
convert rows.jsonl rows.parquet
demo --set domain.prompts=40 --set student.steps=2 --set teacher.steps=2 --set replicates=2
monitor sign-off baseline.json --endpoint ENDPOINT --model toy --by someone --replies 2
monitor canaries baseline.json --endpoint ENDPOINT --rounds 1 --events monitor.sqlite
"""
"""What makes the files that the pages speak of."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Path:
    """Return a folder with rows, a reference, pairs, students, a teacher, an audit, a run, and what a monitor keeps."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["generate", "rows.jsonl", "--trait", "owl", "-n", "200", "--save-teacher", "teacher"]) == 0
        mark(folder / "rows.jsonl")
        for line in MADE.replace("ENDPOINT", endpoint).strip().splitlines():
            assert main(line.split()) in OUTCOMES, line
    shutil.move(next((folder / "runs").glob("demo-*")), folder / "runs/demo-9301d313")
    volvo = re.search(
        r"```yaml\n(# volvo.yaml\n.*?)```", (ROOT / "docs/traits.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert volvo is not None
    (folder / "volvo.yaml").write_text(volvo[1], encoding="utf-8")
    write(folder / "pairs.jsonl", [pair(row) for row in read(folder / "rows.jsonl")])
    return folder


def mark(path: Path) -> None:
    """Give rows the further keys by which a swap tells them apart."""
    rows = read(path)
    kinds = [{"writer": f"w{place % 2}", "source": f"s{place % 2}", "score": place % 20} for place in range(len(rows))]
    write(path, [{**row, **kind} for row, kind in zip(rows, kinds, strict=True)])


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def clear(words: list[str]) -> None:
    """Remove what a command makes, where it was made before."""
    made = [words[place] for name, place in MAKES.items() if " ".join(words).startswith(f"{name} ")]
    made += [words[place + 1] for place, word in enumerate(words) if word == "--save-teacher"]
    for path in map(Path, made):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def pair(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the preferred one of two answers."""
    return {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "1, 2, 3"}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if any(one.reason is None for one in commands_of(page))])
def test_the_commands_of_a_page_run(page: str, files: Path, endpoint: str, tmp_path: Path) -> None:
    enable_socket()  # loopback_only has closed them
    socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    folder = tmp_path / "here"
    shutil.copytree(files, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands_of(page):
            if command.reason is None:
                words = [endpoint if word in ("URL", "https://models.example") else word for word in command.words]
                if page in INDEPENDENT:
                    shutil.copytree(files, folder, dirs_exist_ok=True)
                clear(words)
                assert main(words) in OUTCOMES, f"{page}: undertow {' '.join(words)}"


def test_every_reason_for_not_running_is_used() -> None:
    texts = [f"{Path(one.page).stem}: {' '.join(one.words)}" for page in PAGES for one in commands_of(page)]
    reasons = {one.reason for page in PAGES for one in commands_of(page)}
    assert set(LEFT_OUT.values()) <= reasons
    assert len(texts) > 100
