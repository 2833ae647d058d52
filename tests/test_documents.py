"""README and guides: the lines of Python in the README run, and links between documents lead somewhere."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from massmap_jax.posterior.columns import column_info

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text) -> set[str]:
    """Anchors of the headings, as GitHub and MyST make them: lower case, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#{1,3} (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document) -> list[str]:
    """Relative links of a document that lead to no file, or to no heading of it."""
    found = []
    for link in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(d.relative_to(REPOSITORY)) for d in DOCUMENTS])
def test_links_lead_somewhere(document):
    assert not broken(document)


def test_wrong_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading: `code`\n\n```\n# no heading\n```\n")
    right, wrong = ["other.md", "other.md#a-heading-code"], ["absent.md", "other.md#no-heading", "#nowhere"]
    page = tmp_path / "page.md"
    page.write_text("".join(f"[text]({link})\n" for link in [*right, *wrong, "https://example.org/absent.md"]))
    assert broken(page) == wrong


def test_lines_of_the_readme_run():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    made = {}
    exec(lines, made)
    e_z = np.sqrt(0.3 * (1 + np.array([0.15, 0.20, 0.30])) ** 3 + 0.7)
    inverted = 3e14 * (np.array([1.2, 3.0, 8.0]) / np.exp(0.63) / e_z ** (7 / 3)) ** (1 / 1.64)
    ratio = np.exp(made["masses"].mean) / inverted
    assert np.all((ratio > 0.8) & (ratio < 0.95))  # the mass function falls, and draws the masses down
    printed = [
        [float(x) for x in row.split()] for row in re.findall(r"\[([\d. ]+)\]", re.findall(r"print.*# (.*)", lines)[0])
    ]
    assert np.allclose(printed, [made["masses"].mean, made["masses"].sd], atol=0.02)
    assert made["field"].mean.sum() == pytest.approx(made["field"].total_mass)
    assert made["field"].sd.max() > 0


def texts_of_the_package() -> str:
    """All texts in the source of the package, a NUL where a value is put in, a line each."""
    found = []
    for path in sorted((REPOSITORY / "massmap_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_of_the_troubleshooting_exist():
    """The words that a reader searches for are those of the source."""
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    texts = texts_of_the_package()
    parts = [part.strip() for message in messages for part in message.split("...")]
    assert len(messages) >= 20 and not [part for part in parts if part not in texts]
    assert "a message that no one wrote" not in texts


def test_columns_of_the_conventions_are_those_of_the_tables():
    page = (REPOSITORY / "docs" / "conventions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (.+) \|$", page, re.MULTILINE)
    told = column_info([name for name, _, _ in rows])
    assert {name: meaning.replace("\\|", "|") for name, _, meaning in rows} == told["descriptions"]
    assert {name: unit for name, unit, _ in rows if unit} == told["units"]
    written = {"log10_mass_mean", "log10_mass_sd", "mass_mean", "log_evidence", "edge_mass", "ess", "flag"}
    assert written < {name for name, _, _ in rows}
