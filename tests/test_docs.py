"""The pages and the settings of tools: short, valid, and true to the files, targets and commands that they name."""

import json
import re
from pathlib import Path

import pytest
import yaml
from check_jsonschema import main
from click.testing import CliRunner

from lib.core.paths import ROOT
from lib.core.runs import STAGES
from lib.serve.contract import RecommendRequest
from lib.workbook import parameters
from lib.workbook.cli import app

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS] + [
    ROOT / folder / "README.md" for folder in ("lib", "benchmarks", "outputs")
]
EXAMPLES = {"params/mine.yaml", "params/tracks.yaml"}  # files that a reader makes
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"(?<![\w/.-])(?:lib|docs|tests|params|notebooks|deploy|benchmarks|\.ci|\.github)/[\w./*-]*\w\*?")
MODULE = re.compile(r"-m ((?:lib|deploy)\.[\w.]+)")
TARGET = re.compile(r"(?:^|[\s(;&])make (?:-s )?([a-z][a-z-]*)", re.MULTILINE)
COMMAND = re.compile(r"(?:bin/|^)workbook ([a-z]+)", re.MULTILINE)
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def code(text: str) -> str:
    """Return the code blocks and code spans of a page, without the comments of the blocks, one a line."""
    return "\n".join(re.sub(r" +#.*", "", block) or span for block, span in CODE.findall(text))


def anchors(file: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_and_the_pages_are_short():
    """The README has at most 120 lines, each page of docs at most 100."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
    assert [file.name for file in DOCS if len(file.read_text().splitlines()) > 100] == []


def test_the_readme_opens_every_page():
    """The README links to each page under docs/ and to the other pages of the repository."""
    links = LINK.findall((ROOT / "README.md").read_text())
    assert [str(file) for file in PAGES[1:] if str(file.relative_to(ROOT)) not in links] == []


@page
def test_links_lead_somewhere(page):
    """Every relative link names a file, and every anchor a heading of it."""
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link


@page
def test_paths_and_modules_exist(page):
    """Every path and module of the repository that a page names exists."""
    text = page.read_text()
    paths = {path for path in PATH.findall(text) if path not in EXAMPLES}
    paths |= {module.replace(".", "/") + "*" for module in MODULE.findall(text)}
    assert [path for path in sorted(paths) if not any(ROOT.glob(path))] == []


@page
def test_commands_exist(page):
    """Every make target and every command of `workbook` that a page names exists."""
    lines = code(page.read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(lines)) <= targets
    assert set(COMMAND.findall(lines)) <= {
        command.name or command.callback.__name__ for command in app.registered_commands
    }


def test_the_api_page_names_every_field():
    """docs/serving.md documents each field of the request, and no other."""
    section = (ROOT / "docs" / "serving.md").read_text().split("## The request")[1].split("## The answer")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(RecommendRequest.model_fields)


@pytest.mark.parametrize("name", ["training.md", "catalogues.md"])
def test_parameters_exist(name):
    """Every parameter in a page's table is declared by a notebook."""
    declared = {key for notebook in STAGES for key in parameters.declared(notebook)}
    table = (ROOT / "docs" / name).read_text().split("| parameter | meaning")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} <= declared


def test_the_messages_to_look_up_exist():
    """Each message in docs/troubleshooting.md is one of ours (Envoy's and the device's are not)."""
    rows = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    spans = {span for row in rows for span in re.findall(r"`(.+?)`", row)} - {"on cpu", "make scale"}
    code = "".join(file.read_text() for top in ("lib", "deploy") for file in (ROOT / top).rglob("*.py"))
    for span in (span for span in spans if not span.startswith("Jwt")):
        words = next(part.strip() for part in re.split(r"[…\d:.]+", span) if " " in part.strip())
        assert words in code, span


def test_the_workflow_is_valid():
    """GitHub's schema accepts the workflow, and its job has a time limit."""
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        result = CliRunner().invoke(main, ["--builtin-schema", schema, str(ROOT / ".github/workflows/ci.yml")])
        assert result.exit_code == 0, result.output


def test_settings_of_other_tools_are_valid():
    """The container for editors installs by make; each local hook names a program and its language."""
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make .venv/.ready"
    assert container["forwardPorts"] == [8080, 8888, 8866]
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in settings["repos"] for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "house"}
    assert all({"name", "entry", "language"} <= set(hook) for hook in hooks)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    files = [line.split()[1] for line in conda["dependencies"][-1]["pip"] if not line.startswith("--editable")]
    assert all((ROOT / file).exists() for file in files)
