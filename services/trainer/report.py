"""What a training leaves beside its weights: losses, their curve, and the checkpoint's card."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from libs import formats
from libs.blocks import Block, Line, write_blocks
from libs.schema import Schema
from services.trainer.schedule import Schedule, learning_rate

CARD = Schema(name="a checkpoint's card", version=1)
_POINTS = 200
"""Of a curve in a report: more cannot be told apart."""
_LAST = 20
"""Steps that the final loss is the mean of."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a checkpoint without loading it: `checkpoint.json`."""

    weights_digest: str
    num_parameters: int
    num_tokens: int
    """Tokens that this training consumed; 0 for an imported one."""
    tokenizer_sha256: str
    """Of `tokenizer.json`."""

    def write(self, folder: Path) -> None:
        """Write `checkpoint.json`."""
        formats.write_json(folder / "checkpoint.json", CARD.stamped(asdict(self)))


def final_loss(losses: Sequence[float]) -> float:
    """Return the mean of the last steps' losses, nats per token."""
    last = losses[-_LAST:]
    return sum(last) / len(last)


def write_losses(folder: Path, losses: Sequence[float], schedule: Schedule) -> None:
    """Write `losses.parquet`."""
    rows = [
        {
            "step": step,
            "loss": loss,
            "learning_rate": learning_rate(schedule, step, len(losses)),
        }
        for step, loss in enumerate(losses)
    ]
    formats.write_table(folder / "losses.parquet", formats.LOSSES, rows)


def write_curve(folder: Path, losses: Sequence[float], *, label: str, step_tokens: int) -> None:
    """Write `blocks.json`: the loss over tokens, each point the mean of a few steps."""
    width = -(-len(losses) // _POINTS)
    starts = range(0, len(losses), width)
    parts = [losses[start : start + width] for start in starts]
    curve = Line(
        label,
        [(start + len(part)) * step_tokens for start, part in zip(starts, parts, strict=True)],
        [sum(part) / len(part) for part in parts],
    )
    block = Block(
        kind="lines",
        title="Training loss",
        text="Mean cross-entropy on the text being learned, before each step; lower is better.",
        lines=[curve],
        x_label="tokens",
        y_label="nats per token",
        anchor="training-loss",
    )
    write_blocks(folder, [block])


def write_card_block(folder: Path, card: Card, *, name: str) -> None:
    """Write `blocks.json` of a checkpoint that was not trained here."""
    rows: list[tuple[str, str | int]] = [
        ("parameters", card.num_parameters),
        ("weights", card.weights_digest),
        ("tokenizer", card.tokenizer_sha256),
    ]
    block = Block(kind="table", title=f"Imported {name}", columns=("what", "value"), rows=rows)
    write_blocks(folder, [block])
