"""A local `vllm serve`, started for one run and stopped after it.

vLLM must run in an environment of its own, since the versions that it requires differ from ours; its program `vllm` has
to be on the PATH.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from typing import IO

from undertow.errors import ModelError
from undertow.types import ModelRef

PREFIX = "vllm/"
START_S = 1800.0
"""Seconds that the server may take to fetch and load the weights."""

STOP_S = 30.0


@contextlib.contextmanager
def served(ref: ModelRef, start_s: float = START_S) -> Generator[ModelRef]:
    """Serve an `api:vllm/...` model within the block, and yield the reference to the running server.

    Its form is `api:vllm/<path or id>[@revision][+<adapter folder>]`. Any other reference is yielded unchanged.

    Args:
        ref: reference to the model that will be asked.
        start_s: seconds that the server may take to start.

    Raises:
        ModelError: vLLM is not installed, or the server did not start.
    """
    if not is_started_here(ref):
        yield ref
        return
    program = vllm_program(ref)
    port, (model, of, added) = _free_port(), _parts(ref)
    adapter = ["--enable-lora", "--lora-modules", f"adapter={added}"] if added else []
    revision = ["--revision", of] if of else []
    command = [program, "serve", model, "--host", "127.0.0.1", "--port", str(port), *revision, *adapter]
    with tempfile.TemporaryFile() as log:
        # A group of its own, so that its workers are stopped with it, and an interrupt reaches us first.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait(process, port, start_s, log, ref)
            address = f"http://127.0.0.1:{port}/v1/{'adapter' if added else model}"
            yield replace(ref, name=address, revision=None, adapter=None)
        finally:
            _stop(process)


def is_started_here(ref: ModelRef) -> bool:
    """Tell whether a reference names a model for which a vLLM server is started on this machine."""
    return ref.kind == "api" and ref.name.startswith(PREFIX)


def vllm_program(ref: ModelRef) -> str:
    """Return the path of the program `vllm`.

    Raises:
        ModelError: vLLM is not on the PATH, or the reference names no model.
    """
    if not _parts(ref)[0]:
        raise ModelError("This names no model for vLLM.", str(ref), f"Write api:{PREFIX}<path or id>.")
    program = shutil.which("vllm")
    if program is None:
        fix = "Install vLLM in an environment of its own and put its `vllm` on the PATH, or give api:http://..."
        raise ModelError("There is no vLLM here.", str(ref), fix)
    return program


def _parts(ref: ModelRef) -> tuple[str, str, str]:
    """Return the model, the revision and the adapter folder of a reference; "" for what it does not name."""
    return ref.name.removeprefix(PREFIX), ref.revision or "", ref.adapter or ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process: "subprocess.Popen[bytes]", port: int, start_s: float, log: IO[bytes], ref: ModelRef) -> None:
    import httpx2

    until = time.monotonic() + start_s
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx2.RequestError):
            if httpx2.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    state = "still starting" if process.poll() is None else f"ended with {process.returncode}"
    log.seek(0)
    lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = f": {lines[-1][:200]}" if lines else ""
    raise ModelError("vLLM did not start.", f"{ref}: {state}{said}", "Try the same with `vllm serve` by hand.")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for what in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return
