"""Decodes images for `inspection`, in a process of its own under limits of memory and time.

Pillow drops the warnings of libjpeg, so that a photo with overwritten bytes decodes into grey without a complaint: of
2883 damaged JPEGs that look whole from outside it reports 18. `simplejpeg` passes the warnings on and reports 2479 of
the others, and none of 400 undamaged ones. What is left is mostly a changed byte that makes another picture
(docs/decisions/0013-damaged-jpegs.md).
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import warnings
from typing import Any

_DECODER_BYTES = 2 << 30
_DECODER_SECONDS = 60
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
"""What libjpeg's warnings of damage begin with; others are of version numbers."""


def _papered_over(simplejpeg: Any, data: bytes) -> str:
    """Return the damage that a decoder has made pixels of nevertheless; empty if there is none."""
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, "CMYK" if colours in {"CMYK", "YCCK"} else "RGB", strict=True)
    except ValueError as error:  # of layouts, too, that only Pillow reads
        return f"its pixels are damaged ({error})" if str(error).startswith(_DAMAGE) else ""
    return ""


def main() -> None:
    """Decode the images on standard input, each behind its length, and answer each with a line of JSON."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else numpy reserves address space for each core
    import simplejpeg
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
            problem = _papered_over(simplejpeg, data) if data.startswith(b"\xff\xd8") else ""
        except MemoryError:
            problem = "decoding it takes too much memory"
        except Exception as error:
            # The library raises what it likes: OSError, SyntaxError, struct.error, ValueError.
            problem = f"its pixels cannot be decoded ({str(error)[:200] or type(error).__name__})"
        output.write(json.dumps(problem).encode() + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
