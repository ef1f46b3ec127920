"""A session with the services of an environment: its HTTP client and its login, created when first used."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runner import addresses, times
from runner.environment import Environment
from runner.gcp.failures import call, data_loss, document_of
from runner.gcp.rest import Response, RestClient, place
from runner.gcp.service_clock import ServiceClock, elapsed

if TYPE_CHECKING:
    from runner.gcp.login import Login

PARENT = r"projects/([\w.:-]+)/locations/([\w-]+)"
"""The form of `projects/P/locations/L`: a project and a location."""
_NAMED = {key: re.compile(rf"{PARENT}/{key}/[\w.-]*\w(@[\w-]+)?") for key in ("endpoints", "models", "tuningJobs")}
"""Lists of resources that have names, and the form of these names."""


def place_of(name: str, *, whole: bool = False) -> tuple[str, str]:
    """Return the project and the location of `projects/P/locations/L`, or of a resource name that starts so.

    Args:
        name: full name.
        whole: whether the name must end after the location.

    Raises:
        GoogleApiError: the name has another form.
    """
    found = re.fullmatch(PARENT if whole else rf"{PARENT}(?:/.*)?", name)
    if found is None:
        raise data_loss(name[:200], "this is not projects/PROJECT/locations/LOCATION", method="places")
    return found[1], found[2]


class Session:
    """Requests to the services of one environment. Use it as a context manager, or call `close`.

    Several threads can use a session.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.clock = ServiceClock()
        self._lock = threading.Lock()
        self._owner: Session | None = None
        self._others: dict[tuple[str, ...], Session] = {}

    def __repr__(self) -> str:
        here = self.environment
        return f"<runner.Session {here.project} {here.location} {self.environment.vertex_base}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be copied or pickled: a connection and its login belong to one process."""
        raise TypeError(
            "a Session, and objects with one, cannot be copied or pickled: pass on a name, and get it there"
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for other in self._others.values():
            other.close()
        client = self.__dict__.pop("http", None)
        if client is not None:
            client.close()

    def at(self, project: str, location: str) -> Session:
        """Return the session for another project or location, with the same login and buckets; closed with this one."""
        here = self.environment
        if (project, location) == (here.project, here.location):
            return self
        changes: dict[str, Any] = {"project": project, "location": location}
        if project != here.project:
            changes |= {"project_number": "", "service_agents": {}}
        return self.like(dataclasses.replace(here, **changes))

    def of(self, parent: str) -> Session:
        """Return the session for `projects/P/locations/L`; see `at`. Raises GoogleApiError for other texts."""
        return self.at(*place_of(parent, whole=True))

    def like(self, environment: Environment) -> Session:
        """Return the session for another environment, with the same login; closed with this one."""
        key = (environment.project, environment.location, *sorted(environment.service_agents.values()))
        found = self._others.get(key)
        if found is None:
            found = self._others[key] = type(self)(environment)
            found._owner = self
        return found

    def renew(self) -> None:
        """Discard the credentials and the connections that use them: the next request logs in again."""
        with self._lock:
            self.close()
            self.__dict__.pop("credentials", None)

    @functools.cached_property
    def credentials(self) -> Login:
        """The login; Application Default Credentials.

        Raises:
            PermissionDeniedError: there are no credentials.
        """
        from runner.gcp import login  # imported only if no token is given

        key = login.key_given()
        if key is not None:
            return key
        from runner.gcp import google_login  # which imports google-auth

        return google_login.found()

    @functools.cached_property
    def http(self) -> RestClient:
        """Client of all services; addresses that are paths, such as `/v1beta1/…`, belong to Vertex AI."""
        return RestClient(
            self.environment.vertex_base,
            login=self.token,
            trusted=self._trusts,
            renewable=not self.environment.token,
            user_agent="open-model-tuning",
        )

    def _trusts(self, scheme: str, authority: str) -> bool:
        """Return whether the token may be sent to a host: Google's APIs, a dedicated endpoint, or a user's host."""
        here = self.environment
        own = {place(here.vertex_base)[0], place(here.storage_base)[0]}
        return (
            (scheme, authority) in own
            or addresses.is_googles(scheme, authority)
            or addresses.is_of_endpoint(scheme, authority, of=here.vertex_base)
        )

    def now(self) -> float:
        """Return the time in seconds since 1970 by the service's clock, the only clock for decisions that cost money.

        Raises:
            GoogleApiError: the service's responses contain no time, or a time that contradicts its resources; or it
                refused to answer.
            UnreachableError: the service does not answer.
        """
        moment = self.clock.now()
        if moment is None:
            parent = self.environment.parent
            self.send("GET", f"/v1beta1/{parent}/endpoints", "endpoints.list", parent, params={"pageSize": "1"})
            moment = self.clock.now()
        if moment is None:
            raise data_loss(parent, "the answer does not say the service's time", method="endpoints.list")
        doubt = self.clock.doubt()
        if doubt:
            raise data_loss(self.environment.project, doubt, method="Date")
        return moment

    def timestamp(self) -> str:
        """Return `now` as RFC 3339."""
        return times.exact(datetime.datetime.fromtimestamp(self.now(), datetime.UTC))

    def token(self, *, fresh: bool = False) -> str:
        """Return a bearer token, refreshed if it has expired or if `fresh` is set.

        Raises:
            PermissionDeniedError: it cannot be refreshed.
            UnreachableError: the token service does not answer.
        """
        if self.environment.token:
            return self.environment.token
        if self._owner is not None:
            return self._owner.token(fresh=fresh)
        with self._lock:
            credentials = self.credentials
            if fresh or not credentials.valid:
                credentials.refresh()
            return str(credentials.token)

    def send(
        self,
        verb: str,
        url: str,
        method: str,
        resource: str,
        *,
        idempotent: bool | None = None,
        expected: Collection[int] = (),
        **options: Any,
    ) -> Response:
        """Send a request and return the response.

        Args:
            verb: the HTTP method.
            url: a path of Vertex AI, or a complete address.
            method: the API's name of the method, for messages: `tuningJobs.create`.
            resource: the resource, for messages.
            idempotent: retry temporary failures [only a GET].
            expected: statuses to return besides success.
            options: arguments of `RestClient.open`.

        Raises:
            GoogleApiError: the service refused (or one of its subclasses).
            UnreachableError: no connection; ConnectionLostError if the request may have been received.
        """

        def once() -> Response:
            response = self.http.request(verb, url, **options)
            self.clock.hear(response.headers)
            return response if response.status_code in expected else response.raise_for_status()

        return call(method, resource, once, idempotent=verb == "GET" if idempotent is None else idempotent)

    def ask(self, verb: str, url: str, method: str, resource: str, **options: Any) -> dict[str, Any]:
        """Send a request and return the JSON object of the response; see `send`."""
        asked = elapsed() if verb in {"POST", "PATCH"} else None
        found = document_of(self.send(verb, url, method, resource, **options), method, resource)
        made = found.get("updateTime" if verb == "PATCH" else "createTime") or found.get("timeCreated")
        if made:
            self.clock.hear_made(str(made), asked)
        return found

    def pages(
        self,
        url: str,
        key: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        resource: str = "",
        kind: str = "",
        answered: Callable[[Response], object] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list; each page is requested when it is needed.

        Args:
            url: address of the collection.
            key: key of the items in a page.
            method: for messages.
            params: query parameters; those with "" are omitted.
            resource: for messages, if it is not the path after its version.
            kind: the required value of `kind`, which distinguishes an empty list from a lost response.
            answered: called with the response for each page.
        """
        resource = resource or url.removeprefix("/v1beta1/")
        given = {name: value for name, value in (params or {}).items() if value != ""}
        while True:
            response = self.send("GET", url, method, resource, params=given)
            page = document_of(response, method, resource)
            if answered is not None:
                answered(response)
            items = page.get(key, [])
            if key in _NAMED and page and not {key, "nextPageToken"} & page.keys():
                raise data_loss(resource, f"the answer is not empty, but has no {key}", method=method)
            name = _NAMED.get(key)
            nameless = name and next((item for item in items if not name.fullmatch(item.get("name", ""))), None)
            if nameless:
                raise data_loss(resource, f"an item of {key} is called {nameless.get('name')!r}", method=method)
            if kind and page.get("kind") != kind:
                raise data_loss(resource, f"the answer is not of the kind {kind}", method=method)
            for item in items:
                made = item.get("createTime") or item.get("timeCreated")
                if made:
                    self.clock.hear_made(made)
                yield item
            token = str(page.get("nextPageToken", ""))
            if not token:
                return
            if token == given.get("pageToken"):
                raise data_loss(resource, "a page names itself as the next one", method=method)
            given = {**given, "pageToken": token}
