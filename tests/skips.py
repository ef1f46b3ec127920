"""What may be skipped where every test is to run (`--every-test`, as `.ci/run` calls pytest), and why.

Any other skip fails there, with its reason: what can run must not pass unseen because a program is missing.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

ALLOWED = {
    "needs a Google Cloud project: --google PROJECT": "no project belongs to this repository",
    "needs vllm and a CUDA device": "a GPU",
    "needs AVX-512": "a processor",
    "needs the Pulumi engine: `pulumi` on PATH": "no package has it; to build it takes longer than all the tests",
    "needs all of Pulumi: `pulumi` and `pulumi-language-python` on PATH": "as before, and the provider too",
    "needs root, to be another user": "a process of another user can only be started by root",
    "needs gcloud on PATH": "no package registry has it",
    "needs gsutil on PATH": "no package registry has it",
    "needs terraform on PATH": "no package registry has it",
    "needs a package index that answers": "tests make an environment of their own for what does not go with the rest",
}
"""The reason of a skip, to why nothing that is installed would change it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--every-test`."""
    parser.addoption("--every-test", action="store_true", help="fail what is skipped, but for tests/skips.py's reasons")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Return why this was skipped; None if it was not, or failed as it was expected to."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = _reason(report)
    if reason is not None and reason not in ALLOWED:
        report.outcome = "failed"
        report.longrepr = f"skipped, for a reason that tests/skips.py does not list: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped."""
    report = yield
    if item.config.getoption("--every-test"):
        _judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a file that skipped itself."""
    report = yield
    if collector.config.getoption("--every-test"):
        _judge(report)
    return report
