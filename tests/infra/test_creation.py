"""`runner infra init`: a stack from answers works as it is written, and nothing is overwritten or half written."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.automation.__main__ import parser
from infra.automation.creation import create
from infra.automation.stack import complete
from infra.settings.stack import Settings
from infra.stack_files import configuration, write
from runner.errors import ConfigurationError
from tests.cli.invocation import Outcome, process
from tests.end_to_end.terminal import Terminal

EVERYTHING = (
    "--stack", "prod", "--project", "acme-ml", "--location", "europe-west4", "--notify", "ml@acme.com",
    "--operator", "group:ml@acme.com", "--budget", "500", "--currency", "EUR",
    "--billing-account", "0A0B0C-111111-222222",
)  # fmt: skip


def options(folder: Path, *words: str) -> Namespace:
    return parser().parse_args(["init", "--directory", str(folder), *words])


def test_every_answer_is_a_setting_of_the_stack(tmp_path: Path) -> None:
    made = create(options(tmp_path, *EVERYTHING))
    assert sorted(Path(name).relative_to(tmp_path).as_posix() for name in made["files"]) == [
        "Pulumi.prod.yaml", "Pulumi.yaml", "infra/__main__.py"
    ]  # fmt: skip
    settings = Settings.load(configuration("prod", tmp_path))
    assert (settings.project, settings.region, settings.environment) == ("acme-ml", "europe-west4", "prod")
    assert settings.notification_emails == ("ml@acme.com",)
    assert settings.runner_impersonators == ("group:ml@acme.com",)
    assert settings.budget is not None
    assert (settings.budget.amount, settings.budget.currency) == (500, "EUR")
    assert settings.budget.billing_account == "0A0B0C-111111-222222"


@pytest.mark.parametrize(
    ("words", "problems", "named"),
    [
        ((), 1, "--project"),
        (
            ("--project", "YOUR-PROJECT", "--location", "mars", "--notify", "me", "--budget", "5"),
            4,
            "--billing-account",
        ),
        (("--project", "my-project", "--notify", "ml-team@your-company.com"), 2, "--notify"),
        (("--project", "acme-ml", "--operator", "ada", "--budget", "-1"), 2, "--operator"),
    ],
)
def test_all_wrong_answers_are_listed_and_nothing_is_written(
    words: tuple[str, ...], problems: int, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        create(options(tmp_path, "--stack", "dev", *words))
    assert len(refused.value.problems) == problems, refused.value.problems
    assert named in (refused.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [a, b]", "config must map the names of settings to their values"),
        ("config: {1: a}", "config must map the names of settings to their values"),
        ("- config", "must be a YAML mapping"),
        ("config: {a: *b}", "aliases (*name) are not supported"),
        ("config: {project: {secure: v1}}", "project is encrypted"),
    ],
)
def test_a_stack_file_that_says_no_settings_is_a_mistake(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        configuration("dev", tmp_path)
    assert (said in caught.value.message, caught.value.problems) == (True, [caught.value.message])


def test_a_stack_is_overwritten_only_by_force_and_keeps_what_opens_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: mine\n")
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(
        "encryptionsalt: v1:abc=:def=\nconfig:\n  gcp:project: before\n  open-model-tuning:softDeleteDays: 9\n"
    )
    before = file.read_text()
    with pytest.raises(ConfigurationError, match="exists"):
        create(options(tmp_path, "--stack", "dev", "--project", "acme-ml"))
    assert file.read_text() == before
    made = create(options(tmp_path, "--stack", "dev", "--project", "acme-ml", "--force"))
    assert made["files"] == [str(file)]
    body = yaml.safe_load(file.read_text())
    assert body["encryptionsalt"] == "v1:abc=:def="
    assert set(body["config"]) == {"gcp:project", "gcp:region", "open-model-tuning:environment"}
    assert (tmp_path / "Pulumi.yaml").read_text() == "name: mine\n"


@given(
    before=st.sampled_from(
        ["", "config:\n", "config: {}\n", "secretsprovider: passphrase\n", "# mine\nconfig:\n  a:b: 1\n"]
    ),
    values=st.dictionaries(
        st.sampled_from(["gcp:project", "open-model-tuning:environment", "open-model-tuning:labels"]),
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
            st.sampled_from(["on", "null", "1e3", "0123", "~", "yes", "a: b", "#", "'", "2026-11-29"]),
            st.integers(0, 10**6),
            st.lists(st.sampled_from(["ml@acme.com", "user:ada@acme.com"]), max_size=2),
        ),
    ),
)  # fmt: skip
def test_what_is_written_is_read_as_the_same(
    before: str, values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("stack") / "Pulumi.dev.yaml"
    file.write_text(before)
    write(file, values, key="projects/p/locations/l/keyRings/r/cryptoKeys/k")
    found = yaml.safe_load(file.read_text("utf-8"))
    assert {key: found["config"][key] for key in values} == values
    assert "secretsprovider" in found
    assert ("# mine" in file.read_text("utf-8")) == ("# mine" in before)
    assert not write(file, values)


def test_a_terminal_is_asked_and_wrong_answers_are_asked_for_again(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    terminal = Terminal(80, folder, {})
    first = ["", "YOUR-PROJECT", "", "", "", "none", "0"]
    again = [
        "acme-ml",
        "europe-west4",
        "none",
        "ml@acme.com ops@acme.com",
        "user:ada@acme.com",
        "500",
        "EUR",
        "0A0B0C-111111-222222",
    ]
    assert terminal.run("runner infra init stacks", typed="\n".join([*first, *again]) + "\n") == 0, terminal.seen
    assert "gcp:project is 'YOUR-PROJECT'" in terminal.seen[0]
    assert "next: `runner infra bootstrap --stack dev --directory stacks`" in terminal.seen[0]
    settings = Settings.load(configuration("dev", folder / "stacks"))
    assert (settings.project, settings.region, settings.environment) == ("acme-ml", "europe-west4", "")
    assert settings.notification_emails == ("ml@acme.com", "ops@acme.com")
    assert settings.budget is not None
    assert settings.budget.currency == "EUR"


def test_without_a_terminal_what_is_missing_is_named_and_a_stack_that_is_made_can_be_drawn(tmp_path: Path) -> None:
    refused = process("infra", "init", str(tmp_path / "stacks"), "--json")
    assert (refused.code, refused.error["hint"]) == (2, "set --project")
    assert not (tmp_path / "stacks").exists()
    made = process(
        "infra", "init", str(tmp_path / "stacks"), "--emulator", "http://127.0.0.1:8085", "--stack", "local", "--json"
    )
    assert made.code == 0, made.err
    assert made.document["next"].startswith("runner infra up --embedded --stack local")
    drawn = process("infra", "graph", "--stack", "local", "--directory", str(tmp_path / "stacks"), "--json")
    assert drawn.code == 0, drawn.err


@pytest.mark.parametrize("folder", [(), (".",), ("my stacks",)])
def test_the_next_command_finds_the_stack_where_it_is_typed(folder: tuple[str, ...], tmp_path: Path) -> None:
    def typed(*words: str) -> Outcome:
        return process("infra", *words, "--json", cwd=str(tmp_path))

    made = typed("init", *folder, "--emulator", "http://127.0.0.1:8085", "--stack", "mine")
    words = shlex.split(made.document["next"])[2:]
    drawn = typed(*("graph" if word == "up" else word for word in words if word != "--embedded"))
    assert drawn.code == 0, drawn.err


@pytest.mark.parametrize("verb", ["preview", "up", "refresh", "destroy", "outputs", "doctor", "bootstrap"])
@pytest.mark.parametrize("folder", [None, Path(), Path("my stacks")])
@pytest.mark.parametrize("embedded", [False, True])
def test_every_command_of_a_hint_names_the_stack_that_it_is_about(
    verb: str, folder: Path | None, embedded: bool
) -> None:
    place = ["--directory", str(folder)] if folder is not None else []
    chosen = parser().parse_args([verb, "--stack", "mine", *place, *(["--embedded"] if embedded else [])])
    for written in (f"runner infra {verb}", f"runner infra {verb} --stack mine"):
        hint = complete(f"confirm; `{written}` shows it, `pulumi up` too", chosen)
        before, command, after = hint.split("`", 2)
        assert (before, after) == ("confirm; ", " shows it, `pulumi up` too")
        meant = parser().parse_args(shlex.split(command)[2:])
        assert (meant.verb, meant.stack, meant.directory) == (verb, "mine", folder)
        assert meant.embedded == (embedded and verb in {"preview", "up", "refresh", "destroy", "outputs"})
