"""The documents as a site with search: `python3 dev.py site [FOLDER]`.

The documents are files of the repository and are read there too, so their links lead to files. This makes a copy in
which documents of the top folder are pages as well and every link leads to a page; the generator (Zensical) does the
rest, and refuses links that lead nowhere. What is not a document (code, examples, workflows) is not part of the site:
a link to it becomes its text.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}
"""Documents of the top folder, and their pages."""

_LINK = re.compile(r"(?<!!)\[((?:[^\]\[\n]|\[[^\]\n]*\])+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Return the page of each document, by the document's path in the repository."""
    documents = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    return {**TOP, **{path: path.removeprefix("docs/") for path in documents}}


def rewritten(text: str, document: str, known: dict[str, str]) -> str:
    """Return a document's text with its links between files made links between pages.

    Raises:
        ValueError: A link leads to a file that does not exist.
    """

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), target))
        if not (ROOT / path).exists():
            raise ValueError(f"{document}: {target} does not exist")
        if path not in known:
            return label
        here = posixpath.dirname(known[document]) or "."
        return f"[{label}]({posixpath.relpath(known[path], here)}{anchor})"

    return _LINK.sub(link, text)


def stage(folder: Path) -> None:
    """Write the pages, their pictures and the generator's settings into a folder."""
    known = pages()
    for document, page in known.items():
        target = folder / "docs" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewritten((ROOT / document).read_text("utf-8"), document, known), "utf-8")
    shutil.copytree(ROOT / "docs" / "images", folder / "docs" / "images")
    shutil.copy(Path(__file__).with_name("zensical.toml"), folder)


def build(target: Path) -> None:
    """Make the site.

    Raises:
        subprocess.CalledProcessError: The generator failed, or found a link that leads nowhere.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage(folder)
        command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
        subprocess.run([str(part) for part in command], cwd=folder, check=True, stdout=sys.stderr)
        shutil.copytree(folder / "site", target, dirs_exist_ok=True)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
