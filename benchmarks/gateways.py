"""What the comparisons with LiteLLM share: an upstream, our servers and LiteLLM's proxy, each a process on loopback.

LiteLLM is looked for at $UNDERTOW_LITELLM, a Python that has `litellm[proxy]`, scipy, scikit-learn, regex, httpx2 and
httpcore2 installed; it needs an environment of its own. Nothing runs without it, and the scripts say so.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path

import yaml

SOURCE = Path(__file__).resolve().parents[1] / "src"
START_S = 900.0


def litellm_python() -> str | None:
    """Return the Python that has LiteLLM, or None; then it is said what is missing."""
    python = os.environ.get("UNDERTOW_LITELLM", "")
    if python and Path(python).exists():
        return python
    print("SKIPPED: no LiteLLM. Give UNDERTOW_LITELLM=/path/to/python of an environment with litellm[proxy].")
    return None


def answer_to(body: bytes) -> tuple[bytes, bytes]:
    """Return kind and body of the upstream's reply, which says what stands behind "say " in the last message."""
    asked = json.loads(body)
    # Percent signs let a request ask for words that it does not say itself.
    said = urllib.parse.unquote(asked["messages"][-1]["content"].partition("say ")[2])
    if asked.get("stream"):
        words = [{"role": "assistant", "content": f"{word} "} for word in said.split()]
        events = [{"delta": delta, "finish_reason": None} for delta in words] + [{"delta": {}, "finish_reason": "stop"}]
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        lines = [json.dumps({**head, "choices": [{"index": 0, **event}]}) for event in events]
        return b"text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice]}
    return b"application/json", json.dumps({**whole, "usage": usage}).encode()


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = await reader.readexactly(size)
            kind, reply = answer_to(body) if body else (b"application/json", b"{}")
            head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(reply))
            writer.write(head + reply)
            await writer.drain()
    writer.close()


def _serve(listening: socket.socket) -> None:
    async def run() -> None:
        await (await asyncio.start_server(_connection, sock=listening)).serve_forever()

    asyncio.run(run())


@contextlib.contextmanager
def upstream() -> Generator[str]:
    """Run the upstream; give its URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=500)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    process = multiprocessing.Process(target=_serve, args=(listening,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        process.terminate()


@contextlib.contextmanager
def undertow(*words: str) -> Generator[tuple["subprocess.Popen[str]", str]]:
    """Run `undertow monitor ...` on free ports; give the process and the base URL for clients."""
    call = [sys.executable, "-m", "undertow.cli.main", "monitor", *words, "--port", "0", "--admin-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    url = process.stdout.readline().split(": ", 1)[1].strip()
    try:
        yield process, "/".join(url.split("/", 3)[:3])
    finally:
        _end(process)


@contextlib.contextmanager
def litellm(
    python: str, folder: Path, target: str, guardrails: Sequence[dict[str, object]] = ()
) -> Generator[tuple["subprocess.Popen[bytes]", str]]:
    """Run LiteLLM's proxy with one model and some guardrails; give the process and its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    params = {"model": "openai/m", "api_base": f"{target}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "m", "litellm_params": params}],
        "guardrails": list(guardrails),
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    (folder / "litellm.yaml").write_text(yaml.safe_dump(config))
    program = Path(python).with_name("litellm")
    call = [str(program), "--config", str(folder / "litellm.yaml"), "--port", str(port), "--host", "127.0.0.1"]
    plain = {
        "PYTHONPATH": str(SOURCE),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(call, stdout=log, stderr=log, env={**os.environ, **plain}, cwd=folder)
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/health/liveliness", folder / "litellm.log")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def _wait_for(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    raise SystemExit(f"LiteLLM did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processor_s(pid: int) -> float:
    """Return the processor time of a process and all its descendants so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    own = ticks / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(processor_s(int(child)) for child in children)


def chat_body(said: str, stream: bool = False) -> bytes:
    """Return a request for a chat completion that lets the upstream say something."""
    messages = [{"role": "user", "content": f"Please say {said}"}]
    return json.dumps({"model": "m", "messages": messages, **({"stream": True} if stream else {})}).encode()
