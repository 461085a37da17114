"""Count the decisions taken on the decision half of an exam, and refuse one too many.

Here because a half that is decided on again and again is learned by selection: each decision
spends some of it. `registry/decisions/<half>.json`, named by the half's digest, holds one
key for each distinct decision.
"""

from collections.abc import Sequence

from libs.blobs.port import Blobs
from libs.blobs.swap import standing, swap
from libs.errors import Conflict
from libs.formats import canonical_json
from libs.schema import Fields, Schema, unchanged

SCHEMA = Schema(name="the decisions on an exam", version=1, migrations={0: unchanged})
DEFAULT_MAX_DECISIONS = 5


def spend(blobs: Blobs, exam_id: str, key: str, *, limit: int) -> int:
    """Count the decision `key`, unless it was counted before; return how many there are then.

    Raises:
        Conflict: the half has served `limit` other decisions already.
    """
    while True:
        name = f"registry/decisions/{exam_id}.json"
        stored = standing(blobs, name)
        document = SCHEMA.read(stored.data) if stored else _undecided()
        keys: Sequence[str] = document["decisions"]
        if key in keys:
            return len(keys)
        if len(keys) >= limit:
            raise Conflict(
                f"the decision half of exam {exam_id[:12]} has served {len(keys)} decisions and "
                f"may serve {limit}: build or import an exam with new items, or register it with a "
                "higher max_decisions, which weakens every decision taken on it"
            )
        after = {"revision": document["revision"] + 1, "decisions": [*keys, key]}
        data = canonical_json(SCHEMA.stamped(after))
        try:
            swap(blobs, name, data, stored)
        except Conflict:
            continue  # another decision was counted in between
        return len(keys) + 1


def _undecided() -> Fields:
    return {"revision": 0, "decisions": []}
