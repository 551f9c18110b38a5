"""Reads what the box must know of an ONNX file before ONNX Runtime may: external data, operators, metadata.

An ONNX file may name other files as the place of its weights; the runtime would open them. It may also carry custom
operators and local functions. A policy of ours has none of that, so this walks the protocol buffer itself (wire format:
protobuf.dev/programming-guides/encoding; field numbers: onnx.proto) and refuses a file that does, before it is loaded.
Only lengths and heads are read; no tensor is copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge.errors import RemoteError
from edge.limits import POLICY_BYTES_MAX

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEPTH_MAX: Final = 8
_FIELDS_MAX: Final = 200_000
# message → field → what lies in it
_MODEL: Final = {7: "graph", 8: "opset", 14: "metadata", 20: "training", 25: "function"}
_NESTED: Final = {
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_EXTERNAL_DATA: Final = 13
_TENSOR_DATA_LOCATION: Final = 14
_NODE_DOMAIN: Final = 7
_STANDARD_DOMAINS: Final = (b"", b"ai.onnx")


class PolicyRefused(RemoteError):
    """A policy file that this box will not run; prices come from the weekly optimiser instead."""

    def __init__(self, message: str, *, reason: str = "policy") -> None:
        super().__init__(message, reason=reason)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a checked file says of itself."""

    metadata: dict[str, str]
    nodes: int


def check_model(data: bytes) -> ModelFacts:
    """Metadata of an ONNX model that is whole in itself. Raises `PolicyRefused` for any other."""
    if len(data) > POLICY_BYTES_MAX:
        raise PolicyRefused(f"policy of {len(data)} bytes; at most {POLICY_BYTES_MAX}")
    walker = _Walker(data)
    metadata: dict[str, str] = {}
    for number, wire, start, end in walker.fields(0, len(data)):
        part = _MODEL.get(number)
        if part in ("training", "function"):
            raise PolicyRefused(f"policy carries a {part}; only a plain graph is run")
        if part == "graph" and wire == _BYTES:
            walker.check("graph", start, end, 0)
        if part == "opset" and wire == _BYTES:
            for inner, _, low, high in walker.fields(start, end):
                if inner == 1 and data[low:high] not in _STANDARD_DOMAINS:
                    raise PolicyRefused(f"policy needs the operators of {data[low:high]!r}")
        if part == "metadata" and wire == _BYTES:
            entry = {inner: data[low:high] for inner, _, low, high in walker.fields(start, end)}
            try:
                metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            except UnicodeDecodeError as error:
                raise PolicyRefused("policy's metadata is not UTF-8") from error
    if walker.nodes == 0:
        raise PolicyRefused("policy holds no graph")
    return ModelFacts(metadata, walker.nodes)


class _Walker:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._seen = 0
        self.nodes = 0

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(field number, wire type, start, end) of each field in start..end; a varint's value lies in `start`."""
        at = start
        while at < end:
            self._seen += 1
            if self._seen > _FIELDS_MAX:
                raise PolicyRefused("policy has too many fields")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, at = self._varint(at, end)
                yield number, wire, value, value
                continue
            if wire == _BYTES:
                length, at = self._varint(at, end)
            elif wire in (_FIXED64, _FIXED32):
                length = 8 if wire == _FIXED64 else 4
            else:
                raise PolicyRefused("policy is not an ONNX file: unknown wire type")
            if length > end - at:
                raise PolicyRefused("policy is not an ONNX file: cut short")
            yield number, wire, at, at + length
            at += length

    def check(self, message: str, start: int, end: int, depth: int) -> None:
        """Walk `message` and what it contains."""
        if depth > _DEPTH_MAX:
            raise PolicyRefused("policy nests graphs too deeply")
        nested = _NESTED.get(message, {})
        for number, wire, low, high in self.fields(start, end):
            if message == "tensor":
                if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and low != 0):
                    raise PolicyRefused("policy keeps weights in another file")
            elif message == "node" and number == _NODE_DOMAIN and self._data[low:high] not in _STANDARD_DOMAINS:
                raise PolicyRefused(f"policy uses an operator of {self._data[low:high]!r}")
            elif number in nested and wire == _BYTES:
                inner = nested[number]
                self.nodes += inner == "node"
                self.check(inner, low, high, depth + 1)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value, at
            shift += 7
        raise PolicyRefused("policy is not an ONNX file: a number does not end")
