"""What a proto promises beyond its types, kept for every servicer: deadlines and required fields.

The options are `deadline_required` and `required` of `athanor/common/v1/options.proto`; they are
read from the descriptors, so that a recipe's check and the server's cannot differ.
"""

from contextlib import suppress
from functools import cache

import grpc
from athanor.common.v1 import options_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from libs.errors import InvalidInput

# gRPC answers with centuries where the caller gave no deadline.
_NO_DEADLINE_S = 10 * 365 * 86400.0


def check_deadline(method: str, context: grpc.ServicerContext) -> None:
    """Raise `InvalidInput` when `method`, `package.Service/Name`, needs a deadline and has none."""
    if _requires_deadline(method) and not _has_deadline(context):
        raise InvalidInput(f"{method} may take long: it needs a deadline, got none")


def checked(message: Message, path: str = "") -> Message:
    """Return the message if every `required` field is given, at any depth but inside lists.

    Raises:
        InvalidInput: one is not; its path is named.
    """
    for field in _fields(message.DESCRIPTOR, required=True):
        if not _is_given(message, field):
            raise InvalidInput(f"{path}{field.name} must be given, got none")
    for field in _fields(message.DESCRIPTOR, required=False):
        if message.HasField(field.name):
            checked(getattr(message, field.name), f"{path}{field.name}.")
    return message


def _has_deadline(context: grpc.ServicerContext) -> bool:
    remaining_s = context.time_remaining()
    return remaining_s is not None and remaining_s < _NO_DEADLINE_S


@cache
def _requires_deadline(method: str) -> bool:
    descriptor = method_named(method)
    return bool(descriptor and descriptor.GetOptions().Extensions[options_pb2.deadline_required])


def method_named(method: str) -> MethodDescriptor | None:
    """Return the method `package.Service/Name`, or None where no proto declares it."""
    service, _, name = method.partition("/")
    with suppress(KeyError):
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return None


@cache
def _fields(descriptor: Descriptor, *, required: bool) -> tuple[FieldDescriptor, ...]:
    """Return the required fields, or those that hold one message."""
    if required:
        return tuple(
            field
            for field in descriptor.fields
            if field.GetOptions().Extensions[options_pb2.required]
        )
    return tuple(
        field for field in descriptor.fields if field.message_type and not field.is_repeated
    )


def _is_given(message: Message, field: FieldDescriptor) -> bool:
    if field.has_presence:
        return message.HasField(field.name)
    return bool(getattr(message, field.name))
