"""The environment of `benchmarks.fleet_week`: tuning jobs and Cloud Storage in memory, with their own clock.

It answers the library's requests where a session sends them; nothing of the library above its HTTP client is replaced.
This is not part of the product.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import random
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from runner import waiting
from runner.environment import Environment
from runner.gcp import failures, fleet
from runner.gcp.rest import ConnectError, Response, TransportError
from runner.gcp.session import Session

_START = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
HOME, LOCATION, BUCKET = "project-00", "us-central1", "contract"
ENVIRONMENT = Environment(
    project=HOME,
    location=LOCATION,
    contract_bucket=BUCKET,
    datasets_bucket="datasets",
    outputs_bucket="outputs",
    vertex_url="https://world",
    storage_url="https://world",
    token="none",  # noqa: S106 - no secret: nobody checks it
)


class KilledError(BaseException):
    """A runner dies here, like by SIGKILL: nothing after this runs."""


@dataclass(slots=True)
class Job:
    """A tuning job."""

    document: dict[str, Any]
    ends: float
    """Seconds of the simulated clock."""
    outcome: str
    tokens: int
    seconds: float = 0.0
    """Time for which it has held a slot so far."""


@dataclass(slots=True)
class Outage:
    """A project, or all of them (""), is unavailable for a while."""

    project: str
    start: float
    end: float
    kind: str
    """`refused`: no connection. `unavailable`: 503. `silent`: the request is carried out, the response is lost."""


@dataclass
class World:
    """All projects, one bucket of records, and a clock."""

    seed: int
    limits: dict[str, int]
    outages: list[Outage]
    kill_rate: float = 0.0
    """Probability that a runner dies at a write, before or after it took effect."""
    lose_rate: float = 0.0
    """Probability that the response to a create request is lost."""
    now: float = 0.0
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Job]] = field(default_factory=dict)
    requests: int = 0
    refused: int = 0
    """Number of create requests beyond a quota."""
    kills: int = 0
    lost: int = 0
    at_create: list[Callable[[], None]] = field(default_factory=list)
    at_write: Callable[[], None] | None = None
    """Called before writes are carried out, so that another runner can act in between."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._lock = threading.RLock()
        self._generation = 0

    def moment(self) -> datetime.datetime:
        """Return the time."""
        return _START + datetime.timedelta(seconds=self.now)

    def run(self, until: float) -> None:
        """Advance the time, and end jobs."""
        with self._lock:
            for jobs in self.jobs.values():
                for job in jobs.values():
                    if "endTime" not in job.document:
                        self._pass(job, until)
            self.now = max(self.now, until)

    def _pass(self, job: Job, until: float) -> None:
        job.seconds += max(0.0, min(until, job.ends) - self.now)
        if job.ends > until:
            return
        document = job.document
        document["state"] = f"JOB_STATE_{job.outcome}"
        document["endTime"] = _text(_START + datetime.timedelta(seconds=job.ends))
        if job.outcome == "FAILED":
            document["error"] = {"code": 13, "message": "Internal error encountered."}
        else:
            statistics = {"totalBillableTokenCount": str(job.tokens)}
            document["tuningDataStats"] = {"supervisedTuningDataStats": statistics}

    def answer(self, verb: str, url: str, options: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Carry out a request. Raises TransportError, KilledError."""
        parts = urlsplit(url)
        query = {key: value for key, _, value in (pair.partition("=") for pair in parts.query.split("&")) if key}
        query |= {key: str(value) for key, value in (options.get("params") or {}).items()}
        writes = verb in {"POST", "DELETE"} and not parts.path.endswith(":cancel")
        if writes and self.at_write is not None:
            self.at_write()
        with self._lock:
            self.requests += 1
            self.now += 0.02
            trouble = self._trouble(parts.path)
            if trouble == "refused":
                raise ConnectError("connection refused")
            if trouble == "unavailable":
                return 503, {"error": {"status": "UNAVAILABLE", "message": "The service is unavailable."}}
            dies = writes and self.chance.random() < self.kill_rate
            if dies and self.chance.random() < 0.5:
                self.kills += 1
                raise KilledError
            found = self._carry_out(verb, parts.path, query, options)
            if dies:
                self.kills += 1
                raise KilledError
            created = verb == "POST" and parts.path.endswith("/tuningJobs") and found[0] == 200
            if trouble == "silent" or (created and self.chance.random() < self.lose_rate):
                self.lost += created
                raise TransportError("the connection broke")
            return found

    def _trouble(self, path: str) -> str:
        project = path.split("/")[3] if "/projects/" in path else ""
        for outage in self.outages:
            if outage.start <= self.now < outage.end and (outage.project in {"", project}):
                return outage.kind
        return ""

    def _carry_out(
        self, verb: str, path: str, query: dict[str, str], options: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if "/storage/v1/b/" in path:
            bucket, _, rest = path.split("/storage/v1/b/", 1)[1].partition("/o")
            name = unquote(rest.removeprefix("/"))
            if verb == "POST":
                return self._insert(bucket, query, options["content"])
            if not name:
                return self._list(bucket, query)
            return self._object(verb, (bucket, name), query)
        if path.endswith("/quotaPreferences"):
            config = {"service": fleet.QUOTA_SERVICE, "quotaId": fleet.QUOTA_ID}
            granted = {"grantedValue": str(self.limits[path.split("/")[3]])}
            return 200, {"quotaPreferences": [{**config, "quotaConfig": granted}]}
        parent = path.split("/v1beta1/", 1)[1].removesuffix("/tuningJobs")
        if verb == "POST":
            return self._create(parent, options["json"])
        return self._jobs(parent, query)

    def _insert(self, bucket: str, query: dict[str, str], content: Any) -> tuple[int, dict[str, Any]]:
        described, body, _ = content
        resource = described.split(b"\r\n\r\n")[1].partition(b"\r\n")[0]
        document = json.loads(resource)
        key = (bucket, document["name"])
        known = self.objects.get(key)
        if int(known["generation"] if known else 0) != int(query["ifGenerationMatch"]):
            return 412, {"error": {"status": "FAILED_PRECONDITION", "message": "conditionNotMet"}}
        self._generation += 1
        self.objects[key] = {
            **document,
            "bucket": bucket,
            "generation": str(self._generation),
            "size": str(len(body)),
            "crc32c": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
            "updated": _text(self.moment()),
        }
        return 200, self.objects[key]

    def _object(self, verb: str, key: tuple[str, str], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        found = self.objects.get(key)
        if found is None:
            return 404, {"error": {"status": "NOT_FOUND", "message": f"no {key[1]}"}}
        if verb == "DELETE":
            if found["generation"] != query.get("ifGenerationMatch", found["generation"]):
                return 412, {"error": {"status": "FAILED_PRECONDITION", "message": "conditionNotMet"}}
            del self.objects[key]
            return 204, {}
        return 200, found

    def _list(self, bucket: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        prefix, after = query.get("prefix", ""), query.get("pageToken", "")
        # One object is requested by its complete name; a bucket of records is small enough to sort.
        if (bucket, prefix) in self.objects:
            return 200, {"kind": "storage#objects", "items": [self.objects[bucket, prefix]]}
        names = sorted(
            name for where, name in self.objects if where == bucket and name.startswith(prefix) and name > after
        )
        size = int(query.get("maxResults", "1000"))
        page: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [self.objects[bucket, name] for name in names[:size]],
        }
        if len(names) > size:
            page["nextPageToken"] = names[size - 1]
        return 200, page

    def _create(self, parent: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        project = parent.split("/")[1]
        active = sum(
            "endTime" not in job.document
            for place, jobs in self.jobs.items()
            if place.split("/")[1] == project
            for job in jobs.values()
        )
        if active >= self.limits[project]:
            self.refused += 1
            return 429, {"error": {"status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded."}}
        name = f"{parent}/tuningJobs/{self.chance.getrandbits(60)}"
        document = {**body, "name": name, "state": "JOB_STATE_RUNNING", "createTime": _text(self.moment())}
        hours = self.chance.uniform(2, 8)
        failed = self.chance.random() < 0.05
        ends = self.now + 3600 * (hours * self.chance.random() if failed else hours)
        tokens = self.chance.randrange(7_000_000, 10_000_000)
        jobs = self.jobs.setdefault(parent, {})
        jobs[name] = Job(document, ends, "FAILED" if failed else "SUCCEEDED", tokens)
        for watch in self.at_create:
            watch()
        return 200, document

    def _jobs(self, parent: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        found = [job.document for job in self.jobs.get(parent, {}).values()]
        key, _, value = query.get("filter", "").partition("=")
        if key.startswith("labels."):
            label, wanted = key.removeprefix("labels."), value.strip('"')
            found = [item for item in found if item.get("labels", {}).get(label) == wanted]
        elif key == "outputUri":
            found = [item for item in found if item.get("outputUri") == value.strip('"')]
        found.reverse()  # newest first
        start, size = int(query.get("pageToken", "0")), int(query.get("pageSize", "100"))
        page: dict[str, Any] = {"tuningJobs": found[start : start + size]}
        if start + size < len(found):
            page["nextPageToken"] = str(start + size)
        return 200, page


class Answer(Response):
    """A response without a connection."""

    def __init__(self, status: int, body: dict[str, Any], moment: datetime.datetime) -> None:
        self.status_code = status
        self.reason_phrase = str(status)
        self.headers = {"date": moment.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        self.content = json.dumps(body).encode()

    @property
    def length(self) -> int | None:
        """Return 0: everything has been read."""
        return 0

    def read(self) -> bytes:
        """Return the body."""
        return self.content

    def close(self) -> None:
        """Do nothing."""


class WorldSession(Session):
    """A session whose HTTP client is the simulation."""

    def __init__(self, environment: Environment, world: World | None = None) -> None:
        super().__init__(environment)
        self._world = world

    @property
    def world(self) -> World:
        """Return the simulation of this session, or of its parent."""
        if self._world is None:
            assert isinstance(self._owner, WorldSession)
            self._world = self._owner.world
        return self._world

    @property
    def http(self) -> Any:
        """Return the client."""
        return self

    def request(self, verb: str, url: str, **options: Any) -> Answer:
        """Let the simulation carry out a request; see `RestClient.request`."""
        status, body = self.world.answer(verb, url, options)
        return Answer(status, body, self.world.moment())


class CompressedTime:
    """Replaces the module `time` for the library's waits, with the simulated clock."""

    CLOCK_BOOTTIME = 7

    def __init__(self, world: World) -> None:
        self._world = world

    def sleep(self, seconds: float) -> None:
        """Advance the simulated time."""
        self._world.run(self._world.now + seconds)

    def monotonic(self) -> float:
        """Return the simulated time."""
        return self._world.now

    def clock_gettime(self, _: int) -> float:
        """Return the simulated time."""
        return self._world.now


@contextlib.contextmanager
def compressed(world: World) -> Iterator[None]:
    """Let the library's waits advance the simulated time."""
    modules: list[Any] = [failures, waiting]
    before = [module.time for module in modules]
    for module in modules:
        module.time = CompressedTime(world)
    try:
        yield
    finally:
        for module, real in zip(modules, before, strict=True):
            module.time = real


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
