"""What each server is told."""

import json

import pytest

from deploy.local.stack import prometheus, triton
from deploy.local.stack.guard import Guard
from deploy.local.stack.run import Run
from deploy.local.stack.server import Start
from deploy.local.stack.servers import SERVERS, chosen, default, with_needs
from libs.errors import NotFound, Unavailable


def start(tmp_path, name):
    run = Run(cache=tmp_path / "cache", folder=tmp_path)
    for each in ("minio", name):
        run.keep_ports(each, SERVERS[each].ports)
        (tmp_path / each).mkdir(exist_ok=True)
    return Start(run=run, name=name)


def test_a_whole_stack_has_one_triton_unless_more_are_asked_for():
    assert default(1) == ["minio", "kafka", "elasticsearch", "prometheus", "triton"]
    assert default(2)[-1] == "triton-2"


def test_a_server_comes_with_what_it_needs():
    assert [each.name for each in with_needs(["triton"])] == ["minio", "triton"]


def test_a_server_that_is_none_is_refused_by_name():
    with pytest.raises(NotFound, match=r"servers are minio, .*, got zookeeper"):
        chosen(["kafka", "zookeeper"])


def test_elasticsearch_is_told_no_setting_of_a_module_that_it_lacks(tmp_path, monkeypatch):
    config = tmp_path / "cache" / "elasticsearch-8.19.3" / "config"
    config.mkdir(parents=True)
    for name in ("jvm.options", "log4j2.properties"):
        (config / name).touch()
    monkeypatch.setattr("deploy.local.stack.obtain.java", lambda: "/usr/bin/java")
    with Guard() as guard:
        SERVERS["elasticsearch"].command(start(tmp_path, "elasticsearch"), guard)
    lines = (tmp_path / "elasticsearch" / "config" / "elasticsearch.yml").read_text().splitlines()
    heads = {line.split(":")[0].split(".")[0] for line in lines}
    assert heads == {"discovery", "xpack", "http", "transport", "cluster", "path"}


def test_models_on_triton_see_the_stubs_numpy_before_the_projects(tmp_path):
    folder = triton._python(start(tmp_path, "triton"))
    lines = next(folder.glob("lib/*/site-packages/athanor.pth")).read_text().splitlines()
    assert lines[0] == str(tmp_path / "cache" / "triton-numpy-1.26.4")
    assert len(lines) > 1
    assert all(line.endswith("site-packages") for line in lines[1:])


def test_a_python_without_its_shared_library_is_told_before_a_model_fails(tmp_path, monkeypatch):
    found = {"LIBDIR": str(tmp_path), "MULTIARCH": "x86_64-linux-gnu"}
    monkeypatch.setattr(triton.sysconfig, "get_config_var", found.get)
    with pytest.raises(Unavailable, match=r"need libpython3.*apt-get install libpython3"):
        triton.library_folder()
    (tmp_path / "x86_64-linux-gnu").mkdir()
    (tmp_path / "x86_64-linux-gnu" / f"lib{triton._PYTHON}.so.1.0").touch()
    assert triton.library_folder() == tmp_path / "x86_64-linux-gnu"


@pytest.mark.parametrize("way", ["http-restricted-api", "grpc-restricted-protocol"])
def test_triton_loads_models_for_those_with_the_key(tmp_path, way):
    at = start(tmp_path, "triton")
    key = at.run.secrets()["triton_key"]
    said = f"--{way}=model-repository,shared-memory:athanor={key}"
    assert said in triton._arguments(at, tmp_path)


def test_a_killed_triton_leaves_no_shared_memory_and_no_other_loses_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(triton, "_SHARED", tmp_path)
    at = start(tmp_path, "triton")
    (tmp_path / f"{triton._shared_prefix(at)}1").touch()
    (tmp_path / "triton_python_backend_shm_region_1").touch()
    assert [path.name for path in triton._strays(at, [])] == [f"{triton._shared_prefix(at)}1"]


def test_a_killed_triton_leaves_no_model_that_it_had_read(tmp_path, monkeypatch):
    place = "/".join(("", "tmp", "folderAb3x9Q"))
    monkeypatch.setattr(triton, "_command_line", lambda _: f"stub {place}/1/model.py x")
    found = triton._strays(start(tmp_path, "triton"), [1, 2])
    assert [str(path) for path in found] == [place]


def test_prometheus_is_given_the_rules_and_not_their_tests(tmp_path):
    for name in ("alerts.yaml", "alerts_test.yaml", "README.md"):
        (tmp_path / name).touch()
    assert prometheus.rules(tmp_path) == [str(tmp_path / "alerts.yaml")]
    assert prometheus.rules(tmp_path / "absent") == []


def test_prometheus_finds_targets_in_the_folder_of_the_run(tmp_path):
    with Guard() as guard:
        SERVERS["prometheus"].command(start(tmp_path, "prometheus"), guard)
    written = json.loads((tmp_path / "prometheus" / "prometheus.json").read_text())
    (job,) = written["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [str(tmp_path / "targets" / "*.json")]
