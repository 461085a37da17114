"""The registry of models: registering, moving live forward and back, and its store."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from libs.errors import Conflict, Corrupt, InvalidInput, NotFound
from services.loop.registry import (
    Model,
    Models,
    Registry,
    Signature,
    check_promotion,
    check_signature,
    last_move,
    promote,
    register,
    roll_back,
)

BY = Signature("2026-01-01T00:00:00", "me", "Because.")
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


def model(digest, status="undecided", decision="d1"):
    return Model(
        weights_digest=digest,
        checkpoint_id="c" + digest[1:],
        status=status,
        round="rounds/r",
        decisions=(decision,),
    )


def registry(*digests):
    found = Registry()
    for place, digest in enumerate(digests):
        found = register(found, model(digest, decision=f"d{place}"), BY)
    return found


def test_nothing_is_live_before_the_first_promotion():
    with pytest.raises(NotFound, match="no model is live"):
        _ = registry(ONE).live


def test_promoting_moves_live_and_says_what_it_was_before():
    found = promote(promote(registry(ONE, TWO), ONE, BY), TWO, BY)
    assert found.live.weights_digest == TWO
    assert found.live.status == "promoted"
    assert (last_move(found).previous, last_move(found).action) == (ONE, "promoted")


def test_a_decision_promotes_once_whatever_a_person_did_since():
    found = promote(promote(registry(ONE, TWO), ONE, BY), TWO, BY, cause="d2")
    back = roll_back(found, "", BY)
    assert back.live.weights_digest == ONE
    assert promote(back, TWO, BY, cause="d2") == back


def test_a_decision_told_again_changes_nothing():
    found = register(registry(ONE), model(ONE, "rejected", "d9"), BY)
    assert found.model(ONE).status == "rejected"
    assert register(found, model(ONE, "undecided", "d0"), BY) == found


def test_a_model_that_was_promoted_stays_so_when_decided_on_again():
    found = register(promote(registry(ONE), ONE, BY), model(ONE, "undecided", "d9"), BY)
    assert found.model(ONE).status == "promoted"


def test_a_rollback_goes_to_the_model_before_and_the_history_ends_there():
    found = registry(ONE, TWO, THREE)
    for digest in (ONE, TWO, THREE):
        found = promote(found, digest, BY)
    back = roll_back(found, "", BY)
    assert back.history == (ONE, TWO)
    assert roll_back(found, ONE, BY).history == (ONE,)
    assert roll_back(back, "", BY).live.weights_digest == ONE


def test_nothing_to_roll_back_to_is_said_properly():
    with pytest.raises(Conflict, match="cannot roll back: no model is live, nor was one before"):
        roll_back(registry(ONE), "", BY)
    with pytest.raises(Conflict, match=r"cannot roll back: .* is the first model that was live"):
        roll_back(promote(registry(ONE), ONE, BY), "", BY)


@pytest.mark.parametrize("target", ["", ONE, TWO])
def test_without_an_earlier_model_there_is_no_rollback(target):
    with pytest.raises(Conflict, match="cannot roll back"):
        roll_back(promote(registry(ONE, TWO), ONE, BY), target, BY)


def test_a_prefix_must_name_one_model():
    found = registry("1a" * 32, "1b" * 32)
    assert found.model("1a").weights_digest == "1a" * 32
    with pytest.raises(NotFound):
        found.model("2")
    with pytest.raises(InvalidInput, match="2 models"):
        found.model("1")
    with pytest.raises(InvalidInput, match="must be given"):
        found.model("")


def test_a_rejected_model_needs_force():
    with pytest.raises(Conflict, match="force"):
        check_promotion(model(ONE, "rejected"), force=False)
    check_promotion(model(ONE, "rejected"), force=True)
    check_promotion(model(ONE, "undecided"), force=False)


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("x", " ")])
def test_the_audit_needs_who_and_why(who, why):
    with pytest.raises(InvalidInput, match="must be given"):
        check_signature(who, why)


def test_what_is_stored_is_read_back(blobs):
    models = Models(blobs)
    assert models.read() == Registry()
    stored = models.change(lambda found: promote(register(found, model(ONE), BY), ONE, BY))
    assert models.read() == stored
    assert stored.revision == 1


def test_a_change_that_changes_nothing_writes_nothing(blobs):
    models = Models(blobs)
    before = models.change(lambda found: register(found, model(ONE), BY))
    assert models.change(lambda found: register(found, model(ONE), BY)) == before


def test_concurrent_changes_are_all_kept(blobs):
    digests = [f"{i:064x}" for i in range(12)]

    def add(digest):
        Models(blobs).change(lambda found: register(found, model(digest), BY))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, digests))
    found = Models(blobs).read()
    assert sorted(each.weights_digest for each in found.models) == digests
    assert len(found.audit) == found.revision == 12


def test_a_change_that_is_refused_is_raised_and_not_repeated(blobs):
    calls = []

    def refuse(found):
        calls.append(found)
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        Models(blobs).change(refuse)
    assert len(calls) == 1


def test_what_is_no_registry_is_corrupt_and_a_newer_one_is_refused(blobs):
    blobs.create("registry/models.json", b"{}")
    with pytest.raises(Corrupt):
        Models(blobs).read()
    newer = b'{"schema_version": 99}'
    blobs.replace_if("registry/models.json", newer, etag=blobs.stat("registry/models.json").etag)
    with pytest.raises(InvalidInput, match="newer"):
        Models(blobs).read()


def test_the_order_of_registration_is_kept():
    found = registry(TWO, ONE)
    assert [each.weights_digest for each in found.models] == [TWO, ONE]
    assert replace(found, audit=()) == replace(
        register(found, model(TWO, decision="d0"), BY), audit=()
    )
