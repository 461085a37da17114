"""What a plan must prove before anything is learned from it.

No exam item may be in training, and it is here that this is enforced and not hoped for: the
certificate must be one of exactly the passages that the plan draws from, for exactly the exam set
of the request, and the tokens must be those of the model's own tokenizer. Pure: files are read in
`admission`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import Conflict
from libs.formats import Certificate, ids_sha256


@dataclass(frozen=True, kw_only=True)
class Source:
    """One set of tokens that a plan draws from."""

    name: str
    """`target` or `replay`, for messages."""
    passage_ids: Sequence[str]
    tokenizer_sha256: str
    certificate: Certificate | None
    """The one that came with the plan."""


def check_source(source: Source, *, exam_set_id: str, tokenizer_sha256: str) -> None:
    """Check one source against the exams and the tokenizer of the model.

    Raises:
        Conflict: the certificate is absent, is of other passages or of another exam set, or the
            tokens were made by another tokenizer.
    """
    certificate, name = source.certificate, source.name
    if certificate is None:
        raise Conflict(f"the plan draws {name} passages, but has no certificate for them")
    if certificate.exam_set_id != exam_set_id:
        raise Conflict(
            f"the certificate of the {name} passages must cover exam set {exam_set_id}, it covers "
            f"{certificate.exam_set_id or 'none'}: collect and plan again with this exam set"
        )
    actual = ids_sha256(source.passage_ids)
    if certificate.passages_sha256 != actual:
        raise Conflict(
            f"the certificate of the {name} passages must cover the {len(source.passage_ids)} "
            f"passages of the plan ({actual[:12]}), it covers {certificate.num_passages} others "
            f"({certificate.passages_sha256[:12]})"
        )
    if source.tokenizer_sha256 != tokenizer_sha256:
        raise Conflict(
            f"the {name} tokens must be made by the model's tokenizer ({tokenizer_sha256[:12]}), "
            f"they are made by another one ({source.tokenizer_sha256[:12]})"
        )


def check_draws(first: int, last: int, num_passages: int) -> None:
    """Check that a plan draws only from the passages that its certificates cover.

    Args:
        first: smallest index of a passage drawn.
        last: largest one.
        num_passages: passages of all sources together.

    Raises:
        Conflict: it draws others.
    """
    if not 0 <= first <= last < num_passages:
        raise Conflict(
            f"the plan must draw from its {num_passages} certified passages, it draws "
            f"{first} to {last}"
        )
