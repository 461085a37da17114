"""gRPC in, gRPC out: long calls become operations, short ones call the core."""

import grpc
from athanor.evaluator.v1 import evaluator_pb2 as pb
from athanor.evaluator.v1 import evaluator_pb2_grpc
from google.longrunning.operations_pb2 import Operation

from libs.blobs.port import Blobs
from libs.operations.servicer import LongCalls
from services.evaluator.exams import registered
from services.evaluator.power import Effect, design_effect, items_needed, power


class EvaluatorServicer(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, calls: LongCalls, blobs: Blobs) -> None:
        self._operations = calls
        self._blobs = blobs

    def BuildExam(self, request: pb.BuildExamRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("BuildExam", request, context)

    def ImportExam(self, request: pb.ImportExamRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("ImportExam", request, context)

    def FreezeExams(
        self, request: pb.FreezeExamsRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._operations.start("FreezeExams", request, context)

    def Examine(self, request: pb.ExamineRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("Examine", request, context)

    def Diagnose(self, request: pb.DiagnoseRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("Diagnose", request, context)

    def Compare(self, request: pb.CompareRequest, context: grpc.ServicerContext) -> Operation:
        return self._operations.start("Compare", request, context)

    def ListExams(
        self, request: pb.ListExamsRequest, context: grpc.ServicerContext
    ) -> pb.ListExamsResponse:
        return pb.ListExamsResponse(
            exams=[
                pb.RegisteredExam(name=exam.name, exam_id=exam.exam_id, num_items=exam.num_items)
                for exam in registered(self._blobs)
            ]
        )

    def ComputePower(
        self, request: pb.ComputePowerRequest, context: grpc.ServicerContext
    ) -> pb.ComputePowerResponse:
        design = design_effect(request.items_per_document or 1.0, request.intraclass_correlation)
        effect = Effect(gain=request.gain, discordance=request.discordance, design_effect=design)
        return pb.ComputePowerResponse(
            power=power(request.num_items, effect),
            num_items_needed=min(items_needed(effect), 2**32 - 1),
        )
