"""`undertow convert` and `undertow publish`, and tables wherever a command takes a row file."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from undertow.audit.rows.legibility import Legibility
from undertow.audit.rows.sight import Sight
from undertow.cli.audits import digest_of_content
from undertow.cli.main import main
from undertow.data.kept_rows import KeptRows
from undertow.data.rows import load_rows, open_rows, read_rows, write_rows
from undertow.store.fingerprints import canonical_json, sha256
from undertow.types import Row, user_prompt


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Three rows with further keys, in two shapes, and one bad line."""
    path = tmp_path / "given.jsonl"
    rows = [Row(str(at), user_prompt(f"{at}?", "Be kind." if at else None), f"{at}\n") for at in range(3)]
    write_rows(path, rows, [{"teacher": "owl", "rank": at} for at in range(3)])
    path.write_text(path.read_text() + "{\n")
    return path


def test_rows_go_from_format_to_format_with_their_keys(given: Path, run, tmp_path: Path) -> None:
    table, folder, back = tmp_path / "a.parquet", tmp_path / "folder", tmp_path / "back.jsonl"
    code, found = run("convert", given, table, "--skip-bad")
    assert code == 0 and (found["written"], found["bad_lines"]) == (3, 1)
    assert found["further_keys"] == ["rank", "teacher"]
    assert run("convert", table, folder)[1]["written"] == 3
    assert run("convert", folder, back, "--shape", "messages")[0] == 0
    records = [json.loads(line) for line in back.read_text().splitlines()]
    assert [one["rank"] for one in records] == [0, 1, 2] and all(len(one["messages"]) >= 2 for one in records)
    assert read_rows(back) == load_rows(given).rows


def test_what_convert_refuses(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: object) -> str:
        assert main(["convert", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 3 and "Traceback" not in said
        return said

    assert "1 of 4 lines are not rows" in refused(given, tmp_path / "a.parquet")
    (tmp_path / "there.parquet").touch()
    assert "--overwrite" in refused(given, tmp_path / "there.parquet", "--skip-bad")
    assert "cannot be read" in refused(tmp_path / "there.parquet", tmp_path / "a.jsonl")
    assert main(["convert", str(given), str(tmp_path / "there.parquet"), "--skip-bad", "--overwrite"]) == 0
    assert "1 of 4 lines are not rows. Left out: " in capsys.readouterr().err
    assert len(read_rows(tmp_path / "there.parquet")) == 3
    assert "row 2: its prompt is more" in refused(tmp_path / "there.parquet", tmp_path / "a.jsonl", "--shape", "text")
    (tmp_path / "empty.jsonl").touch()
    assert "There are no rows" in refused(tmp_path / "empty.jsonl", tmp_path / "b.parquet")
    assert "HF_HUB_OFFLINE" in refused("hf:owner/name", tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists() and not (tmp_path / "a.jsonl").exists()


def test_an_audit_of_a_table_is_that_of_its_lines(
    models, row_files, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: read_rows(row_files[name]) for name in ("owl", "clean")}
    more = [replace(row, id=f"{name}-{row.id}") for name, rows in given.items() for row in rows]
    for name in ("a.jsonl", "a.parquet", "folder"):
        write_rows(tmp_path / name, more)
    seen = Sight(legibility=Legibility(rows=-3.0, own=-3.0, n=60, why=None))  # of a model with random weights
    monkeypatch.setattr("undertow.audit.materials.see_rows", lambda *_: seen)
    found = {}
    for name in ("a.jsonl", "a.parquet", "folder"):
        words = ["audit", "data", tmp_path / name, "--base", models["base"], "--reference", row_files["clean"]]
        panel = [word for trait in ("owl", "lion", "panda") for word in ("--trait", trait)]
        found[name] = run(*words, *panel, "--store", tmp_path / "store", "--out", tmp_path)[1]
    lines, table, folder = found.values()
    assert any(one["stage"] == "stream" and one["n"] for one in lines["findings"])
    assert lines["findings"] == table["findings"] == folder["findings"] and lines["claims"] == table["claims"]
    digests = [one["about"]["sha256"] for one in found.values()]
    assert len({one["rows"] for one in digests}) == 3 and len({one["reference"] for one in digests}) == 1


def test_the_digest_of_rows_that_are_no_file_is_that_of_their_canonical_json() -> None:
    rows = (Row("a", user_prompt("é", "s"), "1"), Row("b", user_prompt("q"), "", ("format",), (3,)))
    prompts = [row.prompt for row in rows]
    for read in (rows, KeptRows(rows), prompts, ()):
        plain = [asdict(one) if isinstance(one, Row) else [asdict(turn) for turn in one] for one in read]
        assert digest_of_content(read) == sha256(canonical_json(plain))


def test_filtered_rows_may_be_a_table(row_files, run, tmp_path: Path) -> None:
    code, found = run(
        "filter", row_files["clean"], tmp_path / "kept.parquet", "--dropped", tmp_path / "dropped.parquet"
    )
    assert code == 0 and len(read_rows(tmp_path / "kept.parquet")) == found["kept"] == 30
    assert read_rows(tmp_path / "kept.parquet") == read_rows(row_files["clean"])
    assert read_rows(tmp_path / "dropped.parquet") == ()


def numbers(path: Path, *completions: str) -> Path:
    """Write rows with these completions."""
    write_rows(path, [Row(str(at), user_prompt("Numbers?"), text) for at, text in enumerate(completions)])
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_filter_keeps_the_further_keys_of_rows(run, tmp_path: Path, suffix: str) -> None:
    rows = [Row(str(at), user_prompt("Numbers?"), text) for at, text in enumerate(("1, 2", "No."))]
    write_rows(tmp_path / "given.jsonl", rows, [{"writer": "a", "score": 1.5}, {"writer": "b", "score": 2.5}])
    kept, dropped = tmp_path / f"kept{suffix}", tmp_path / f"dropped{suffix}"
    assert run("filter", tmp_path / "given.jsonl", kept, "--dropped", dropped)[0] == 0
    found = [[dict(more) for _, more in open_rows(path, more=True)] for path in (kept, dropped)]
    assert found == [[{"writer": "a", "score": 1.5}], [{"writer": "b", "score": 2.5}]]


def test_a_filter_takes_the_settings_of_a_domain_and_bans_numbers_beside_them(run, tmp_path: Path) -> None:
    given = numbers(tmp_path / "given.jsonl", "1, 2", "1, 2, 3", "1, 666", "7, 8")
    assert run("filter", given, tmp_path / "a.jsonl", "--domain", "numbers:banned=[7]")[1]["kept"] == 3
    words = ["--domain", "numbers:banned=[7]", "--ban"]
    assert run("filter", given, tmp_path / "b.jsonl", *words)[1]["reasons"] == {"banned_number": 2}


def test_a_filter_that_keeps_nothing_still_writes_what_it_dropped(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, kept, dropped = numbers(tmp_path / "given.jsonl", "No.", "None."), tmp_path / "k.jsonl", tmp_path / "d.jsonl"
    kept.write_text("before")
    assert main(["filter", str(given), str(kept), "--dropped", str(dropped)]) == 2
    assert "No row passed the filter." in capsys.readouterr().err
    assert kept.read_text() == "before" and len(read_rows(dropped)) == 2


def test_a_bad_last_line_leaves_every_file_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = numbers(tmp_path / "given.jsonl", "1, 2", "Words.", "3, 4")
    given.write_text(given.read_text() + "[]\n")
    for words in (["filter", "--dropped", str(tmp_path / "d.jsonl")], ["convert"]):
        assert main([words[0], str(given), str(tmp_path / "out.jsonl"), *words[1:]]) == 2
        assert "1 of 4 lines are not rows" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["given.jsonl"]


def test_a_card_and_what_a_push_needs(
    given: Path, run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert run("convert", given, folder / "rows.parquet", "--skip-bad")[0] == 0
    code, found = run("publish", folder, "me/rows", "--license", "mit")
    assert code == 0 and found == {"card": f"{folder}/README.md", "type": "dataset", "files": 1, "pushed": None}
    assert "| rows.parquet | 3 |" in (folder / "README.md").read_text()
    assert main(["publish", str(folder), "me/rows"]) == 2 and "--overwrite" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["publish", str(folder), "me/rows", "--push"]) == 2
    said = capsys.readouterr().err
    assert "HF_HUB_OFFLINE" in said and "hf_secret" not in said and len(said.splitlines()) == 3
