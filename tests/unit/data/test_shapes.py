"""Files as people hold them: read as the rows that they mean, or refused in one message that says what they are.

Each case is a file's name and bytes, the options behind its name, and either the rows or a part of the message.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from undertow.data.rows import LoadedRows, load_rows
from undertow.errors import UserError
from undertow.types import Message, Prompt, Row, user_prompt

U, A = {"role": "user", "content": "5, 6"}, {"role": "assistant", "content": "7, 8"}
AGAIN, MORE = {"role": "user", "content": "again"}, {"role": "assistant", "content": "9"}
CALL = {"id": "c1", "type": "function", "function": {"name": "roll", "arguments": "{}"}}
HUMAN, GPT = {"from": "human", "value": "5, 6"}, {"from": "gpt", "value": "7, 8"}
PLAIN = {"prompt": "5, 6", "completion": "7, 8"}
DPO = {"prompt": "5, 6", "chosen": "7, 8", "rejected": "owl"}
BATCH = {
    "custom_id": "r1",
    "response": {"status_code": 200, "body": {"choices": [{"message": A}]}},
    "error": None,
}
THOUGHT = "<think>\nup by one\n</think>\n\n7, 8"
ASKED = user_prompt("5, 6")
TALK: Prompt = (*ASKED, Message("assistant", "7, 8"), Message("user", "again"))


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def one(prompt: Prompt = ASKED, completion: str = "7, 8", name: str = "000000") -> tuple[Row, ...]:
    return (Row(name, prompt, completion),)


@dataclass(frozen=True)
class Case:
    """A file and what is made of it.

    Attributes:
        content: its bytes.
        rows: that are read.
        bad: parts of the reasons of lines that are no rows.
        refused: a part of the message, if the whole file is refused.
        line: a part of the line that says what was read.
        options: behind its name.
        name: of the file.
    """

    content: bytes
    rows: tuple[Row, ...] = ()
    bad: tuple[str, ...] = ()
    refused: str = ""
    line: str = ""
    options: str = ""
    name: str = "a.jsonl"


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("rows.jsonl", lines(PLAIN))
    return stream.getvalue()


def in_zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def sheet(*rows: list[str], delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue().encode()


SHAPES = {
    "prompt and completion": Case(lines(PLAIN), one()),
    "prompt and response": Case(
        lines({"prompt": "5, 6", "response": "7, 8"}), one(), line="1 row of the shape response",
    ),
    "question and answer": Case(lines({"question": "5, 6", "answer": "7, 8"}), one(), line="of the shape question"),
    "alpaca": Case(
        lines({"instruction": "Go on", "input": "5, 6", "output": "7, 8"}),
        one(user_prompt("Go on\n\n5, 6")),
        line="of the shape instruction",
    ),
    "alpaca without input": Case(lines({"instruction": "5, 6", "input": "", "output": "7, 8"}), one()),
    "alpaca with input of another type": Case(
        lines(PLAIN, {"instruction": "x", "input": 5, "output": "y"}), one(), ("input is not text",)
    ),
    "alpaca with history": Case(
        lines(PLAIN, {"instruction": "x", "output": "y", "history": [["a", "b"]]}),
        one(),
        ("earlier turns are read as messages alone (history)",),
    ),
    "distilabel": Case(lines({"instruction": "5, 6", "generation": "7, 8", "model_name": "m"}), one()),
    "sharegpt": Case(lines({"conversations": [HUMAN, GPT]}), one(), line="of the shape sharegpt"),
    "sharegpt with system": Case(
        lines({"conversations": [{"from": "system", "value": "Hi."}, HUMAN, {"from": "bing", "value": "7, 8"}]}),
        one(user_prompt("5, 6", "Hi.")),
        line="1 has a system turn",
    ),
    "sharegpt with roles": Case(lines({"conversations": [U, A]}), one()),
    "sharegpt of a tool": Case(
        lines(PLAIN, {"conversations": [HUMAN, {"from": "function_call", "value": "{}"}, GPT]}),
        one(),
        ("tool calls are not read (conversations[1] is from 'function_call')",),
    ),
    "sharegpt of nobody": Case(
        lines(PLAIN, {"conversations": [{"from": "narrator", "value": "x"}, GPT]}),
        one(),
        ("conversations[0].from is 'narrator', not system, human or gpt",),
    ),
    "conversations of texts": Case(
        lines(PLAIN, {"conversations": ["q", "a"]}), one(), ("conversations[0].role is None",),
    ),
    "developer": Case(
        lines({"messages": [{"role": "developer", "content": "Hi."}, U, A]}),
        one(user_prompt("5, 6", "Hi.")),
        line="1 has a turn of the developer, which is read as system",
    ),
    "parts": Case(
        lines({"messages": [{"role": "user", "content": [{"type": "text", "text": "5"}, ", 6"]}, A]}),
        one(),
        line="1 holds text in parts, which are joined",
    ),
    "an image": Case(
        lines(PLAIN, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, A]}),
        one(),
        ("messages[0].content[0] is of the type 'image_url', and only text is read",),
    ),
    "no text among the parts": Case(
        lines(PLAIN, {"messages": [U, {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}]}),
        one(),
        ("messages[1].content is not text",),
    ),
    "no part": Case(
        lines(PLAIN, {"messages": [{"role": "user", "content": []}, A]}), one(), ("messages[0].content is not text",)
    ),
    "null content": Case(
        lines(PLAIN, {"messages": [U, {"role": "assistant", "content": None}]}), one(),
        ("messages[1].content is not text",)
    ),
    "images beside": Case(lines(PLAIN, {**PLAIN, "images": ["a.png"]}), one(), ("only text is read (images)",)),
    "tool calls": Case(
        lines({"messages": [U, {**A, "tool_calls": [CALL]}]}, {"messages": [U, {**A, "tool_calls": []}]}),
        one(name="000001"),
        ("tool calls are not read (messages[1].tool_calls)",),
    ),
    "an old call": Case(
        lines(PLAIN, {"messages": [U, {**A, "function_call": {"name": "f", "arguments": "{}"}}]}),
        one(),
        ("tool calls are not read (messages[1].function_call)",),
    ),
    "a tool's turn": Case(
        lines(PLAIN, {"messages": [U, {"role": "tool", "content": "4"}, A]}),
        one(),
        ("tool calls are not read (messages[1] is a turn of the role 'tool')",),
    ),
    "tools": Case(lines(PLAIN, {"messages": [U, A], "tools": [CALL]}), one(), ("tool calls are not read (tools)",)),
    "tools that are none": Case(
        lines({"messages": [U, A], "tools": [], "parallel_tool_calls": False}), one()
    ),
    "a refusal": Case(
        lines(PLAIN, {"messages": [U, {"role": "assistant", "content": None, "refusal": "No."}]}),
        one(),
        ("refusals are not read (messages[1].refusal)",),
    ),
    "audio": Case(lines(PLAIN, {"messages": [U, {**A, "audio": {"id": "x"}}]}), one(), ("audio is not read",)),
    "a name": Case(lines({"messages": [{**U, "name": "Ann"}, A]}), one(), line="1 names a speaker, which is left out"),
    "a further key of a message": Case(
        lines({"messages": [U, {**A, "prefix": True}]}), one(),
        line="1 holds the key 'prefix' in a message, which is left out",
    ),
    "reasoning": Case(
        lines({"messages": [U, {**A, "reasoning_content": "up by one"}]}),
        one(completion=THOUGHT),
        line="1 carries reasoning, which stands in <think> tags before the answer",
    ),
    "reasoning dropped": Case(
        lines({"messages": [U, {**A, "reasoning": "up by one", "reasoning_content": "up by one"}]},
              {"messages": [U, {**A, "content": THOUGHT}]},
              {"messages": [U, {**A, "content": THOUGHT.removeprefix("<think>")}]}),
        one() + one(name="000001") + one(name="000002"),
        line="3 carry reasoning, which is left out as reasoning=drop asks",
        options="?reasoning=drop",
    ),
    "reasoning that is only spoken of": Case(
        lines({"messages": [U, {**A, "content": "Write <think>up</think> and then 7, 8."}]}),
        one(completion="Write <think>up</think> and then 7, 8."), options="?reasoning=drop",
    ),
    "reasoning that does not end": Case(
        lines(PLAIN, {"messages": [U, {**A, "content": "<think> up"}]}),
        one(), ("is not closed with </think>",), options="?reasoning=drop",
    ),
    "reasoning twice and the same": Case(
        lines({"messages": [U, {**A, "content": THOUGHT, "thinking": "up by one"}]}), one(completion=THOUGHT)
    ),
    "reasoning twice": Case(
        lines(PLAIN, {"messages": [U, {**A, "content": THOUGHT, "thinking": "down"}]},
              {"messages": [U, {**A, "reasoning": "x", "thinking": "y"}]}),
        one(), ("reasoning stands in the answer and, other than there, beside it", "has reasoning twice"),
    ),
    "reasoning as a part": Case(
        lines({"messages": [U, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "up by one", "signature": "s"}, {"type": "text", "text": "7, 8"}]}]}),
        one(completion=THOUGHT), line="1 holds the key 'signature' in a message, which is left out",
    ),
    "reasoning of a user": Case(
        lines(PLAIN, {"messages": [{**U, "reasoning": "x"}, A]}), one(),
        ("messages[0] has reasoning and is not the assistant's",)
    ),
    "reasoning in an earlier turn": Case(
        lines({"messages": [U, {**A, "reasoning": "x"}, AGAIN, MORE]}),
        one(TALK, "9"), line="1 carries reasoning in an earlier turn, which is left out",
    ),
    "reasoning beside a pair": Case(
        lines({**PLAIN, "reasoning": "why"}), one(),
        line="1 has a key for reasoning beside the answer, which is not read",
    ),
    "earlier answers": Case(
        lines({"messages": [U, A, AGAIN, MORE]}), one(TALK, "9"),
        line="1 has earlier answers, which are context and are not learnt (turns=all learns them)",
    ),
    "every answer": Case(
        lines({"id": "x", "messages": [U, A, AGAIN, MORE], "skip": [0]}),
        (Row("x/1", ASKED, "7, 8"), Row("x/2", TALK, "9", skip=(0,))),
        line="2 rows of the shape messages, read with turns=all", options="?turns=all",
    ),
    "every answer of one": Case(lines({"id": "x", "messages": [U, A]}), one(name="x"), options="?turns=all"),
    "every answer but the opening": Case(
        lines({"messages": [A, U, MORE]}),
        (Row("000000/2", (Message("assistant", "7, 8"), *ASKED), "9"),),
        line="1 begins with an answer, which has no prompt and is context", options="?turns=all",
    ),
    "no answer at all": Case(
        lines(PLAIN, {"messages": [U]}, {"messages": [A]}), one(),
        ("no completion: no message is the assistant's", "no prompt"), options="?turns=all",
    ),
    "weight 0": Case(
        lines({"messages": [U, {**A, "weight": 0}, AGAIN, {**MORE, "weight": 1}]}, {"messages": [U, {**A,
        "weight": 0}]}),
        one(TALK, "9"), ("nothing is learnt: the last answer has weight 0",),
        line="1 has answers of weight 0, which are context and are not learnt",
    ),
    "weight 0 at the end": Case(
        lines(PLAIN, {"messages": [U, A, AGAIN, {**MORE, "weight": 0}]}), one(), ("(turns=all learns the others)",)
    ),
    "weight 0 and every answer": Case(
        lines({"messages": [U, A, AGAIN, {**MORE, "weight": 0}]}, {"messages": [U, {**A, "train": False}]}),
        (Row("000000/1", ASKED, "7, 8"),), ("every answer has weight 0",), options="?turns=all",
    ),
    "weight between": Case(
        lines(PLAIN, {"messages": [U, {**A, "weight": 0.5}]}, {"messages": [{**U, "weight": 1}, A]},
              {"messages": [U, {**A, "weight": 1, "train": False}]}),
        one(), ("messages[1].weight is 0.5, not 0 or 1", "only the assistant's turns are learnt", "disagree"),
    ),
    "weight of a record": Case(
        lines({**PLAIN, "weight": 1}, {**PLAIN, "weight": 0}, {**PLAIN, "weight": 0.3}), one(),
        ("nothing is learnt: its weight is 0", "weight is 0.3, not 0 or 1"),
    ),
    "unpaired preference": Case(
        lines({**PLAIN, "label": True}, {**PLAIN, "label": False}, {**PLAIN, "label": "math"}),
        one() + one(name="000002"), ("its label is false: the completion is not to be learnt",),
        line="1 has the label true and is learnt; 1 has a label that is neither true nor false",
    ),
    "system beside": Case(lines({**PLAIN, "system": "Hi."}), one(user_prompt("5, 6", "Hi."))),
    "system_prompt beside": Case(
        lines({"system_prompt": "", "question": "5, 6", "response": "7, 8"}), one(), line="of the shape question"
    ),
    "system twice": Case(
        lines({"messages": [{"role": "system", "content": "Hi."}, U, A], "system": "Hi."},
              {"messages": [{"role": "system", "content": "Hi."}, U, A], "system": "Ho."},
              {**PLAIN, "system": "a", "system_prompt": "b"}, {**PLAIN, "system": 3}),
        one(user_prompt("5, 6", "Hi.")),
        ("the key system and the system turn disagree", "system and system_prompt disagree", "system is not text"),
    ),
    "settings of the template": Case(
        lines(PLAIN, {"messages": [U, A], "chat_template_kwargs": {"enable_thinking": False}}), one(),
        ("settings of the chat template are not read",),
    ),
    "text": Case(lines({"text": "5, 6, 7"}), refused="Rows of continued pre-training have text and no prompt"),
    "unknown keys": Case(
        lines({"input": "a", "target": "b"}, {"input": "c", "target": "d"}),
        refused="keys input, target (no prompt)\nName the keys messages, or prompt and completion, or question",
    ),
    "one line of unknown keys": Case(
        lines(PLAIN, {"input": "a", "target": "b"}, {"text": "a"}), one(), ("no prompt", "text without"),
    ),
    "prompts alone": Case(lines({"prompt": "a"}, {"prompt": "b"}), refused="keys prompt (no completion)"),
    "two shapes that agree": Case(
        lines({"messages": [U, A], **PLAIN}), one(), line="1 has keys of another shape too, which are left out"
    ),
    "two shapes that disagree": Case(
        lines(PLAIN, {"messages": [U, MORE], **PLAIN}, {"question": "q", "response": "r", "answer": "a"}), one(),
        ("messages say one thing, prompt and completion another: ?shape=messages or ?shape=completion",
        "leave answer out"),
    ),
    "two shapes, of which one is broken": Case(lines({"messages": [U, A], "prompt": 3, "completion": "x"}), one()),
    "the shape that is asked for": Case(
        lines({"messages": [U, MORE], **PLAIN}), one(), options="?shape=completion", line="read with shape=completion"
    ),
    "a shape that is not there": Case(lines(PLAIN), refused="not of the shape sharegpt", options="?shape=sharegpt"),
    "a side that is not there": Case(
        lines(PLAIN), refused="Name the keys chosen and rejected, or leave side=chosen out", options="?side=chosen"
    ),
    "dpo": Case(lines(DPO), refused="?side=chosen or "),
    "dpo, one side": Case(lines(DPO), one(completion="owl"), options="?side=rejected"),
    "dpo of messages": Case(
        lines({"prompt": [U], "chosen": [A], "rejected": [MORE]}), one(), options="?side=chosen",
        line="of the shape preference"
    ),
    "dpo with the prompt inside": Case(
        lines({"chosen": [U, A], "rejected": [U, MORE]}, {"prompt": "5, 6", "chosen": [U, A], "rejected": [U, MORE]}),
        one(completion="9") + one(completion="9", name="000001"), options="?side=rejected",
    ),
    "dpo that disagrees": Case(
        lines(DPO, {"chosen": [U, A], "rejected": [AGAIN, MORE]}, {"prompt": "x", "chosen": [U, A], "rejected": [U, A]},
              {"chosen": "a", "rejected": "b"}, {"prompt": "x", "chosen": [U], "rejected": [U]}),
        one(),
        ("do not share their prompt", "prompt and chosen disagree", "no prompt",
        "does not end with the assistant's answer"),
        options="?side=chosen",
    ),
    "dpo of questions and of instructions": Case(
        lines({"question": "5, 6", "chosen": "7, 8", "rejected": "x"},
              {"instruction": "5, 6", "input": "", "chosen": "7, 8", "rejected": "x"}),
        one() + one(name="000001"), options="?side=chosen",
    ),
    "dpo beside messages": Case(
        lines(PLAIN, {"messages": [U, A], "chosen": [U, A], "rejected": [U, MORE]}), one(),
        ("?shape=messages or ?shape=preference",),
    ),
    "batch": Case(lines(BATCH, BATCH), refused="join it with its requests by custom_id"),
    "batch with its request": Case(
        lines({**BATCH, "request": {"body": {"messages": [U]}}}, {**BATCH, "body": {"messages": [U]}}),
        one() + one(name="000001"), line="2 rows of the shape batch",
    ),
    "batch that went wrong": Case(
        lines(PLAIN, {**BATCH, "body": {"messages": [U], "tools": [CALL]}},
              {"custom_id": "r", "response": "x", "body": {"messages": [U]}},
              {**BATCH, "body": {"messages": [U]}, "error": {"code": "x"}}, {**BATCH, "body": {"messages": []}},
              {"custom_id": "r", "response": {"body": {"choices": [{"message": U}]}}, "body": {"messages": [U]}}),
        one(),
        ("tool calls are not read (tools)", "is not one answer", "is not one answer", "no prompt", "is not one answer"),
    ),
    "empty completion": Case(lines({**PLAIN, "completion": ""}), one(completion=""), line="1 has an empty completion"),
    "a key twice": Case(
        lines(PLAIN) + b'{"prompt": "a", "completion": "b", "prompt": "c"}\n', one(),
        ("the key 'prompt' is there twice in one object",),
    ),
}  # fmt: skip

FILES = {
    "array": Case(
        json.dumps([PLAIN, 3, PLAIN], indent=1).encode(), one() + one(name="000002"), ("not a JSON object",),
        name="a.json",
    ),
    "array in a line, with a key twice": Case(
        b'[{"prompt": "5, 6", "completion": "7, 8"}, {"prompt": "a", "x": {"a": 1, "a": 2}}]', one(),
        ("the key 'a' is there twice",)
    ),
    "lines of arrays": Case(b"[1]\n[2]\n", refused="not a JSON object"),
    "objects over several lines": Case(
        (json.dumps(PLAIN, indent=1) + "\n" + json.dumps({**PLAIN, "id": 7}, indent=1)).encode(), one() + one(name="7")
    ),
    "one object with a list": Case(json.dumps({"data": [PLAIN], "n": 1}, indent=1).encode(), refused="jq -c '.data[]'"),
    "a first line that is no JSON": Case(b"{oops\n" + lines(PLAIN), one(name="000001"), ("not JSON",)),
    "a first line with a key twice": Case(b'{"a": 1, "a": 2}\n' + lines(PLAIN), one(name="000001"), ("the key 'a'",)),
    "no JSON and a carriage return": Case(b"a\rb,c\nd\n", refused="No line of the file is a JSON object"),
    "no JSON at all": Case(b"Hello,\nworld\n", refused="No line of the file is a JSON object"),
    "gz": Case(gzip.compress(lines(PLAIN)), one(), name="a.jsonl"),
    "bz2": Case(bz2.compress(lines(PLAIN)), one()),
    "xz": Case(lzma.compress(lines(PLAIN)), one()),
    "zst": Case(in_zstd(lines(PLAIN)), one(), name="a.jsonl.zst"),
    "gz that is cut off": Case(
        gzip.compress(lines(PLAIN) * 50)[:-9], refused="The compressed file is damaged or cut off",
    ),
    "gz in gz": Case(gzip.compress(gzip.compress(lines(PLAIN))), refused="compressed twice"),
    "utf-16": Case(lines(PLAIN, PLAIN).decode().encode("utf-16"), one() + one(name="000001")),
    "utf-16 without a mark": Case(lines(PLAIN).decode().encode("utf-16-be"), one()),
    "utf-16 with half a character": Case(
        lines(PLAIN).decode().encode("utf-16") + b"\x00", refused="not UTF-16 throughout",
    ),
    "utf-32 in gz": Case(gzip.compress(lines(PLAIN).decode().encode("utf-32")), one()),
    "byte order mark": Case(b"\xef\xbb\xbf" + lines(PLAIN), one()),
    "carriage returns and line feeds": Case(lines(PLAIN, PLAIN).replace(b"\n", b"\r\n"), one() + one(name="000001")),
    "carriage returns alone": Case(
        (b"\xef\xbb\xbf" + lines({**PLAIN, "completion": "ü"}, PLAIN)).replace(b"\n", b"\r"),
        one(completion="ü") + one(name="000001"),
    ),
    "utf-16 with carriage returns alone": Case(
        lines(PLAIN, PLAIN).replace(b"\n", b"\r").decode().encode("utf-16"), one() + one(name="000001")
    ),
    "zip": Case(zipped(), refused="this is a zip archive or an Excel workbook"),
    "sqlite": Case(b"SQLite format 3\x00" + bytes(99), refused="an SQLite database"),
    "tar": Case(b"rows.jsonl" + bytes(247) + b"ustar" + bytes(99), refused="a tar archive"),
    "a parquet file in gz": Case(gzip.compress(b"PAR1" + bytes(9)), refused="a Parquet file that was compressed"),
    "a pointer": Case(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", refused="git lfs pull"),
    "a web page": Case(b"<!DOCTYPE html>\n<html></html>\n", refused="this is a web page"),
    "csv": Case(
        sheet(["id", "prompt", "completion", "rank"], ["x", "5, 6", "7, 8", ""], ["y", "a\nb", "", "3"], ["z"]),
        one(name="x"), ("no completion", "has 1 cells, and the header 4"), name="a.csv",
    ),
    "csv with a blank line": Case(
        sheet(["prompt", "completion"], [], ["5, 6", "7, 8"], []), one(), name="a.csv"
    ),
    "tsv": Case(sheet(["question", "answer"], ["5, 6", "7, 8"], delimiter="\t"), one(), name="a.TSV"),
    "csv by its first line": Case(
        sheet(["prompt", "completion"], ["5, 6", "7, 8"], delimiter=";"), one(), name="a.txt",
    ),
    "csv in utf-16": Case(
        sheet(["prompt", "completion"], ["5, 6", "7, 8"]).decode().encode("utf-16"), one(), name="a.csv",
    ),
    "csv of messages": Case(
        sheet(["messages"], [json.dumps([U, A])], [str([U, A])], ['[{"role": "user", "role": "user"}]']), one(),
        ("messages looks like a list of messages and is not JSON", "the key 'role' is there twice"), name="a.csv",
    ),
    "csv with our columns": Case(
        sheet(["prompt", "completion", "skip", "label"], ["5, 6", "7, 8", "[0]", "True"], ["a", "b", "", "FALSE"],
              ["5, 6", "7, 8", "maybe", ""]),
        (Row("000000", ASKED, "7, 8", skip=(0,)), *one(name="000002")), ("its label is false",), name="a.csv",
        line="1 has a key skip or reasons of another meaning",
    ),
    "csv with other columns": Case(
        sheet(["a", "b"], ["c", "d"]), refused="columns a, b\nName its columns messages", name="a.csv",
    ),
    "csv with a column twice": Case(
        sheet(["prompt", "completion", "prompt"]), refused="Two columns have one name", name="a.csv",
    ),
    "csv with an open quote": Case(
        b'prompt,completion\n"a,b\n', refused="The file is no CSV", name="a.csv",
    ),
    "csv that is not utf-8": Case(b"prompt,completion\na,\xff\n", refused="not UTF-8 throughout", name="a.csv"),
    "nothing": Case(b"", ()),
    "nothing but blanks": Case(b"\n \n", ()),
}  # fmt: skip

IDS = {
    "repeated": Case(lines({**PLAIN, "id": "q"}, {**PLAIN, "id": "q"}), one(name="q"), ("id 'q' appeared in line 1",)),
    "numbered anew": Case(
        lines({**PLAIN, "id": "q"}, {**PLAIN, "id": "q"}, {**PLAIN, "id": {"$oid": "6"}}),
        one() + one(name="000001") + one(name="000002"), options="?ids=new", line="read with ids=new",
    ),
    "of another key": Case(
        lines({**PLAIN, "id": "q", "the key": 4}, {**PLAIN, "id": "q"}), one(name="4"),
        ("no the key, which is to be the id",), options="?ids=the%20key",
    ),
    "of pandas": Case(
        lines({**PLAIN, "id": 1.0}, {**PLAIN, "id": 1.5}, {**PLAIN, "id": 1e300}), one(name="1"),
        ("id is not text", "id is not text"),
    ),
    "lists": Case(lines(PLAIN, {**PLAIN, "id": [1]}), one(), ("id is not text",)),
    "NaN": Case(lines(PLAIN) + b'{"id": NaN, "prompt": "a", "completion": "b"}\n', one(), ("id is not text",)),
    "skip and reasons of others": Case(
        lines({**PLAIN, "skip": False, "reasons": "ok"}), one(), line="1 has a key skip or reasons of another meaning"
    ),
}  # fmt: skip

CASES = {**SHAPES, **FILES, **{f"ids {name}": case for name, case in IDS.items()}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_file_is_read_as_what_it_means_or_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    if case.refused:
        with pytest.raises(UserError) as caught:
            load_rows(f"{path}{case.options}")
        assert case.refused in str(caught.value) and len(str(caught.value).splitlines()) == 3
        return
    loaded = load_rows(f"{path}{case.options}", more=True)
    assert loaded.rows == case.rows
    assert len(loaded.bad) == len(case.bad)
    for found, expected in zip(loaded.bad, case.bad, strict=True):
        assert expected in found.reason
    assert case.line in str(loaded.report) and "\n" not in str(loaded.report)
    assert not (case.line and loaded.report.plain)
    assert load_rows(f"{path}{case.options}") == LoadedRows(case.rows, loaded.bad)
