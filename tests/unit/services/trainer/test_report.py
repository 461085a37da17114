import pytest

from libs.blocks import read_blocks
from libs.formats import LOSSES, read_json, read_rows
from services.trainer import report


def test_the_final_loss_is_the_mean_of_the_last_twenty_steps():
    assert report.final_loss([100.0] * 5 + [1.0] * 10 + [2.0] * 10) == 1.5
    assert report.final_loss([3.0]) == 3.0


def test_losses_are_written_with_the_rate_of_each_step(tmp_path, schedule):
    report.write_losses(tmp_path, [3.0, 2.0, 1.0], schedule)
    rows = read_rows(tmp_path / "losses.parquet", LOSSES)
    assert [(row["step"], row["loss"]) for row in rows] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.005, 0.01, 0.01])


@pytest.mark.parametrize("steps", [1, 3, 200, 201, 999])
def test_a_curve_has_few_points_and_keeps_the_mean(tmp_path, steps):
    losses = [float(step % 7) for step in range(steps)]
    report.write_curve(tmp_path, losses, label="plan", step_tokens=10)
    (block,) = read_blocks(tmp_path / "blocks.json")
    (line,) = block.lines
    assert len(line.y) <= 200
    assert line.x[-1] == steps * 10
    widths = [b - a for a, b in zip([0, *line.x], line.x, strict=False)]
    mean = sum(y * width for y, width in zip(line.y, widths, strict=True)) / line.x[-1]
    assert mean == pytest.approx(sum(losses) / steps)


def test_a_card_tells_what_is_known_without_loading(tmp_path):
    card = report.Card(
        weights_digest="d" * 64, num_parameters=7, num_tokens=9, tokenizer_sha256="t" * 64
    )
    card.write(tmp_path)
    written = read_json(tmp_path / "checkpoint.json")
    assert written.pop("schema_version") >= 1
    assert report.Card(**written) == card
