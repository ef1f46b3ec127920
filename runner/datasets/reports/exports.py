"""Findings in formats that other programs read: JUnit XML, SARIF 2.1.0, workflow commands of GitHub."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from runner.datasets.examples import Finding
from runner.datasets.reports.report import Report
from runner.explanations import every

_DOCUMENTATION = "docs/dataset-findings.md"
# Characters that XML 1.0 cannot represent, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _plain(text: str) -> str:
    return _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _sentence(finding: Finding) -> str:
    fix = f"; {finding.fix}" if finding.fix else ""
    path = f"{finding.path}: " if finding.path else ""
    return f"{path}{finding.message}{fix}"


def junit(report: Report) -> str:
    """Return JUnit XML: a suite for each file, with a test case for each code in it; warnings are skipped tests."""
    root = ElementTree.Element("testsuites", name="runner data check")
    for file in report.files:
        own = [finding for finding in report.findings if finding.file == file.path.name]
        by_code: dict[str, list[Finding]] = {}
        for finding in own:
            by_code.setdefault(finding.code, []).append(finding)
        errors = sum(findings[0].severity == "error" for findings in by_code.values())
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_plain(str(file.path)),
            tests=str(max(1, len(by_code))),
            failures=str(errors),
            skipped=str(len(by_code) - errors),
        )
        if not by_code:
            ElementTree.SubElement(suite, "testcase", classname=_plain(file.path.name), name="no findings")
        for code, findings in by_code.items():
            case = ElementTree.SubElement(suite, "testcase", classname=_plain(file.path.name), name=code)
            count = file.counts.get(code, len(findings))
            lines = [f"{finding.file}:{finding.line}: {_sentence(finding)}" for finding in findings[:50]]
            if count > len(lines):
                lines.append(f"and {count - len(lines)} more")
            kind = "failure" if findings[0].severity == "error" else "skipped"
            detail = ElementTree.SubElement(case, kind, message=_plain(f"{count} times {code}"))
            detail.text = _plain("\n".join(lines))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def sarif(report: Report, version: str) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log, which code hosts show beside the lines."""
    paths = {file.path.name: file.path.as_posix() for file in report.files}
    results: list[dict[str, Any]] = []
    for finding in report.findings:
        location: dict[str, Any] = {"artifactLocation": {"uri": paths.get(finding.file, finding.file)}}
        if finding.line:
            location["region"] = {"startLine": finding.line}
        results.append(
            {
                "ruleId": finding.code,
                "level": finding.severity,
                "message": {"text": _sentence(finding)},
                "locations": [{"physicalLocation": location}],
            }
        )
    means = {item.name: item.means.replace("`", "") for item in every() if item.kind == "finding"}
    rules = [
        {"id": code, "shortDescription": {"text": means[code]}, "helpUri": f"{_DOCUMENTATION}#{code}"}
        for code in sorted({finding.code for finding in report.findings})
    ]
    driver = {"name": "runner data check", "version": version, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def github(report: Report) -> list[str]:
    """Return workflow commands, which GitHub Actions shows as annotations."""
    paths = {file.path.name: file.path.as_posix() for file in report.files}
    commands = []
    for finding in report.findings:
        place = f"file={_property(paths.get(finding.file, finding.file))}"
        if finding.line:
            place += f",line={finding.line}"
        message = _sentence(finding).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        commands.append(f"::{finding.severity} {place},title={finding.code}::{message}")
    return commands


def _property(text: str) -> str:
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(character, code)
    return text
