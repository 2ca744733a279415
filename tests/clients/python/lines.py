"""JSON lines in, JSON lines out: what the client programs in this folder share."""

import json
import sys


def print_line(value):
    """Prints one JSON line; bytes are written as {"$bin": hex}."""
    sys.stdout.write(json.dumps(value, default=_encode) + "\n")
    sys.stdout.flush()


def parse_line(text):
    """Parses one order; {"$bin": hex} becomes bytes."""
    return json.loads(text, object_hook=_decode)


def _encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bin": bytes(value).hex()}
    return str(value)


def _decode(value):
    return bytes.fromhex(value["$bin"]) if set(value) == {"$bin"} else value
