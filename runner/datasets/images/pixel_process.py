"""Decodes images for `inspection`, in a separate process with limits of memory and time.

Pillow drops the warnings of libjpeg, so a photo with overwritten bytes decodes into gray without an error: of
2883 damaged JPEGs that look complete from outside, it reports 18. `simplejpeg` passes the warnings on and reports 2479
of the others, and none of 400 undamaged ones. The remaining ones mostly have a changed byte that makes another picture
(docs/decisions/0010-damaged-jpegs.md).
"""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

from runner.datasets.limited_processes import answer_requests

_DECODER_BYTES = 2 << 30
_DECODER_SECONDS = 60
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
"""The beginnings of libjpeg's warnings about damage; its other warnings are about version numbers."""


def _papered_over(simplejpeg: Any, data: bytes) -> str:
    """Return the damage that a decoder tolerated; empty if there is none."""
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, "CMYK" if colours in {"CMYK", "YCCK"} else "RGB", strict=True)
    except ValueError as error:  # also because of layouts that only Pillow reads
        return f"its pixels are damaged ({error})" if str(error).startswith(_DAMAGE) else ""
    return ""


def main() -> None:
    """Answer each image on standard input with the problems of its pixels; empty if there are none."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # otherwise numpy reserves address space for each core
    import simplejpeg
    from PIL import Image

    warnings.simplefilter("error", Image.DecompressionBombWarning)

    def damage(data: bytes) -> bytes:
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                image.load()
            problem = _papered_over(simplejpeg, data) if data.startswith(b"\xff\xd8") else ""
        except MemoryError:
            problem = "decoding it takes too much memory"
        except Exception as error:
            # The library raises various errors: OSError, SyntaxError, struct.error, ValueError.
            problem = f"its pixels cannot be decoded ({str(error)[:200] or type(error).__name__})"
        return problem.encode()

    answer_requests(damage, memory=_DECODER_BYTES, seconds=_DECODER_SECONDS)


if __name__ == "__main__":
    main()
