"""One connection to the services of an environment; each client is made when first asked for.

The modules of Google's SDKs cost 0.4 to 1.4 s of CPU each to import (docs/decisions/0002-clients.md), so none is
imported at the top of a module here.
"""

from __future__ import annotations

import functools
import json
import threading
import warnings
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from runner import environment as environments
from runner.environment import Environment
from runner.errors import PermissionDeniedError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client as StorageClient
    from google.genai import Client

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_SECONDS = 60.0
"""Longest silence of one request; predictions set their own."""


class Session:
    """Clients for one environment. Use it as a context manager, or call `close`.

    A session may be used from several threads.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._lock = threading.Lock()
        self._answers = threading.local()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the clients that were made."""
        for name in ("http", "_genai_transport", "storage"):
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()
        self.__dict__.pop("genai", None)

    def renew(self) -> None:
        """Forget the credentials and the clients made with them: the next request logs in anew."""
        with self._lock:
            self.close()
            self.__dict__.pop("credentials", None)

    @functools.cached_property
    def credentials(self) -> Credentials:
        """Google credentials: the environment's token, else Application Default Credentials.

        Raises:
            PermissionDeniedError: nobody is logged in.
        """
        if self.environment.token:
            from google.oauth2.credentials import Credentials as TokenCredentials

            given: Credentials = TokenCredentials(token=self.environment.token)
            return given
        import google.auth
        import google.auth.exceptions

        found: Credentials
        try:
            found, _ = google.auth.default(scopes=[SCOPE])
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise PermissionDeniedError(
                "no Google credentials were found on this machine",
                status="UNAUTHENTICATED",
                http=401,
                hint="`gcloud auth application-default login`, or set RUNNER_TOKEN",
            ) from error
        return found

    @functools.cached_property
    def http(self) -> httpx.Client:
        """Client for Vertex AI's REST methods; paths start with `/v1beta1/`."""
        return httpx.Client(
            base_url=self.environment.vertex_base,
            auth=_TokenAuth(self),
            timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=15),
            headers={"user-agent": _user_agent()},
        )

    @functools.cached_property
    def storage(self) -> StorageClient:
        """Google's Cloud Storage client."""
        from google.cloud.storage import Client as StorageClient

        options = {"api_endpoint": self.environment.storage_url} if self.environment.storage_url else None
        return StorageClient(
            project=self.environment.project or "none",
            credentials=self.credentials,
            client_options=options,
            extra_headers={"user-agent": _user_agent()},
        )

    @functools.cached_property
    def genai(self) -> Client:
        """Google's generative AI client in Vertex mode, API v1beta1 (v1 lacks the fields of open models).

        Project and location are always passed: taken from GOOGLE_* variables they are dropped when the address is
        custom. No retry options: with them the client repeats a create.
        """
        self.environment.require("project", "location")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from google import genai
            from google.genai import types

        options = types.HttpOptions(
            base_url=self.environment.vertex_base,
            api_version="v1beta1",
            timeout=int(TIMEOUT_SECONDS * 1000),
            httpx_client=self._genai_transport,
            headers={"user-agent": _user_agent()},
        )
        return genai.Client(
            vertexai=True,
            project=self.environment.project,
            location=self.environment.location,
            credentials=self.credentials,
            http_options=options,
        )

    @functools.cached_property
    def _genai_transport(self) -> httpx.Client:
        return httpx.Client(timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=15), event_hooks={"response": [self._keep]})

    def _keep(self, response: httpx.Response) -> None:
        """Remember the service's own document: the SDK's types drop fields that they do not know."""
        response.read()
        self._answers.last = response

    def last_document(self) -> dict[str, Any]:
        """Return the JSON body of the last answer that the generative AI client got in this thread."""
        response: httpx.Response | None = getattr(self._answers, "last", None)
        try:
            body = json.loads(response.content) if response is not None and response.content else {}
        except ValueError:
            body = {}
        return body if isinstance(body, dict) else {}

    def token(self, *, fresh: bool = False) -> str:
        """Return a bearer token, refreshed when it has expired or when `fresh`.

        Raises:
            PermissionDeniedError: it cannot be refreshed.
        """
        if self.environment.token:
            return self.environment.token
        with self._lock:
            credentials = self.credentials
            if fresh or not credentials.valid:
                import google.auth.exceptions
                import google.auth.transport.requests

                try:
                    credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
                except google.auth.exceptions.GoogleAuthError as error:
                    raise PermissionDeniedError(
                        f"the Google credentials of this machine cannot be refreshed: {error}",
                        status="UNAUTHENTICATED",
                        http=401,
                        hint="`gcloud auth application-default login`",
                    ) from error
            return str(credentials.token)


class _TokenAuth(httpx.Auth):
    """Sends the session's token; after a 401 once more with a fresh one."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._session.token()}"
        response = yield request
        if response.status_code == 401 and not self._session.environment.token:
            request.headers["authorization"] = f"Bearer {self._session.token(fresh=True)}"
            yield request


def open_environment(flags: Mapping[str, str | None]) -> Environment:
    """Return `environment.resolve(flags)`, reading a `gs://` environment document through Cloud Storage.

    The document is read with what flags and variables alone say: the address and the token.

    Raises:
        ConfigurationError, GoogleApiError, UnreachableError: see `environment.resolve` and `storage.read_bytes`.
    """

    def read_object(uri: str) -> bytes:
        from runner.gcp.storage import read_bytes

        first = environments.resolve({**flags, "environment": None}, read_object=None, use_document=False)
        with Session(first) as session:
            return read_bytes(session, uri)

    return environments.resolve(flags, read_object=read_object)


@functools.cache
def _user_agent() -> str:
    from importlib import metadata

    try:
        return f"open-model-tuning/{metadata.version('open-model-tuning')}"
    except metadata.PackageNotFoundError:
        # Files without an installed package: the idle guard's function, a checkout on PYTHONPATH.
        return "open-model-tuning"
