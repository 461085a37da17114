"""The verbs that change what the corpus holds."""

import json
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer

from athanor.client.operations import ended
from athanor.client.terminal import Json, asking

_FORGET_S = 3600.0
corpus = typer.Typer(no_args_is_help=True, help="Change what the corpus holds.")


@corpus.callback()
def _corpus() -> None:
    """Keep `forget` a verb of its own: a group of one command would be that command."""


@corpus.command("forget")
def forget(
    context: typer.Context,
    document: Annotated[str, typer.Argument(help="Document id, or its address, exactly.")],
    as_json: Json = False,
) -> None:
    """Take a document out of the corpus, and name the plans and checkpoints that held it.

    Those still stand, as do copies outside the corpus: tokens, reports, backups, local caches.
    """
    from athanor.common.v1 import artifacts_pb2, operations_pb2_grpc
    from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc

    with asking(context, everything=True) as client:
        channel = client.services["corpus"]
        started = corpus_pb2_grpc.CorpusServiceStub(channel).ForgetDocument(
            corpus_pb2.ForgetDocumentRequest(
                request_id=uuid.uuid4().hex,
                document=document,
                as_of=datetime.now(UTC).isoformat(),
            ),
            timeout=60,
        )
        watching = operations_pb2_grpc.OperationsWatchServiceStub(channel)
        made = ended(watching, started.name, timeout_s=_FORGET_S).artifact_id
        request = artifacts_pb2.GetLineageRequest(artifact_id=made)
        notes = [*client.artifacts.GetLineage(request).nodes[0].notes]
    shown = {"tombstone": made, "notes": notes}
    typer.echo(json.dumps(shown) if as_json else "\n".join([*notes, f"tombstone {made}"]))
