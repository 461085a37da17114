"""gRPC in, gRPC out: dead letters of every topic."""

import importlib

import grpc
from athanor.common.v1 import dead_letters_pb2 as pb
from athanor.common.v1 import dead_letters_pb2_grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Payload

from libs.bus.dead_letters import DeadLetters, Letter
from libs.bus.port import DEAD, Bus, Message
from libs.errors import Corrupt, NotFound

SERVICE_NAME = "athanor.common.v1.DeadLettersService"


class DeadLettersServicer(dead_letters_pb2_grpc.DeadLettersServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, letters: DeadLetters, bus: Bus) -> None:
        self._letters = letters
        self._bus = bus

    def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: grpc.ServicerContext
    ) -> pb.ListDeadLettersResponse:
        found = self._letters.newest(request.topic, request.limit or 100)
        return pb.ListDeadLettersResponse(letters=[self._told(letter) for letter in found])

    def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: grpc.ServicerContext
    ) -> pb.DeadLetter:
        letter = self._letters.get(request.name)
        told = self._told(letter)
        told.payload = payload_of(self._bus, letter.message)
        return told

    def ReplayDeadLetter(
        self, request: pb.ReplayDeadLetterRequest, context: grpc.ServicerContext
    ) -> pb.ReplayDeadLetterResponse:
        outcome = self._letters.replay(request.name, dry_run=request.dry_run)
        return pb.ReplayDeadLetterResponse(
            outcome=outcome, topic=request.name.split("/")[0].removesuffix(DEAD)
        )

    def _told(self, letter: Letter) -> pb.DeadLetter:
        return pb.DeadLetter(
            name=letter.name,
            cause=letter.cause,
            origin=letter.origin,
            key=letter.message.key,
            age_s=letter.message.age_s,
            headers=letter.headers,
            size_bytes=len(letter.message.value),
            replayed=self._letters.was_replayed(letter),
        )


def payload_of(bus: Bus, message: Message) -> str:
    """Return a message's value for people: JSON of a known event, else text, else nothing."""
    try:
        value = bus.redeem(message).value
    except (NotFound, Corrupt):
        return ""  # the letter's cause says so
    try:
        kind = _event_type(message.headers.get("ce_type", ""))
        return MessageToJson(kind.FromString(value), preserving_proto_field_name=True)
    except (LookupError, DecodeError):
        return _text(value)


def _event_type(name: str) -> type[Payload]:
    """Return the class of a service's event. Raises `LookupError` if no service has it."""
    package, _, message = name.rpartition(".")
    if not package.startswith("athanor."):
        raise LookupError(name)
    try:
        found: type[Payload] = getattr(importlib.import_module(f"{package}.events_pb2"), message)
    except (ImportError, AttributeError) as error:
        raise LookupError(name) from error
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""
