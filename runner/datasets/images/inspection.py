"""Inspects images closely: reads the objects that a dataset names, and decodes pixels in a separate process.

`data check` itself reads the bytes of inline images without decoding them, and no buckets. This module reads every
object once, no matter how many lines name it. The process that decodes pixels may die or grow without harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from runner.datasets.examples import Example, Finding, ImagePart, Severity
from runner.datasets.limited_processes import LimitedProcesses
from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.sources import STDIN, Source, name_of
from runner.datasets.records.recognising import open_examples
from runner.datasets.rules.images import ImageError, decode_data_url, read_header
from runner.datasets.rules.parsing import parse_raw
from runner.errors import ConfigurationError, GoogleApiError, NotFoundError
from runner.gcp.downloads import open_object
from runner.gcp.session import Session
from runner.installation import require

MAX_OBJECT_BYTES = 64 << 20
_THREADS = 16
_BATCH = 256
"""Number of lines whose images are inspected at once."""

Problem = tuple[str, Severity, str]
"""Code, severity and message."""


class PictureCheck:
    """Inspects the images of datasets; a context manager.

    Args:
        session: connection for reading named objects; None means that they are not read.
        decode: also decode the pixels.

    Raises:
        EngineMissingError: pixels are to be decoded, and the decoder is not installed.
    """

    def __init__(self, session: Session | None, *, decode: bool) -> None:
        if decode:
            require("decoding images", "local", PIL="Pillow", simplejpeg="simplejpeg")
        self.session = session
        self._decoder = LimitedProcesses("runner.datasets.images.pixel_process") if decode else None
        self._known: dict[str, tuple[str, list[Problem]]] = {}
        """Maps an object's address to its type and its problems."""

    def __enter__(self) -> PictureCheck:
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def findings(self, source: Source) -> Iterator[Finding]:
        """Yield the problems of a dataset's images, line by line."""
        if source == STDIN:
            raise ConfigurationError("standard input cannot be read twice", hint="to check the images, use a file")
        name = name_of(source)
        waiting: list[tuple[int, list[tuple[str, ImagePart]]]] = []
        with open_examples(source) as opened, ThreadPoolExecutor(_THREADS, "images") as pool:
            for raw in raw_lines(opened.lines()):
                if b"gs:" not in raw.data and b"base64" not in raw.data and b"nline" not in raw.data:
                    continue
                parsed = parse_raw(raw)
                if parsed is not None and parsed.example is not None and parsed.example.images:
                    waiting.append((raw.number, list(_images(parsed.example))))
                if len(waiting) >= _BATCH:
                    yield from self._look(waiting, name, pool)
                    waiting = []
            yield from self._look(waiting, name, pool)

    def _look(
        self, lines: list[tuple[int, list[tuple[str, ImagePart]]]], name: str, pool: ThreadPoolExecutor
    ) -> Iterator[Finding]:
        uris = {image.uri for _, images in lines for _, image in images if image.uri.startswith("gs://")}
        new = [uri for uri in uris if uri not in self._known] if self.session is not None else []
        self._known.update(zip(new, pool.map(self._object, new), strict=True))
        for line, images in lines:
            for path, image in images:
                for code, severity, message in self._problems(image):
                    yield Finding(code=code, severity=severity, file=name, line=line, path=path, message=message)

    def _problems(self, image: ImagePart) -> list[Problem]:
        if image.uri.startswith("gs://"):
            actual, problems = self._known.get(image.uri, ("", []))
            declared = image.mime_type
            if declared and actual and declared.lower() != actual:
                message = f"declared as {declared}, the object's bytes are {actual}"
                return [*problems, ("image-mismatch", "warning", message)]
            return problems
        if self._decoder is None:
            return []
        problem = _damage(self._decoder, decode_data_url(image.uri)[1])
        return [("image-truncated", "error", problem)] if problem else []

    def _object(self, uri: str) -> tuple[str, list[Problem]]:
        assert self.session is not None  # noqa: S101 - the caller checks this
        try:
            info, stream = open_object(self.session, uri)
            with stream:
                if info.size > MAX_OBJECT_BYTES:
                    return "", [("image-too-large", "error", f"the object has {info.size} bytes")]
                data = stream.read()
            header = read_header(data)
        except NotFoundError:
            return "", [("image-missing", "error", "there is no such object")]
        except GoogleApiError as error:
            return "", [("image-missing", "error", f"the object cannot be read: {error.message}")]
        except ImageError as error:
            return "", [(error.finding, "error", f"the object: {error.message}")]
        problems: list[Problem] = [(code, "warning", f"the object: {message}") for code, message, _ in header.notes]
        if self._decoder is not None and (problem := _damage(self._decoder, data)):
            problems.append(("image-truncated", "error", f"the object: {problem}"))
        return header.mime_type, problems


def _images(example: Example) -> Iterator[tuple[str, ImagePart]]:
    """Yield each image with its JSON path."""
    generate = example.format == "generate_content"
    system = example.messages[0].role == "system"
    for index, message in enumerate(example.messages):
        turn = f"contents[{index - system}].parts" if generate else f"messages[{index}].content"
        for number, part in enumerate(message.parts):
            if isinstance(part, ImagePart):
                yield f"{turn}[{number}]", part


def _damage(decoder: LimitedProcesses, data: bytes) -> str:
    """Return why an image cannot be decoded; empty if it can."""
    answer = decoder.ask(data)
    return answer.decode() if answer is not None else "decoding it takes too much memory or time"
