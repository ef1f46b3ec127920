"""The dress of the XML API: error bodies, signed URLs, which paths are buckets."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import naming
from runner.emulator.storage.faults import NotModifiedError, bad_request

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
"""The namespace of Google's own answers too."""

_RESERVED = re.compile(
    r"(v\d+((alpha|beta)\d*)?(p\d+(alpha|beta)\d+)?|ui|batch|billing|budgets|compute|download|emulator|healthz|kms"
    r"|monitoring|oauth2|quotas|resumable|storage|token|upload|workloadidentity)\Z"
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
    416: "InvalidRange",
    499: "ClientClosedRequest",
    503: "ServiceUnavailable",
}


def answered_in_xml(handler: Handler) -> Handler:
    """Check that the path is a bucket's and the URL's signature is in time; answer refusals in XML."""

    @functools.wraps(handler)
    async def wrapped(request: ApiRequest) -> Response:
        bucket = request.fields["bucket"]
        if _RESERVED.match(bucket) or not naming.is_bucket_name(bucket):
            # Not an object at all: a path of another API that this server does not have.
            raise ApiError(
                "UNIMPLEMENTED",
                f"The emulator does not support {request.method} {request.url.path} (see `runner explain emulator`).",
            )
        try:
            check_signed_url(request)
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
    body = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{code}</Code><Message>{escape(error.message)}</Message></Error>"
    )
    return xml_response(body if request.method != "HEAD" else "", error.http, error.headers)


def xml_response(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an XML answer."""
    return Response(body.encode(), status, headers, "application/xml; charset=UTF-8")


def check_signed_url(request: ApiRequest) -> None:
    """Refuse a signed URL whose time is over or has not begun (V4 and V2).

    The signature itself is not checked: that takes the public key of the signer's service account, and the key of a
    client that works against this server is not known here. Raises ApiError 400.
    """
    parameters = request.query_params
    now = request.emulator.clock.now()
    if "X-Goog-Signature" in parameters or "X-Goog-Algorithm" in parameters:
        missing = [key for key in ("Algorithm", "Credential", "Date", "Expires") if f"X-Goog-{key}" not in parameters]
        if missing:
            raise bad_request(f"Missing query parameters of a signed URL: {', '.join(missing)}", "InvalidArgument")
        try:
            begin = datetime.strptime(parameters["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            seconds = int(parameters["X-Goog-Expires"])
        except ValueError as error:
            raise bad_request("Malformed X-Goog-Date or X-Goog-Expires.", "InvalidArgument") from error
        if not 0 < seconds <= 7 * 86400:
            raise bad_request("X-Goog-Expires must be from 1 to 604800 seconds.", "InvalidArgument")
        if now > begin + timedelta(seconds=seconds):
            raise bad_request("The provided token has expired. Request signature expired.", "ExpiredToken")
        if now < begin - timedelta(minutes=15):
            raise bad_request("The signed URL is not valid yet.", "InvalidArgument")
    elif "Signature" in parameters and "GoogleAccessId" in parameters:
        expires = parameters.get("Expires", "")
        if not expires.isascii() or not expires.isdigit():
            raise bad_request("Malformed Expires.", "InvalidArgument")
        if now.timestamp() > int(expires):
            raise bad_request("The provided token has expired.", "ExpiredToken")
