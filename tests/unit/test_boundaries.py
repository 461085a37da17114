"""The arrows between folders point one way, and every folder can be read."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in (ROOT / "services").glob("*/__init__.py"))
CLIENT = ROOT / "protos" / "athanor" / "client"
WIRE = {"grpc", "athanor", "kafka", "minio", "tritonclient", "elasticsearch"}
WIRE_MODULES = {"__main__", "app", "servicer", "worker", "adapters"}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:work|root|tmp|home)/\w")


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, by its full name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{names(path)} imports relatively: write the path"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def heads(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def core(service: Path) -> list[Path]:
    return [path for path in modules(service) if path.stem not in WIRE_MODULES]


def test_libraries_know_no_service():
    assert [names(path) for path in modules(ROOT / "libs") if heads(path) & {"services"}] == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_service_imports_no_other(service):
    others = {
        f"{names(path)} imports {name}"
        for path in modules(service)
        for name in imports(path)
        if name.startswith("services.") and name.split(".")[1] != service.name
    }
    assert others == set()


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_the_core_knows_no_wire(service):
    wired = {f"{names(path)}: {heads(path) & WIRE}" for path in core(service) if heads(path) & WIRE}
    assert wired == set()


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_the_core_imports_none_of_the_modules_that_may_know_the_wire(service):
    forbidden = {f"services.{service.name}.{module}" for module in WIRE_MODULES}
    wired = {
        f"{names(path)} imports {name}"
        for path in core(service)
        for name in imports(path)
        if name in forbidden
    }
    assert wired == set()


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_only_the_entry_reads_the_environment(service):
    readers = [
        names(path)
        for path in modules(service)
        if path.stem != "__main__" and {"os.environ", "os.getenv"} & set(_attributes(path))
    ]
    assert readers == []


def _attributes(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def test_what_other_programs_import_knows_neither_libraries_nor_services():
    own = [names(path) for path in modules(CLIENT) if heads(path) & {"libs", "services", "deploy"}]
    assert own == []


def test_every_module_is_named_after_its_idea():
    folders = (ROOT / "libs", ROOT / "services", ROOT / "deploy", ROOT / "tests", CLIENT)
    found = [path for folder in folders for path in modules(folder)]
    nameless = [names(path) for path in found if {path.stem, path.parent.name} & NAMELESS]
    assert nameless == []


def test_every_module_says_what_it_is():
    folders = (ROOT / "libs", ROOT / "services", ROOT / "deploy", CLIENT)
    found = [path for folder in folders for path in modules(folder)]
    assert [names(path) for path in found if not ast.get_docstring(tree(path))] == []


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for top in ("libs", "services") for path in modules(ROOT / top)}
    assert [names(path) for path in sorted(folders) if not (path / "__init__.py").exists()] == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_service_has_a_page_of_at_most_80_lines(service):
    assert 0 < len((service / "README.md").read_text("utf-8").splitlines()) <= 80


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_service_has_the_parts_that_a_newcomer_opens(service):
    parts = {"__main__.py", "app.py", "servicer.py", "config.py", "topics.py"}
    assert parts - {path.name for path in service.iterdir()} == set()


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_services_first_page_gives_the_reading_order(service):
    text = ast.get_docstring(tree(service / "__init__.py")) or ""
    named = [word for word in re.findall(r"`(\w+)`", text) if (service / f"{word}.py").exists()]
    assert len(named) >= 2, "its docstring: one sentence, then the modules in reading order"


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_an_entry_is_at_most_40_lines(service):
    assert len((service / "__main__.py").read_text("utf-8").splitlines()) <= 40


def test_no_source_holds_a_path_of_one_machine():
    folders = (ROOT / "libs", ROOT / "services", ROOT / "deploy", CLIENT)
    found = [
        f"{names(path)}: {match.group()}"
        for folder in folders
        for path in modules(folder)
        if (match := MACHINE_PATH.search(path.read_text("utf-8")))
    ]
    assert found == []
