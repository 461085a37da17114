"""Sum a round up in files that follow from its inputs alone: `round.json` and `report.json`.

Here because the round is an artifact like any other: the same round again must give the same
bytes. So what depended on timing (durations, what ran beside an early end) is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from libs.artifacts import Artifacts
from libs.blocks import Block, read_blocks
from libs.schema import Schema
from services.loop.binding import Bound
from services.loop.outcome import Outcome
from services.loop.rounds import RoundRecord, StepRecord
from services.loop.schedule import StepState, ancestry, deciding_step

SCHEMA = Schema(name="the summary of a round", version=1)


def round_document(bound: Bound, record: RoundRecord) -> dict[str, Any]:
    """Return what `round.json` holds."""
    document = {
        "recipe": bound.name,
        "parameters": bound.parameters,
        "as_of": record.as_of,
        "outcome": record.outcome,
        "reason": record.reason,
        "attribution": record.attribution,
        "steps": {step.name: _step(bound, step) for step in settled(bound, record)},
    }
    return SCHEMA.stamped(document)


def report_document(bound: Bound, record: RoundRecord, artifacts: Artifacts) -> dict[str, Any]:
    """Return what `report.json` holds: the round, and the blocks of each step's artifact.

    Raises:
        NotFound, Corrupt: an artifact of the round is gone or damaged.
    """
    sections = [
        {"step": step.name, "blocks": [asdict(block) for block in _blocks(step, artifacts)]}
        for step in settled(bound, record)
        if step.artifact_id
    ]
    return round_document(bound, record) | {
        "sections": [section for section in sections if section["blocks"]]
    }


def settled(bound: Bound, record: RoundRecord) -> Sequence[StepRecord]:
    """Return the steps as the outcome needs them: what led to it, the others as skipped.

    Of a round that failed or was cancelled, as they stand: there is no outcome to need them.
    """
    if record.outcome in (Outcome.FAILED, Outcome.CANCELLED):
        return record.steps
    decider = deciding_step(bound.steps, record.standing)
    ends = [
        step.name
        for step in record.steps
        if bound.steps[step.name].when and step.state is StepState.SUCCEEDED
    ]
    needed = ancestry(bound.steps, [decider, *ends]) if decider else frozenset(bound.steps)
    return [
        step
        if step.name in needed
        else StepRecord(name=step.name, rpc=step.rpc, state=StepState.SKIPPED)
        for step in record.steps
    ]


def measured(record: RoundRecord) -> dict[str, Any]:
    """Return what goes into `run.json`: how long things took, and which round it was."""
    return {
        "round": record.name,
        "who": record.who,
        "duration_s": round(record.duration_s, 3),
        "steps": {
            step.name: {"duration_s": round(step.duration_s, 3), "cached": step.cached}
            for step in record.steps
            if step.operation
        },
    }


def _step(bound: Bound, step: StepRecord) -> Mapping[str, Any]:
    return {
        "rpc": step.rpc,
        "needs": list(bound.steps[step.name].needs),
        "state": step.state,
        "kind": step.kind,
        "artifact_id": step.artifact_id,
        "outcome": step.outcome,
        "reason": step.reason,
        "figures": dict(step.figures),
    }


def _blocks(step: StepRecord, artifacts: Artifacts) -> Sequence[Block]:
    artifact = artifacts.open(step.artifact_id)
    if not any(file.name == "blocks.json" for file in artifact.manifest.files):
        return ()
    return read_blocks(artifact.path("blocks.json"))
