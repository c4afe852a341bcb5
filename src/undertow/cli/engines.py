"""What every command sets up before it computes anything."""

import logging
import os


def prepare() -> None:
    """Keep other libraries from printing into our output, and from starting more threads than help."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL would tell the Hub of every trainer
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if "OMP_NUM_THREADS" not in os.environ:
        # Two threads were as fast as any number on models of width 64, and leave the machine usable.
        torch.set_num_threads(min(2, os.cpu_count() or 1))
