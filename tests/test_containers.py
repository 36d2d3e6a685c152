"""The image and example/: what hadolint and the schemas can't know, that the pieces fit together and to the pooler.

There is no container engine here. The image's own steps run in a folder instead (``test_the_image``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toml
import yaml
from dockerfile import Instruction, of, stages
from eventually import eventually
from fix_doorman import Doorman
from throwaway_postgres import free_port

import pgdoorman_lib

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "example"
COMPOSE = EXAMPLE / "docker-compose.yml"
KUBERNETES = EXAMPLE / "kubernetes"
#: Where images and pods have the configuration.
ETC = "/etc/pgdoorman"
#: Where the image has the program.
HOME = "/opt/pgdoorman"

BUILD, IMAGE = stages(ROOT / "Dockerfile")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def the(instructions: list[Instruction]) -> Instruction:
    (instruction,) = instructions
    return instruction


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, f"{text!r} is not in seconds"
    return int(found[1])


# -- the image


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of(IMAGE, "USER")[-1].text)


@pytest.mark.parametrize("word", ["ENTRYPOINT", "CMD", "HEALTHCHECK"])
def test_no_shell_stands_between_the_engine_and_the_process(word: str) -> None:
    assert the(of(IMAGE, word)).exec_form


def test_what_the_engine_sends_drains() -> None:
    assert the(of(IMAGE, "STOPSIGNAL")).text == "SIGTERM"


def test_base_images_name_no_registry() -> None:
    for stage in BUILD, IMAGE:
        host, slash, _ = of(stage, "FROM")[0].text.partition("/")
        assert not slash or not re.search(r"[.:]|^localhost$", host)
    images = [service["image"] for service in read(COMPOSE)["services"].values()]
    assert not [image for image in images if "/" in image and re.search(r"[.:]", image.partition("/")[0])]


def copied() -> list[str]:
    return [source for copy in of(BUILD, "COPY") for source in copy.text.split()[:-1]]


def test_the_engine_is_sent_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())
    assert "*" in lines
    for source in copied():
        assert (ROOT / source).exists()


def substituted(text: str, home: Path) -> str:
    return text.replace(HOME, str(home))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """The folder in which the steps of the Dockerfile were run, for /opt/pgdoorman; nothing is compiled."""
    source, home = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.so"))
        else:
            shutil.copy(ROOT / name, source / name)
    tools = tmp_path / "bin"  # named as the base image names them
    tools.mkdir()
    for name, command in ("python", f'exec "{sys.executable}" "$@"'), ("pip", f'exec "{sys.executable}" -m pip "$@"'):
        (tools / name).write_text(f"#!/bin/sh\n{command}\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PGDOORMAN_PURE": "1"}
    environment.pop("PYTHONPATH", None)
    for run in of(BUILD, "RUN"):
        if "apt-get" in run.text:
            continue
        done = subprocess.run(
            ["sh", "-c", substituted(run.text, home)],
            cwd=source, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    yield home


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_image(image: Path, tmp_path: Path) -> None:
    """It is healthy as its HEALTHCHECK sees it, and SIGTERM ends it."""
    etc, web = tmp_path / "etc", str(free_port())
    etc.mkdir()
    config = toml.loads((EXAMPLE / "compose" / "pgdoorman" / "pg_doorman.toml").read_text())
    config["general"]["port"], config["web"]["port"] = free_port(), int(web)
    for table in config["general"], config["web"]:
        table["host"] = "127.0.0.1"
    del config["statsd"]
    (etc / "pg_doorman.toml").write_text(toml.dumps(config))
    start = [*(the(of(IMAGE, "ENTRYPOINT")).exec_form or ()), *(the(of(IMAGE, "CMD")).exec_form or ())]
    health = the(of(IMAGE, "HEALTHCHECK")).exec_form or []
    environment = {name: value for name, value in Doorman.environment().items() if name != "PYTHONPATH"}

    def healthy() -> bool:
        command = [substituted(word, image).replace("9127", web) for word in health]
        return subprocess.run(command, env=environment, capture_output=True, timeout=20).returncode == 0

    assert not healthy()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [substituted(word, image).replace(ETC, str(etc)) for word in start],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
        )  # fmt: skip
    try:
        eventually(healthy, timeout=60, message=f"it is healthy: {(tmp_path / 'log').read_text()}")
        process.send_signal(signal.Signals[the(of(IMAGE, "STOPSIGNAL")).text])
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


# -- configuration files


@pytest.mark.parametrize(
    "path", [COMPOSE.parent / "compose" / "pgdoorman" / "pg_doorman.toml", KUBERNETES / "pg_doorman.toml"], ids=str
)
def test_configurations_can_be_used(path: Path, tmp_path: Path) -> None:
    """Laid out as they are mounted; the only warnings are about this machine."""
    for file in path.parent.glob("*.toml"):
        mounted = tmp_path / file.name
        mounted.write_text(file.read_text("utf-8").replace(ETC, str(tmp_path)), "utf-8")
        mounted.chmod(0o440)
    done = subprocess.run(
        [*Doorman.command(), "-t", str(tmp_path / path.name)],
        cwd="/", env=Doorman.environment(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "running as root" not in line] == []


def test_every_configuration_below_example_is_looked_at() -> None:
    found = {path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*.toml")}
    assert found == {
        "compose/pgdoorman/pg_doorman.toml",
        "kubernetes/pg_doorman.toml",
        "kubernetes/secrets.toml",
    }


# -- compose


@pytest.fixture
def services() -> Any:
    return read(COMPOSE)["services"]


@pytest.fixture
def composed() -> Any:
    """The pooler's configuration."""
    return toml.loads((EXAMPLE / "compose" / "pgdoorman" / "pg_doorman.toml").read_text())


def mounts(service: Any) -> dict[str, str]:
    """What a service sees where, by the path in it."""
    return {mount.split(":")[1]: mount.split(":")[0] for mount in service.get("volumes", ())}


def test_what_compose_mounts_is_there(services: Any) -> None:
    volumes = read(COMPOSE)["volumes"]
    for service in services.values():
        for source in mounts(service).values():
            assert source in volumes or (EXAMPLE / source).exists(), source
    assert (EXAMPLE / services["pgdoorman"]["build"] / "Dockerfile").is_file()


def test_compose_publishes_to_this_machine_alone(services: Any) -> None:
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_pooler_of_compose_finds_what_it_is_to_find(services: Any, composed: Any) -> None:
    (name, pool), (user,) = next(iter(composed["pools"].items())), composed["pools"]["exampledb"]["users"]
    postgres = services[pool["server_host"]]["environment"]
    assert postgres == {
        "POSTGRES_DB": name, "POSTGRES_USER": user["username"], "POSTGRES_PASSWORD": user["password"],
    }  # fmt: skip
    assert composed["statsd"]["host"] in services
    load = services["load"]["environment"]
    assert load == {
        "PGHOST": "pgdoorman", "PGPORT": str(composed["general"]["port"]), "PGUSER": user["username"],
        "PGPASSWORD": user["password"], "PGDATABASE": name,
    }  # fmt: skip
    assert mounts(services["pgdoorman"])[ETC] == "./compose/pgdoorman"


def test_compose_lets_transactions_finish(services: Any, composed: Any) -> None:
    grace = seconds(services["pgdoorman"]["stop_grace_period"])
    assert grace > seconds(composed["general"]["shutdown_timeout"]) + 5


def test_prometheus_of_compose_reads_the_pooler_and_the_alerts(services: Any, composed: Any) -> None:
    seen = mounts(services["prometheus"])
    directory = "/etc/prometheus"
    config = read(EXAMPLE / seen[f"{directory}/prometheus.yml"])
    assert [(EXAMPLE / seen[f"{directory}/{file}"]).resolve() for file in config["rule_files"]] == [
        ROOT / "conf" / "prometheus-alerts.yml"
    ]
    (job,) = config["scrape_configs"]
    # The job that the alerts name.
    assert f'job="{job["job_name"]}"' in (ROOT / "conf" / "prometheus-alerts.yml").read_text()
    assert job["static_configs"] == [{"targets": [f"pgdoorman:{composed['web']['port']}"]}]


def test_grafana_of_compose_has_the_dashboards_and_their_sources(services: Any) -> None:
    seen = mounts(services["grafana"])
    provisioning = "/etc/grafana/provisioning"
    sources = read(EXAMPLE / seen[f"{provisioning}/datasources/pgdoorman.yml"])["datasources"]
    for source in sources:
        assert re.fullmatch(r"http://(\w+):\d+", source["url"])[1] in services  # type: ignore[index]
    (provider,) = read(EXAMPLE / seen[f"{provisioning}/dashboards/pgdoorman.yml"])["providers"]
    folder = provider["options"]["path"]
    dashboards = {path: (EXAMPLE / source).resolve() for path, source in seen.items() if path.startswith(f"{folder}/")}
    assert set(dashboards.values()) == set((ROOT / "conf").glob("grafana-*.json"))
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in dashboards
    wanted = {
        variable["query"]
        for path in dashboards.values()
        for variable in json.loads(path.read_text())["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert wanted == {source["type"] for source in sources}


# -- Kubernetes


@pytest.fixture
def deployment() -> Any:
    return read(KUBERNETES / "deployment.yaml")


@pytest.fixture
def pod(deployment: Any) -> Any:
    return deployment["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


def test_all_manifests_mean_the_same_pods(deployment: Any) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert read(KUBERNETES / "service.yaml")["spec"]["selector"] == labels
    assert read(KUBERNETES / "poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"] == labels
    for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels


def test_kustomize_makes_what_the_pods_mount(pod: Any, container: Any) -> None:
    kustomization = read(KUBERNETES / "kustomization.yaml")
    for name in kustomization["resources"]:
        assert (KUBERNETES / name).is_file()
    made = {
        kind: kustomization[f"{kind}Generator"][0]["name"]
        for kind in ("configMap", "secret")
        if all((KUBERNETES / file).is_file() for file in kustomization[f"{kind}Generator"][0]["files"])
    }
    (volume,) = pod["volumes"]
    mounted = {kind: source["name"] for part in volume["projected"]["sources"] for kind, source in part.items()}
    assert mounted == made
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": ETC, "readOnly": True}]
    (image,) = kustomization["images"]
    assert (image["name"], image["newTag"]) == (container["image"], pgdoorman_lib.__version__)


def test_pods_run_as_the_image_does(pod: Any) -> None:
    context = pod["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == of(IMAGE, "USER")[-1].text
    # Its files are readable for the group alone.
    assert context["fsGroup"] == context["runAsGroup"]
    assert context["runAsNonRoot"] is True


def test_probes_and_the_service_ask_where_the_pooler_listens(container: Any) -> None:
    config = toml.loads((KUBERNETES / "pg_doorman.toml").read_text())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"postgres": config["general"]["port"], "web": config["web"]["port"]}
    assert config["web"]["enabled"] is True
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert probes == {"readiness": {"path": "/ready", "port": "web"}, "liveness": {"path": "/health", "port": "web"}}
    (port,) = read(KUBERNETES / "service.yaml")["spec"]["ports"]
    assert port["targetPort"] in ports


def test_pods_are_granted_the_time_that_a_drain_takes(pod: Any, container: Any) -> None:
    command, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    general = toml.loads((KUBERNETES / "pg_doorman.toml").read_text())["general"]
    assert pod["terminationGracePeriodSeconds"] > int(pause) + seconds(general["shutdown_timeout"]) + 5
