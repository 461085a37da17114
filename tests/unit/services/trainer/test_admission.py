import pytest

from libs.digests import file_sha256
from libs.errors import Conflict, InvalidInput, NotFound
from services.trainer.admission import check_plan


def admit(world, plan_id, exam_set_id=""):
    check_plan(
        world.artifacts,
        plan_id,
        exam_set_id=exam_set_id or world.exam_set_id,
        tokenizer_sha256=file_sha256(world.tokenizer_folder / "tokenizer.json"),
    )


def test_a_certified_plan_is_admitted(world):
    admit(world, world.plan())


def test_a_plan_without_draws_is_not_refused_for_them(world):
    admit(world, world.plan(draws=()))


def test_a_plan_whose_certificate_covers_other_passages_is_refused(world):
    with pytest.raises(Conflict, match="passages"):
        admit(world, world.plan(certified=("p1",)))


def test_a_plan_without_certificate_is_refused(world):
    with pytest.raises(Conflict, match="no certificate"):
        admit(world, world.plan(certified=()))


def test_replay_without_a_certificate_of_its_own_is_refused(world):
    with pytest.raises(Conflict, match="replay"):
        admit(world, world.plan(replay=("q1",), draws=(0, 2)))


def test_a_draw_of_passages_that_nobody_certified_is_refused(world):
    with pytest.raises(Conflict, match="0 to 2"):
        admit(world, world.plan(draws=(0, 2)))


def test_tokens_of_another_tokenizer_are_refused(world):
    with pytest.raises(Conflict, match="tokenizer"):
        admit(world, world.plan(tokenizer_sha256="f" * 64))


def test_another_exam_set_is_refused(world):
    other = world.store("exam_set", lambda folder: None, name="other")
    with pytest.raises(Conflict, match="exam set"):
        admit(world, world.plan(), other)


def test_what_is_absent_or_of_another_kind_is_told(world):
    with pytest.raises(NotFound):
        admit(world, "0" * 64)
    with pytest.raises(InvalidInput, match="plan"):
        admit(world, world.tokenizer_id)
