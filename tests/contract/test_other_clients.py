"""Cloud Storage through clients of other languages, and tools: an ordinary day of each, with what `emulator env` sets.

Each runs as its user runs it, in a home with nothing in it, under strace where that is installed: nothing may reach
beyond loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from runner.cli.emulator.credentials import boto_file, gcloud_folder, made_account, new_key
from runner.cli.emulator.variables import emulator_variables, gcloud_endpoints, spelled
from runner.emulator.server import EmulatorServer
from runner.running_emulator import ServerInfo
from tests.contract.test_local_only import strangers
from tests.provisioning import Provisioned

CLIENTS = Path(__file__).parents[1] / "clients"
_MIB = 1024 * 1024
Run = Callable[..., str]


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program} on PATH")


@pytest.fixture
def account(emulator: EmulatorServer, project: Provisioned) -> str:
    """A service account that may do everything with the project's storage."""
    path = f"{emulator.url}/v1/projects/{project.project}"
    email: str = httpx.post(f"{path}/serviceAccounts", json={"accountId": "worker"}, timeout=120).json()["email"]
    policy = httpx.post(f"{path}:getIamPolicy", json={}, timeout=120).json()
    binding = {"role": "roles/storage.admin", "members": [f"serviceAccount:{email}"]}
    policy["bindings"] = [*policy.get("bindings", []), binding]
    assert httpx.post(f"{path}:setIamPolicy", json={"policy": policy}, timeout=120).status_code == 200
    return email


@pytest.fixture
def environment(emulator: EmulatorServer, project: Provisioned, tmp_path: Path) -> dict[str, str]:
    """What `runner emulator env` sets, and nothing of the developer's."""
    info = ServerInfo(url=emulator.url, pid=os.getpid(), started="")
    variables = emulator_variables(
        emulator.url,
        token=None,
        boto=boto_file(tmp_path, info, project.project),
        gcloud=gcloud_folder(tmp_path, gcloud_endpoints(emulator.url), project.project),
        project=project.project,
        location="us-central1",
    )
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), **variables}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a program and return what it prints; it must succeed and reach this machine only."""

    def start(*command: str | Path, cwd: Path = tmp_path, status: int = 0) -> str:
        trace = tmp_path / "trace"
        watch: list[str] = []
        if shutil.which("strace"):
            watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg", "-e", "signal=none"]
            watch += ["-o", str(trace)]
        arguments = [*watch, *map(str, command)]
        done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stderr[-4000:]
        if watch:
            assert strangers(trace.read_text(errors="replace").splitlines()) == []
        return done.stdout

    return start


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a small, a 9 MB and a 40 MB file."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "small").write_text("small")
    for name, size in (("nine", 9 * _MIB), ("forty", 40 * _MIB + 3)):
        (folder / name).write_bytes(os.urandom(size))
    return folder


def _same(one: Path, other: Path) -> bool:
    return {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def _built(package: str, target: Path) -> Path:
    """Build a program of tests/clients/go with the modules that are there."""
    cache = {
        name: subprocess.check_output(["go", "env", name], text=True).strip() for name in ("GOCACHE", "GOMODCACHE")
    }
    offline = {**os.environ, **cache, "GOPROXY": "off", "GOFLAGS": "-mod=readonly"}
    build = ["go", "-C", str(CLIENTS / "go"), "build", "-o", str(target), package]
    built = subprocess.run(build, env=offline, capture_output=True, text=True, timeout=540)
    if "module lookup disabled by GOPROXY=off" in built.stderr:
        pytest.skip("needs the modules of tests/clients/go: `go -C tests/clients/go mod download`")
    assert built.returncode == 0, built.stderr
    return target


@_needs("go")
def test_go(run: Run, project: Provisioned, tmp_path: Path) -> None:
    assert run(_built(".", tmp_path / "day"), project.project, f"{project.project}-go") == "done\n"


def _node(program: str) -> Path:
    if not (CLIENTS / "node" / "node_modules").is_dir():
        pytest.skip("needs the packages of tests/clients/node: `npm ci --prefix tests/clients/node`")
    return CLIENTS / "node" / program


@_needs("node")
def test_node(run: Run, project: Provisioned, tmp_path: Path) -> None:
    program = _node("day.js")
    assert run("node", program, project.project, f"{project.project}-node", tmp_path).endswith("done\n")


@pytest.fixture
def key(emulator: EmulatorServer, account: str, environment: dict[str, str], tmp_path: Path) -> Path:
    """The key file of that account, which clients find by the environment."""
    info = ServerInfo(url=emulator.url, pid=os.getpid(), started="")
    path = tmp_path / "key.json"
    path.write_bytes(new_key(info, account))
    environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    return path


@pytest.mark.training
@pytest.mark.parametrize("language", ["go", "node"])
def test_a_model_is_tuned_deployed_and_asked_with_a_key(
    run: Run, project: Provisioned, emulator: EmulatorServer, account: str, key: Path, tmp_path: Path, language: str
) -> None:
    """What the account may not do is refused: the library has signed in, and is not the developer."""
    if shutil.which(language) is None:
        pytest.skip(f"needs {language} on PATH")
    program = [_built("./tuning", tmp_path / "tuning")] if language == "go" else ["node", _node("tuning.js")]
    rows = "".join(f'{{"prompt": "say {row}", "completion": "number {row}"}}\n' for row in range(8))
    upload = f"{emulator.url}/upload/storage/v1/b/{project.datasets}/o?uploadType=media&name=rows.jsonl"
    assert httpx.post(upload, content=rows, timeout=120).status_code == 200
    words = [project.project, f"gs://{project.datasets}/rows.jsonl", f"gs://{project.outputs}/{language}"]
    assert "aiplatform.tuningJobs.create" in run(*program, *words, status=1)
    made_account(ServerInfo(url=emulator.url, pid=0, started=""), project.project, account, ["roles/aiplatform.user"])
    assert run(*program, *words).endswith("done\n")


@_needs("rclone")
def test_rclone_with_a_key(run: Run, environment: dict[str, str], project: Provisioned, key: Path) -> None:
    environment["RCLONE_GCS_ANONYMOUS"] = "false"
    environment["RCLONE_GCS_SERVICE_ACCOUNT_FILE"] = str(key)
    bucket = f":gcs:{project.datasets}"
    run("rclone", "copyto", key, f"{bucket}/a")
    assert run("rclone", "lsf", bucket).split() == ["a"]
    key.write_text(key.read_text().replace("-----BEGIN PRIVATE KEY-----\\n", "-----BEGIN PRIVATE KEY-----\\nA"))
    run("rclone", "lsf", bucket, status=1)


@_needs("gcloud")
def test_gcloud_with_a_key(
    run: Run, environment: dict[str, str], project: Provisioned, account: str, key: Path
) -> None:
    del environment["CLOUDSDK_AUTH_DISABLE_CREDENTIALS"]
    run("gcloud", "auth", "activate-service-account", "--key-file", key)
    assert project.datasets in run("gcloud", "storage", "ls")
    run("gcloud", "ai", "endpoints", "list", "--region=us-central1", status=1)  # it may use storage only


@_needs("rclone")
def test_rclone(run: Run, project: Provisioned, files: Path, tmp_path: Path) -> None:
    bucket = f":gcs:{project.project}-rclone"
    run("rclone", "mkdir", bucket, "--gcs-location", "EU")
    run("rclone", "copy", files, f"{bucket}/a")
    run("rclone", "check", files, f"{bucket}/a")
    run("rclone", "copy", f"{bucket}/a", f"{bucket}/b")  # on the server
    run("rclone", "moveto", f"{bucket}/b/nine", f"{bucket}/c/nine")
    assert sorted(run("rclone", "lsf", "-R", "--files-only", bucket).splitlines()) == [
        *("a/forty", "a/nine", "a/small", "b/forty", "b/small", "c/nine")
    ]
    (files / "small").unlink()
    run("rclone", "sync", files, f"{bucket}/a")
    run("rclone", "copy", f"{bucket}/a", tmp_path / "back")
    assert _same(files, tmp_path / "back")
    run("rclone", "purge", bucket)
    assert f"{project.project}-rclone" not in run("rclone", "lsd", ":gcs:")


@_needs("gcloud")
def test_gcloud(run: Run, project: Provisioned, files: Path, tmp_path: Path) -> None:
    bucket = f"gs://{project.project}-gcloud"
    run("gcloud", "storage", "buckets", "create", bucket, "--location=eu")
    run("gcloud", "storage", "cp", *files.iterdir(), f"{bucket}/a/")
    run("gcloud", "storage", "mv", f"{bucket}/a/nine", f"{bucket}/b/nine")
    listed = run("gcloud", "storage", "ls", "-r", f"{bucket}/**").split()
    assert listed == [f"{bucket}/a/forty", f"{bucket}/a/small", f"{bucket}/b/nine"]
    (tmp_path / "back").mkdir()
    run("gcloud", "storage", "cp", f"{bucket}/**", tmp_path / "back")
    assert _same(files, tmp_path / "back")
    (files / "small").write_text("other")
    run("gcloud", "storage", "rsync", files, f"{bucket}/a", "--delete-unmatched-destination-objects")
    assert run("gcloud", "storage", "cat", f"{bucket}/a/small").startswith("other")
    run("gcloud", "storage", "objects", "update", f"{bucket}/a/small", "--custom-metadata=k=v")
    assert "k: v" in run("gcloud", "storage", "objects", "describe", f"{bucket}/a/small")
    run("gcloud", "storage", "rm", "-r", bucket)
    assert bucket not in run("gcloud", "storage", "ls")
    assert project.project in run("gcloud", "projects", "describe", project.project)
    assert "aiplatform" in run("gcloud", "services", "list", "--enabled")
    run("gcloud", "ai", "endpoints", "list", "--region=us-central1")


@_needs("gcloud")
@pytest.mark.training
def test_gcloud_deploys_asks_and_takes_down(
    run: Run, project: Provisioned, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """It takes the address that the environment gives away before it deploys; its configuration has it too."""
    quotas = f"{emulator.url}/v1/projects/{project.project}/services/cloudquotas.googleapis.com:enable"
    assert httpx.post(quotas, json={}, timeout=120).status_code == 200
    region = "--region=us-central1"
    model = "--model=meta/llama3_1@llama-3.1-8b-instruct"
    run("gcloud", "ai", "model-garden", "models", "deploy", model, region, "--accept-eula", "--asynchronous", "--quiet")
    with httpx.Client(base_url=f"{emulator.url}/v1beta1/", timeout=120) as client:
        (operation,) = client.get(f"{project.parent}/operations").json()["operations"]
        while not client.post(f"{operation['name']}:wait", timeout=60).json().get("done"):
            pass
        (endpoint,) = client.get(f"{project.parent}/endpoints").json()["endpoints"]
    (tmp_path / "question.json").write_text('{"instances": [{"prompt": "What is a car?", "max_tokens": 4}]}')
    name, place = endpoint["name"], ("--json-request=question.json", region)
    assert "Output:" in run("gcloud", "ai", "endpoints", "predict", name, *place)
    deployed = f"--deployed-model-id={endpoint['deployedModels'][0]['id']}"
    run("gcloud", "ai", "endpoints", "undeploy-model", name, region, deployed, "--quiet")


@_needs("gsutil")
def test_gsutil(run: Run, project: Provisioned, files: Path, tmp_path: Path) -> None:
    bucket = f"gs://{project.datasets}"
    run("gsutil", "cp", files / "nine", files / "small", f"{bucket}/a/")
    assert run("gsutil", "ls", "-r", f"{bucket}/**").split() == [f"{bucket}/a/nine", f"{bucket}/a/small"]
    run("gsutil", "cp", f"{bucket}/a/nine", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (files / "nine").read_bytes()


@_needs("gsutil")
def test_gsutil_with_an_hmac_key(
    run: Run, environment: dict[str, str], emulator: EmulatorServer, project: Provisioned, account: str, files: Path
) -> None:
    """Requests of the XML API, signed, and the service account's."""
    keys = f"{emulator.url}/storage/v1/projects/{project.project}/hmacKeys"
    key = httpx.post(keys, params={"serviceAccountEmail": account}, timeout=120).json()
    boto, bucket = Path(environment["BOTO_CONFIG"]), f"gs://{project.datasets}"
    lines = f"gs_access_key_id = {key['metadata']['accessId']}\ngs_secret_access_key = {key['secret']}\n"
    own = boto.read_text().replace("use_gcloud_storage = True\n", "")
    boto.write_text(own.replace("[Credentials]\n", f"[Credentials]\n{lines}"))
    run("gsutil", "cp", files / "nine", files / "small", f"{bucket}/a b/")
    run("gsutil", "mv", f"{bucket}/a b/nine", f"{bucket}/b/nine")
    listed = run("gsutil", "ls", "-r", f"{bucket}/**").splitlines()
    assert listed == [f"{bucket}/a b/small", f"{bucket}/b/nine"]
    assert run("gsutil", "cat", f"{bucket}/a b/small") == "small"
    assert bucket in run("gsutil", "ls")
    boto.write_text(boto.read_text().replace(key["secret"], key["secret"][::-1]))
    run("gsutil", "ls", bucket, status=1)


_STATE = """
terraform {{
  backend "gcs" {{
    bucket = "{bucket}"
    prefix = "state"
  }}
}}
resource "terraform_data" "number" {{ input = 42 }}
data "terraform_remote_state" "own" {{
  backend = "gcs"
  config  = {{ bucket = "{bucket}", prefix = "state" }}
  depends_on = [terraform_data.number]
}}
output "number" {{ value = terraform_data.number.output }}
"""
"""Everything of Google's that Terraform itself has: state in a bucket, with its lock, and states of others. The Google
provider is a program of its own, whose requests `test_provider_conversation.py` replays."""


@_needs("terraform")
def test_terraform(run: Run, project: Provisioned, emulator: EmulatorServer, tmp_path: Path) -> None:
    bucket = project.outputs
    (tmp_path / "main.tf").write_text(_STATE.format(bucket=bucket))
    run("terraform", "init", "-input=false")
    run("terraform", "apply", "-auto-approve", "-input=false")
    assert run("terraform", "output", "-raw", "number") == "42"
    assert run("terraform", "workspace", "new", "other")
    listed = httpx.get(f"{emulator.url}/storage/v1/b/{bucket}/o", params={"prefix": "state/"}, timeout=120).json()[
        "items"
    ]
    assert [item["name"] for item in listed] == ["state/default.tfstate", "state/other.tfstate"]
    run("terraform", "workspace", "select", "default")
    run("terraform", "destroy", "-auto-approve", "-input=false")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_shells_hand_it_on(run: Run, environment: dict[str, str], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell} on PATH")
    script = spelled(
        {key: value for key, value in environment.items() if key != "PATH"}, "fish" if shell == "fish" else "bash"
    )
    printed = run(shell, "-c", f"{script}\nenv")
    assert {f"{key}={environment[key]}" for key in environment if "CLOUDSDK" in key} <= set(printed.splitlines())
