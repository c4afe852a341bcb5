"""Toy stages for runs side by side, which do what a file in a folder says: `python deeds.py STORE DEEDS`."""

import functools
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from undertow.errors import ConfigError
from undertow.store.disk import write_file
from undertow.store.runner import Runner, StageContext
from undertow.store.side_by_side import build_side_by_side
from undertow.store.stages import Stage


def toy(name: str, **parents: Stage) -> Stage:
    """Return a stage of this name."""
    return Stage(kind="toy", version=1, config={"name": name}, parents=parents, label=name)


def diamond() -> list[Stage]:
    """Return the last of five stages: a base, two that can be made at once, one of both, and one beside them."""
    base = toy("base")
    left, right = toy("left", base=base), toy("right", base=base)
    return [toy("both", left=left, right=right), toy("alone")]


def work(deeds: Path, context: StageContext) -> None:
    """Hash the name and the parents; `<name>.<deed>` makes it meet another one, die, fail, break or take long."""
    name = str(context.config["name"])
    seen = hashlib.sha256(name.encode())
    for role, folder in sorted(context.parents.items()):
        seen.update(role.encode() + (folder / "out.bin").read_bytes())
    write_file(deeds / f"{name}.begun", str(os.getpid()))
    write_file(deeds / f"{name}.threads", os.environ.get("OMP_NUM_THREADS", "unset"))
    (context.out / "half.bin").write_bytes(b"half")
    context.advance(1, 2)
    if (deeds / f"{name}.meets").exists():
        _wait_for(deeds / f"{(deeds / f'{name}.meets').read_text()}.begun")
    if (deeds / f"{name}.dies").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (deeds / f"{name}.exits").exists():
        os._exit(3)
    if (deeds / f"{name}.odd").exists():
        raise ConfigError("Odd.", lambda: 1, "Even it out.")  # which no process can send to another
    if (deeds / f"{name}.fails").exists():
        raise ConfigError("Bad rate.", 7, "Lower it.")
    if (deeds / f"{name}.breaks").exists():
        raise RuntimeError("boom")
    if (deeds / f"{name}.lingers").exists():
        time.sleep(0.5)
    if (deeds / f"{name}.hangs").exists():
        time.sleep(600)
    (context.out / "out.bin").write_bytes(seen.digest())
    with (deeds / "finished").open("a", encoding="utf-8") as stream:  # one short write is atomic
        stream.write(f"{name}\n")


def _wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(path)


def executors(deeds: Path) -> dict[str, Callable[[StageContext], None]]:
    """Return what makes toy stages."""
    deeds.mkdir(exist_ok=True)
    return {"toy": functools.partial(work, deeds)}


def main() -> None:
    """Run the diamond with two workers."""
    store, deeds = map(Path, sys.argv[1:])
    try:
        build_side_by_side(Runner(store, executors(deeds)), diamond(), 2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
