"""gRPC in, gRPC out: rounds, recipes, models, artifacts."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import grpc
from athanor.common.v1 import artifacts_pb2, artifacts_pb2_grpc
from athanor.loop.v1 import loop_pb2 as pb
from athanor.loop.v1 import loop_pb2_grpc
from google.longrunning.operations_pb2 import Operation

from libs.artifacts import Artifact
from libs.blobs.port import Blobs
from libs.clock import Clock
from libs.errors import NotFound
from libs.formats import canonical_json
from libs.operations.servicer import DRY_RUN, LongCalls
from services.loop.garbage import Survey, check_days
from services.loop.intake import Command, Intake
from services.loop.lineage import Lineage
from services.loop.pins import Pin, Pins
from services.loop.registry import Model, Models, Registry, check_signature
from services.loop.rounds import RoundRecord, Rounds, StepRecord
from services.loop.serving import Serving
from services.loop.worker import page_name

_LINK_S = 24 * 3600.0
_CHUNK_BYTES = 1 << 20


class LoopServicer(loop_pb2_grpc.LoopServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(
        self,
        calls: LongCalls,
        *,
        intake: Intake,
        rounds: Rounds,
        models: Models,
        serving: Serving,
        blobs: Blobs,
    ) -> None:
        self._operations = calls
        self._intake = intake
        self._rounds = rounds
        self._models = models
        self._serving = serving
        self._blobs = blobs

    def StartRound(self, request: pb.StartRoundRequest, context: grpc.ServicerContext) -> Operation:
        if (DRY_RUN, "1") in {(key, value) for key, value in context.invocation_metadata() or ()}:
            return self._operations.start("StartRound", request, context)
        begun = self._intake.begin(
            request.request_id, request.recipe_yaml, request.as_of, request.who
        )
        return self._drive(begun, context)

    def ResumeRound(
        self, request: pb.ResumeRoundRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._drive(self._intake.resume(request.name), context)

    def CheckRecipe(
        self, request: pb.CheckRecipeRequest, context: grpc.ServicerContext
    ) -> pb.CheckRecipeResponse:
        found = self._intake.findings(request.recipe_yaml)
        return pb.CheckRecipeResponse(faults=found.faults, notes=found.notes, steps=found.steps)

    def ListRounds(
        self, request: pb.ListRoundsRequest, context: grpc.ServicerContext
    ) -> pb.ListRoundsResponse:
        newest = itertools.islice(self._rounds.all(), request.limit or 50)
        return pb.ListRoundsResponse(rounds=[self._round(record) for record in newest])

    def GetRound(self, request: pb.GetRoundRequest, context: grpc.ServicerContext) -> pb.Round:
        return self._round(self._rounds.resolve(request.name))

    def ReadReport(
        self, request: pb.ReadReportRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadReportResponse]:
        page = self._page(request.name)
        start = 0
        while chunk := self._blobs.read_range(page, start, _CHUNK_BYTES):
            yield pb.ReadReportResponse(chunk=chunk)
            start += len(chunk)

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("Decide", request, context)

    def Serve(self, request: pb.ServeRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("Serve", request, context)

    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        registry = self._models.read()
        return pb.ListModelsResponse(
            models=[_model(model, registry) for model in registry.models],
            audit=[
                pb.AuditEntry(
                    when=entry.when,
                    who=entry.who,
                    action=entry.action,
                    weights_digest=entry.weights_digest,
                    why=entry.why,
                )
                for entry in registry.audit
            ],
        )

    def ResolveLive(
        self, request: pb.ResolveLiveRequest, context: grpc.ServicerContext
    ) -> pb.Model:
        registry = self._models.read()
        return _model(registry.live, registry)

    def PromoteModel(
        self, request: pb.PromoteModelRequest, context: grpc.ServicerContext
    ) -> pb.Model:
        registry = self._serving.promote(
            request.weights_digest, request.who, request.why, force=request.force
        )
        return _model(registry.live, registry)

    def RollBackModel(
        self, request: pb.RollBackModelRequest, context: grpc.ServicerContext
    ) -> pb.Model:
        registry = self._serving.roll_back(request.weights_digest, request.who, request.why)
        return _model(registry.live, registry)

    def _drive(self, command: Command, context: grpc.ServicerContext) -> Operation:
        request = pb.StartRoundRequest(
            request_id=command.request_id,
            recipe_yaml=command.text,
            as_of=command.as_of,
            who=command.who,
        )
        return self._operations.start("StartRound", request, context)

    def _round(self, record: RoundRecord) -> pb.Round:
        shown = self._intake.shown(record)
        return pb.Round(
            name=shown.name,
            operation=shown.operation,
            recipe=shown.recipe,
            outcome=pb.Outcome.Value(f"OUTCOME_{(shown.outcome or 'unspecified').upper()}"),
            reason=shown.reason,
            steps=[_step(step) for step in shown.steps],
            artifact_id=shown.artifact_id,
            report=self._report_link(shown),
            attribution=shown.attribution,
            duration_s=shown.duration_s,
            as_of=shown.as_of,
        )

    def _report_link(self, shown: RoundRecord) -> str:
        page = self._page_of(shown)
        return self._blobs.link(page, expires_s=_LINK_S) if page else ""

    def _page(self, name: str) -> str:
        """Return the blob of a round's page, of the newest that has one for the empty name."""
        records = [self._rounds.resolve(name)] if name else self._rounds.all()
        for record in records:
            page = self._page_of(self._intake.shown(record))
            if page:
                return page
        raise NotFound(f"there is no report of {name or 'any round'} yet")

    def _page_of(self, shown: RoundRecord) -> str:
        """Return the page with times, or that of the artifact that answered the round."""
        candidates = [page_name(shown.id)] if shown.outcome else []
        if shown.artifact_id:
            candidates.append(f"artifacts/{shown.artifact_id}/report.html")
        return next((name for name in candidates if self._exists(name)), "")

    def _exists(self, name: str) -> bool:
        try:
            self._blobs.stat(name)
        except NotFound:
            return False
        return True


class ArtifactsServicer(artifacts_pb2_grpc.ArtifactsServiceServicer):
    """Looks at the artifacts of the store, keeps some, and deletes what nothing keeps."""

    def __init__(
        self,
        calls: LongCalls,
        lineage: Lineage,
        *,
        survey: Survey,
        pins: Pins,
        clock: Clock,
    ) -> None:
        self._operations = calls
        self._artifacts = calls.artifacts
        self._lineage = lineage
        self._survey = survey
        self._pins = pins
        self._clock = clock

    def ListArtifacts(
        self, request: artifacts_pb2.ListArtifactsRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.ListArtifactsResponse:
        found = self._artifacts.list(request.kind, request.limit or 100)
        return artifacts_pb2.ListArtifactsResponse(artifacts=[_artifact(each) for each in found])

    def GetArtifact(
        self, request: artifacts_pb2.GetArtifactRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.Artifact:
        return _artifact(self._artifacts.open(self._artifacts.resolve(request.artifact_id)))

    def VerifyArtifact(
        self, request: artifacts_pb2.VerifyArtifactRequest, context: grpc.ServicerContext
    ) -> Iterator[artifacts_pb2.VerifyArtifactResponse]:
        for finding in self._lineage.verify(self._artifacts.resolve(request.artifact_id)):
            yield artifacts_pb2.VerifyArtifactResponse(**finding._asdict())

    def GetLineage(
        self, request: artifacts_pb2.GetLineageRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.GetLineageResponse:
        nodes = self._lineage.walk(self._artifacts.resolve(request.artifact_id))
        return artifacts_pb2.GetLineageResponse(
            nodes=[
                artifacts_pb2.LineageNode(
                    artifact_id=node.artifact_id,
                    kind=node.kind,
                    inputs=node.inputs,
                    notes=node.notes,
                )
                for node in nodes
            ]
        )

    def ListGarbage(
        self, request: artifacts_pb2.ListGarbageRequest, context: grpc.ServicerContext
    ) -> Iterator[artifacts_pb2.Garbage]:
        check_days(request.rounds_older_than_days)
        for found in self._survey.garbage(rounds_older_than_days=request.rounds_older_than_days):
            yield artifacts_pb2.Garbage(
                artifact_id=found.artifact_id,
                kind=found.kind,
                size_bytes=found.size_bytes,
                reason=found.reason,
                wait_s=found.wait_s,
            )

    def CollectGarbage(
        self, request: artifacts_pb2.CollectGarbageRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._operations.start("CollectGarbage", request, context)

    def PinArtifact(
        self, request: artifacts_pb2.PinArtifactRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.Pin:
        check_signature(request.who, request.why)
        pin = Pin(
            artifact_id=self._artifacts.resolve(request.artifact_id),
            who=request.who,
            why=request.why,
            when=datetime.fromtimestamp(self._clock.now(), UTC).isoformat(),
        )
        return artifacts_pb2.Pin(**asdict(self._pins.pin(pin)))

    def UnpinArtifact(
        self, request: artifacts_pb2.UnpinArtifactRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.UnpinArtifactResponse:
        artifact_id = self._artifacts.resolve(request.artifact_id)
        self._pins.unpin(artifact_id)
        return artifacts_pb2.UnpinArtifactResponse(artifact_id=artifact_id)

    def ListPins(
        self, request: artifacts_pb2.ListPinsRequest, context: grpc.ServicerContext
    ) -> artifacts_pb2.ListPinsResponse:
        pins = [artifacts_pb2.Pin(**asdict(each)) for each in self._pins.all()]
        return artifacts_pb2.ListPinsResponse(pins=pins)


def _step(step: StepRecord) -> pb.Step:
    return pb.Step(
        name=step.name,
        rpc=step.rpc,
        state=step.state,
        operation=step.operation,
        artifact_id=step.artifact_id,
        kind=step.kind,
        cached=step.cached,
        duration_s=step.duration_s,
        message=step.message or step.reason,
        completed=step.completed,
        total=step.total,
        unit=step.unit,
    )


def _model(model: Model, registry: Registry) -> pb.Model:
    return pb.Model(
        weights_digest=model.weights_digest,
        checkpoint_id=model.checkpoint_id,
        live=registry.history[-1:] == (model.weights_digest,),
        status=model.status,
        round=model.round,
    )


def _artifact(artifact: Artifact) -> artifacts_pb2.Artifact:
    return artifacts_pb2.Artifact(
        artifact_id=artifact.id,
        kind=artifact.manifest.kind,
        manifest_json=artifact.manifest.to_json().decode(),
        run_json=canonical_json(artifact.run()).decode(),
        size_bytes=sum(file.size_bytes for file in artifact.manifest.files),
    )
