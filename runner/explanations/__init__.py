"""The meaning of errors, findings and exit codes, from the documents of this package, which wheels contain.

`docs/` is the only source. In a clone, it is beside this package; in a wheel, it is the folder `documents` of this
package.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.errors import ConfigurationError
from runner.wording import camel_keys

Kind = Literal["error", "exit code", "finding", "document"]

_ERROR = re.compile(r"^\| (?P<exit>\d+) \| (?:`(?P<code>\w+)`)? ?\| (?P<means>.*?) \| ?(?P<do>.*?) ?\|$", re.MULTILINE)
_FINDING = re.compile(
    r"^\| `(?P<code>[\w-]+)` \| (?P<severity>error|warning) \| (?P<means>.*?) \| ?(?P<do>.*?) ?\|$", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The meaning of a code."""

    name: str
    kind: Kind
    means: str
    do: str = ""
    """What to do about it."""
    exit_code: int | None = None
    """Exit code of the commands that end with it."""
    severity: str = ""
    examples: str = ""
    """An invalid and a valid file, as Markdown."""

    def to_json(self) -> dict[str, object]:
        """Return the stable JSON form."""
        body = camel_keys(dataclasses.asdict(self))
        return {key: value for key, value in body.items() if value not in (None, "")}


def folder() -> Path:
    """Return the folder of the documents."""
    here = Path(__file__).resolve().parent
    return here / "documents" if (here / "documents").is_dir() else here.parents[1] / "docs"


def document(name: str) -> str:
    """Return the text of a document, without `.md`. Raises FileNotFoundError."""
    return (folder() / f"{name}.md").read_text("utf-8")


def documents() -> list[str]:
    """Return the names of all documents, without `.md`."""
    return sorted(path.stem for path in folder().glob("*.md"))


def every() -> list[Explanation]:
    """Return the errors by exit code, then the findings, then the documents."""
    found: list[Explanation] = []
    for match in _ERROR.finditer(document("errors")):
        found.append(
            Explanation(
                name=match["code"] or match["exit"],
                kind="error" if match["code"] else "exit code",
                means=match["means"],
                do=match["do"],
                exit_code=int(match["exit"]),
            )
        )
    for match in _FINDING.finditer(document("dataset-format")):
        found.append(
            Explanation(
                name=match["code"],
                kind="finding",
                means=match["means"],
                do=match["do"],
                severity=match["severity"],
                exit_code=3 if match["severity"] == "error" else None,
            )
        )
    found += [Explanation(name=name, kind="document", means=_title(name)) for name in documents()]
    return found


def explain(name: str) -> list[Explanation]:
    """Return the meaning of a code, an exit code or a document's name; several if an exit code has several errors.

    Raises:
        ConfigurationError: nothing has this name; the hint contains the most similar one.
    """
    known = every()
    text = name.strip().strip("`[]").lower()
    wanted = text.removeprefix("docs/").removesuffix(".md")
    if wanted.isdecimal():
        matches = [item for item in known if item.kind in ("error", "exit code") and str(item.exit_code) == wanted]
    else:
        only = "document" if wanted != text else ""
        matches = [item for item in known if wanted in {item.name, item.name.replace("_", "-")}]
        matches = [item for item in matches if item.kind == only or not only]
    if not matches:
        near = difflib.get_close_matches(wanted, [item.name for item in known], n=1)
        message = f"nothing is called {name!r}"
        hint = f"`runner explain {near[0]}`" if near else "`runner explain` lists everything"
        raise ConfigurationError(message, hint=hint)
    return [_with_examples(item) for item in matches]


def _with_examples(item: Explanation) -> Explanation:
    if item.kind != "finding":
        return item
    sections = document("dataset-findings").split(f"\n## {item.name}\n")
    text = sections[1].split("\n## ")[0].strip() if len(sections) > 1 else ""
    # The first paragraph repeats the table.
    examples = text.partition("\n\n")[2]
    return dataclasses.replace(item, examples=examples)


def _title(name: str) -> str:
    return document(name).partition("\n")[0].removeprefix("# ")
