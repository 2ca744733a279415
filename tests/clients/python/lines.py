"""JSON lines in, JSON lines out: what the client programs in this folder share."""

import json
import sys


_SAFE = 2**53 - 1


def print_line(value):
    """Prints one JSON line; bytes are written as {"$bin": hex}, integers beyond 2^53 as {"$int": decimal}."""
    sys.stdout.write(json.dumps(_encode(value), default=str) + "\n")
    sys.stdout.flush()


def parse_line(text):
    """Parses one order; {"$bin": hex} becomes bytes, {"$int": decimal} an integer."""
    return json.loads(text, object_hook=_decode)


def _encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bin": bytes(value).hex()}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, int) and abs(value) > _SAFE:
        return {"$int": str(value)}
    return value


def _decode(value):
    if set(value) == {"$bin"}:
        return bytes.fromhex(value["$bin"])
    if set(value) == {"$int"}:
        return int(value["$int"])
    return value
