"""Stand-ins for the protobuf messages that the worker library exchanges with its host.

The worker takes its message classes from `request.properties["protos"]` and only ever builds them
by keyword and reads attributes, so plain objects do. Two of them are `oneof` messages, whose
`WhichOneof` names the field that is set. The module itself is passed as `protos`.

Field names: azure-functions-language-worker-protobuf, FunctionRpc.proto (read 2026-11-22).
"""

from types import SimpleNamespace


class Message(SimpleNamespace):
    """A message without behaviour: the fields it was given, as attributes."""


class TypedData(Message):
    """A value on its way in or out: exactly one of string, json, bytes, http, int, double."""

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's own spelling
        return next((name for name, value in vars(self).items() if value is not None), None)


class ParameterBinding(Message):
    """A named argument of a function; `data` is the only transport this host uses."""

    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's own spelling
        return "data"


class StatusResult(Message):
    Failure, Success, Cancelled = range(3)


class BindingInfo(Message):
    """Directions and data types as numbered in the protocol (`in` is spelled `in_` in Python)."""

    in_, out, inout = range(3)
    undefined, string, binary, stream = range(4)


class RpcHttpCookie(Message):
    SameSite = SimpleNamespace(**{"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})


# A class per message: the worker looks each one up by its name in this module.
class FunctionMetadataResponse(Message): ...


class InvocationResponse(Message): ...


class NullableBool(Message): ...


class NullableDouble(Message): ...


class NullableString(Message): ...


class NullableTimestamp(Message): ...


class RpcException(Message): ...


class RpcFunctionMetadata(Message): ...


class RpcHttp(Message): ...


class RpcRetryOptions(Message): ...


class Timestamp(Message): ...


class WorkerInitResponse(Message): ...


class WorkerMetadata(Message): ...
