"""gRPC in, operations out: every call of the trainer is a long one."""

import grpc
from athanor.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from google.longrunning.operations_pb2 import Operation

from libs.operations.servicer import LongCalls


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, calls: LongCalls) -> None:
        self._calls = calls

    def TrainTokenizer(
        self, request: trainer_pb2.TrainTokenizerRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._calls.start("TrainTokenizer", request, context)

    def ExtractTokenizer(
        self, request: trainer_pb2.ExtractTokenizerRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._calls.start("ExtractTokenizer", request, context)

    def ImportCheckpoint(
        self, request: trainer_pb2.ImportCheckpointRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._calls.start("ImportCheckpoint", request, context)

    def Pretrain(
        self, request: trainer_pb2.PretrainRequest, context: grpc.ServicerContext
    ) -> Operation:
        return self._calls.start("Pretrain", request, context)

    def Train(self, request: trainer_pb2.TrainRequest, context: grpc.ServicerContext) -> Operation:
        return self._calls.start("Train", request, context)
