"""Shared parts of the XML API: documents and errors, headers, paths of buckets."""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from xml.sax.saxutils import escape

from starlette.responses import Response

from runner.emulator.errors import ApiError, unknown_path
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import naming, signatures
from runner.emulator.storage.faults import NotModifiedError, bad_request

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
"""The namespace of Google's own responses."""

SETTINGS = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
}
"""Maps headers, and fields of forms, to the settings of an object."""
EXTENSIONS = {"storage-class": "storageClass", "custom-time": "customTime"}
"""The same for those after `x-goog-`."""
_RESERVED = re.compile(
    r"(v\d+((alpha|beta)\d*)?(p\d+(alpha|beta)\d+)?|ui|batch|billing|budgets|compute|download|emulator|healthz|kms"
    r"|monitoring|oauth2|quotas|resumable|retry_tests?|storage|token|upload|workloadidentity)\Z"
)
"""First segments of the other APIs' paths."""

_CODES = {
    304: "NotModified",
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "BucketNotEmpty",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    405: "MethodNotAllowed",
    416: "InvalidRange",
    499: "ClientClosedRequest",
    503: "ServiceUnavailable",
}


_MESSAGES = {
    "AccessDenied": "Access denied.",
    "BucketNotEmpty": "The bucket you tried to delete is not empty.",
    "ExpiredToken": "The provided token has expired.",
    "InvalidAccessKeyId": "The User Id you provided does not exist in our records.",
    "InvalidArgument": "Invalid argument.",
    "NoSuchKey": "The specified key does not exist.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided. "
    "Check your Google secret key and signing method.",
}
"""The fixed messages; details contain the rest."""


def answered_in_xml(handler: Handler) -> Handler:
    """Check that the path is a bucket's, and the request's signature; return refusals in XML."""

    @functools.wraps(handler)
    async def wrapped(request: ApiRequest) -> Response:
        bucket = request.fields.get("bucket")
        if bucket is not None and (_RESERVED.match(bucket) or not naming.is_bucket_name(bucket)):
            # Not an object but a path of another API that this server does not have.
            raise unknown_path(request.method, request.scope["path"])
        try:
            signatures.verify(request)
            return await handler(request)
        except NotModifiedError:
            return Response(status_code=304)
        except ApiError as error:
            return _error(error, request)

    return wrapped


def _error(error: ApiError, request: ApiRequest) -> Response:
    code = error.reason if error.reason and error.reason[0].isupper() else _CODES.get(error.http, "InternalError")
    if error.http == 404 and error.message == "The specified bucket does not exist.":
        code = "NoSuchBucket"
    message = _MESSAGES.get(code, error.message)
    body = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    if message != error.message:
        body += f"<Details>{escape(error.message)}</Details>"
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{body}</Error>"
    return xml_response(body if request.method != "HEAD" else "", error.http, error.headers)


def document(tag: str, content: str, status: int = 200) -> Response:
    """Return a response with one element."""
    return xml_response(f"<?xml version='1.0' encoding='UTF-8'?><{tag} xmlns='{NAMESPACE}'>{content}</{tag}>", status)


def element(tag: str, text: object) -> str:
    """Return an element with a text."""
    return f"<{tag}>{escape(str(text))}</{tag}>"


def parsed(body: bytes, code: str = "MalformedXML") -> ElementTree.Element:
    """Return the element in a body. Raises ApiError 400 with this code."""
    # A document type could define entities that expand without limit; real requests have none.
    if b"<!" not in re.sub(rb"<!--.*?-->", b"", body, flags=re.DOTALL):
        try:
            return ElementTree.fromstring(body)  # noqa: S314 - no document type, see above
        except (ElementTree.ParseError, ValueError, LookupError):  # the last two for encodings
            pass
    raise bad_request("The XML you provided was not well-formed.", code)


def texts(node: ElementTree.Element) -> dict[str, str]:
    """Return the texts of the direct child elements by their names without namespaces."""
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in node}


def extension(headers: Mapping[str, str], name: str) -> str | None:
    """Return the header `x-goog-NAME`, or `x-amz-NAME`, which clients of S3 send."""
    found = headers.get(f"x-goog-{name}")
    return headers.get(f"x-amz-{name}") if found is None else found


def predefined_acl(headers: Mapping[str, str]) -> str | None:
    """Return the predefined access control list in `x-goog-acl` with the JSON API's name (`publicRead`)."""
    name = extension(headers, "acl")
    return camel(name) if name else None


def camel(name: str) -> str:
    """Return `public-read` as `publicRead`."""
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def xml_response(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an XML answer."""
    return Response(body.encode(), status, headers, "application/xml; charset=UTF-8")
