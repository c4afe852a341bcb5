"""The analysis `theorem-channels`: what theorem 1 of Cloud et al. (2025) promises for KL on logits and for DPO.

It is a stage of its own beside that of `theorem`, so that the stored results of that one stay valid.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from undertow.store.runner import StageContext
from undertow.store.stages import Stage
from undertow.study.analyses.base import Analysis, AnalysisResult, validate_settings
from undertow.study.analyses.channel_counts import ChannelsConfig
from undertow.study.analyses.channel_steps import check_channels
from undertow.study.analyses.theorem import checked_result

PROMISE = (
    "From the same start one small step lowers the teacher's loss: by KL on logits in either direction, by DPO on the "
    "teacher's answers over the base's in expectation, and by DPO on the base's own answers ranked by the teacher's "
    "log ratio pair by pair. Ranked by the teacher's likelihood alone they promise nothing. The shares of networks, "
    "with Wilson's intervals, are what was counted where nothing is promised."
)
NOT_TESTED = [
    "Networks of another shape, and language models.",
    "Answers of several tokens: the sums over an answer's tokens are what the predictions hold for.",
    "References other than the student's start, filtered pairs, and students that sample for themselves.",
]


def _stage(given: Mapping[str, Any], _: None) -> Stage:
    config = validate_settings(ChannelsConfig, given)
    return Stage(
        kind="theorem-channels",
        version=1,
        config=json.loads(json.dumps(asdict(config))),
        label=f"check the theorem for logits and DPO on {config.networks} networks",
        cost=config.networks,
    )


def _execute(context: StageContext) -> dict[str, Any]:
    return check_channels(validate_settings(ChannelsConfig, context.config), context.advance)


def channels_result(found: Mapping[str, Any]) -> AnalysisResult:
    """Turn what `check_channels` found into the result of an analysis."""
    return checked_result(found, PROMISE, NOT_TESTED)


THEOREM_CHANNELS = Analysis(
    name="theorem-channels",
    needs_study=False,
    settings=ChannelsConfig,
    stage=_stage,
    execute=_execute,
    present=channels_result,
    seconds_per_unit=0.3,
)
