"""Links between the documents lead somewhere, and the index names every document."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Not by git: a tree that was unpacked has none.
OTHERS = (".", "build", "node_modules")
FILES = [p for p in ROOT.rglob("*.md") if not any(part.startswith(OTHERS) for part in p.relative_to(ROOT).parts)]


def anchors(file):
    """As forges make them of headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def test_links_lead_somewhere():
    broken = []
    for file in FILES:
        text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            to = (file.parent / path).resolve() if path else file
            if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
                broken.append(f"{file.relative_to(ROOT)}: {target}")
    assert not broken


def test_the_index_names_every_document():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for file in sorted((ROOT / "docs").glob("*.md")):
        assert file.name == "README.md" or f"({file.name})" in index, file.name
    for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        assert f"../{name}" in index


def linked(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.S)
    return {(file.parent / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", text)
            if not re.match(r"[a-z]+:|#", target)}


def test_every_document_is_reached_from_the_index():
    """From docs/README.md by links, and the index from README.md; a folder that is linked shows its README."""
    index = ROOT / "docs" / "README.md"
    assert index in linked(ROOT / "README.md")
    seen, left = set(), [index]
    while left:
        file = left.pop()
        if file.is_dir():
            file = file / "README.md"
        if file.suffix == ".md" and file.exists() and file not in seen:
            seen.add(file)
            left += linked(file)
    for file in FILES:
        if "tests" in file.relative_to(ROOT).parts:  # beside the files it tells of
            seen.add(file)
    assert not {str(file.relative_to(ROOT)) for file in FILES} - {str(file.relative_to(ROOT)) for file in seen}
