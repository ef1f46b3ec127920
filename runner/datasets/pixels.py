"""Decodes images for `pictures`, in a process of its own under limits of memory and time."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import warnings

from runner.datasets.jpeg_scan import scan_problem

_DECODER_BYTES = 2 << 30
_DECODER_SECONDS = 60


def main() -> None:
    """Decode the images on standard input, each behind its length, and answer each with a line of JSON."""
    from PIL import Image

    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    resource.setrlimit(resource.RLIMIT_AS, (_DECODER_BYTES, _DECODER_BYTES))
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    while head := sys.stdin.buffer.read(8):
        # Of the process so far and this image.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + _DECODER_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        data = sys.stdin.buffer.read(struct.unpack(">Q", head)[0])
        problem = ""
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                image.load()
            problem = scan_problem(data) if data.startswith(b"\xff\xd8") else ""
        except MemoryError:
            problem = "decoding it takes too much memory"
        except Exception as error:
            # The library raises what it likes: OSError, SyntaxError, struct.error, ValueError.
            problem = f"its pixels cannot be decoded ({str(error)[:200] or type(error).__name__})"
        output.write(json.dumps(problem).encode() + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
