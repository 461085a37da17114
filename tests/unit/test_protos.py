"""The committed code is what the protos give, and every rpc and field says what it is."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
SOURCES = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("athanor/**/*.proto"))
SCRIPTS = sysconfig.get_path("scripts")
BUF = shutil.which("buf", path=SCRIPTS)
needs_buf = pytest.mark.skipif(BUF is None, reason="buf is not in the venv: make setup installs it")


def run(*argv, cwd=ROOT):
    # The plugins of protoc are scripts of the same environment.
    env = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Everything that protoc makes of the protos, and a descriptor set with their comments."""
    out = tmp_path_factory.mktemp("protos")
    run(
        *(sys.executable, "-m", "grpc_tools.protoc", "-I", PROTOS, "-I", PROTOS / "vendor"),
        *(f"--python_out={out}", f"--grpc_python_out={out}"),
        *(f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}"),
        *(f"--descriptor_set_out={out / 'image'}", "--include_source_info"),
        *SOURCES,
    )
    return out


@pytest.fixture(scope="module")
def files(generated):
    return FileDescriptorSet.FromString((generated / "image").read_bytes()).file


def generated_code(folder):
    return {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for pattern in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
        for path in (folder / "athanor").rglob(pattern)
    }


def test_the_committed_code_is_what_the_protos_give(generated):
    committed, made = generated_code(PROTOS), generated_code(generated)
    assert committed.keys() == made.keys()
    assert [name for name in made if made[name] != committed[name]] == [], "run make protos"


def named(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path in the source info (numbers of descriptor.proto) and name of all that needs words."""
    for index, message in enumerate(file.message_type):
        yield from of_message(message, (4, index), message.name)
    for index, enum in enumerate(file.enum_type):
        yield from of_members((5, index), enum.name, enum.value)
    for index, service in enumerate(file.service):
        yield from of_members((6, index), service.name, service.method)
    for index, extension in enumerate(file.extension):
        yield (7, index), extension.name


def of_message(
    message: DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    if message.options.map_entry:
        return
    yield from of_members(path, name, message.field)
    for index, nested in enumerate(message.nested_type):
        yield from of_message(nested, (*path, 3, index), f"{name}.{nested.name}")
    for index, enum in enumerate(message.enum_type):
        yield from of_members((*path, 4, index), f"{name}.{enum.name}", enum.value)


def of_members(path, name, members) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for index, member in enumerate(members):  # 2: fields, values and methods alike
        yield (*path, 2, index), f"{name}.{member.name}"


def test_every_rpc_field_message_and_value_has_a_comment(files):
    mute = []
    for file in files:
        said = {
            tuple(each.path) for each in file.source_code_info.location if each.leading_comments
        }
        mute += [f"{file.name}: {name}" for path, name in named(file) if path not in said]
    assert mute == []


def test_the_comments_are_looked_at(files):
    paths = [name for file in files for _, name in named(file)]
    assert "CorpusService.Search" in paths
    assert "SearchHit.score" in paths
    assert "OperationState.OPERATION_STATE_QUEUED" in paths


@needs_buf
def test_the_protos_keep_the_rules_of_buf():
    run(BUF, "lint")


@needs_buf
def test_the_protos_break_no_one_who_speaks_the_released_ones(tmp_path):
    # As one image: the workspace has two modules, the released image is one.
    run(BUF, "build", "-o", tmp_path / "now.binpb")
    run(BUF, "breaking", tmp_path / "now.binpb", "--against", "protos/athanor.binpb")
