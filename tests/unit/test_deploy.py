"""What deploy/ says, as far as no container engine is needed: that it names what exists and is locked down."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingress import listening, serve
from tests import servers
from tests.handler_kit import importing
from worker.handlers import SHIPPED
from worker.ops.settings_table import rows, shipped_names, shipped_rows
from worker.runtime import shutdown
from worker.settings import DEFAULT_PARTITIONS, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Not what Python leaves behind where it imported something.
FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTINGS = {row.name for row in rows()}
with importing():
    SHIPPED_SETTINGS = {row.name for name in shipped_names() for row in shipped_rows(name)}
PASSWORDS = {f"VALKEY_{role}_PASSWORD" for role in ("INGRESS", "WORKER", "OPERATOR")}
REQUIRED = {"HANDOFF_WEBHOOK_SECRET"} | PASSWORDS
STOPS_WITHIN = 5.0  # seconds that whoever kills a worker has to wait longer than HANDOFF_GRACE, as its description says
DOOR_STOPS_WITHIN = 10.0  # the same for HANDOFF_DRAIN
WORKER = "-A worker worker --without-gossip --without-mingle --without-heartbeat --loglevel INFO -c 2"


# --- settings ---------------------------------------------------------------------------------------------------------


def variables(text: str) -> dict[str, tuple[str, bool]]:
    """``{name: (value, is it commented out)}`` of an environment file."""
    found = re.findall(r"^(# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)
    return {name: (value, bool(comment)) for comment, name, value in found}


EXAMPLE = variables((DEPLOY / "env.example").read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_deploy_names_exists(path: Path) -> None:
    named = set(re.findall(r"HANDOFF_[A-Z][A-Z_]+", path.read_text()))
    assert named - {"HANDOFF_HANDLER_"} <= SETTINGS | SHIPPED_SETTINGS  # the beginning of a handler's options


def test_the_example_has_every_setting_and_only_the_required_ones_uncommented() -> None:
    """Of a handler that comes with Handoff: what puts it on. ``handoff settings NAME`` has the rest."""
    on = {shipped.variable for shipped in SHIPPED.values()}
    assert EXAMPLE.keys() - SHIPPED_SETTINGS == SETTINGS | PASSWORDS
    assert on <= EXAMPLE.keys()
    assert {name for name, (_, commented) in EXAMPLE.items() if not commented} == REQUIRED


def test_what_is_required_has_no_value_that_would_work_if_it_is_left() -> None:
    """A placeholder would be a secret that everybody can read here."""
    assert all(EXAMPLE[name][0] == "" for name in REQUIRED)


def test_the_examples_defaults_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Settings().model_dump()
    for name, (value, _) in EXAMPLE.items():
        monkeypatch.setenv(name, value)
    assert Settings().model_dump() == without | {"partitions": DEFAULT_PARTITIONS}


# --- image ------------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def test_the_image_is_made_in_two_stages_and_runs_without_rights() -> None:
    said = instructions()
    stages = [text.split(" AS ")[1] for word, text in said if word == "FROM"]
    final = said[[text.endswith(" AS final") for _, text in said].index(True) :]
    assert stages == ["build", "final"]
    assert [text for word, text in final if word == "USER"] == ["10001:10001"]
    assert ("STOPSIGNAL", "SIGTERM") in final
    assert [word for word, _ in final].count("HEALTHCHECK") == 1
    assert final[-1] == ("CMD", '["python", "-m", "ingress"]')
    installed = " ".join(text for word, text in final if word == "RUN")
    assert not re.search(r"apt|uv |pip install|gcc", installed)


def test_the_image_installs_what_is_locked_and_checks_the_hashes() -> None:
    installs = [text for word, text in instructions() if word == "RUN" and "uv pip install" in text]
    assert any("--require-hashes" in text and "-c requirements.lock" in text for text in installs)
    assert all("--require-hashes" in text or "--no-deps" in text for text in installs)


def test_what_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    sent = set(re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    copied = {
        source
        for word, text in instructions()
        if word == "COPY" and "--from" not in text
        for source in text.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_no_layer_and_no_file_holds_a_secret() -> None:
    assert not [text for word, text in instructions() if word in {"ENV", "ARG"} and re.search("SECRET|PASSWORD", text)]
    for path in FILES:
        assert not re.search(r"ibt_wh_|(SECRET|PASSWORD)=\S", path.read_text()), path.name


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def healthcheck(which: str = "main") -> int:
    spec = importlib.util.spec_from_file_location("healthcheck", DEPLOY / "healthcheck.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = getattr(module, which)()
    return code


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_the_health_check_asks_the_port_that_the_ingress_listens_on(
    monkeypatch: pytest.MonkeyPatch, host: str, status: int, code: int
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering(status) as port:
        monkeypatch.setenv("HANDOFF_BIND", f"{host}:{port}")
        assert healthcheck() == code


def test_the_health_check_fails_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_BIND", f"[::]:{servers.free_port()}")
    assert healthcheck() == 1


@pytest.mark.parametrize(("said", "code"), [(0, 0), (1, 1), (2, 0)])
def test_a_worker_is_unhealthy_when_the_probe_says_so_and_not_when_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch, said: int, code: int
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == [sys.executable, "-m", "worker.ops.cli", "doctor", "--worker"]
        return subprocess.CompletedProcess(command, said)

    monkeypatch.setattr(subprocess, "run", run)
    assert healthcheck("worker") == code


# --- compose ----------------------------------------------------------------------------------------------------------

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", ["valkey", "ingress", "worker"])
def test_every_service_is_locked_down_bounded_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["healthcheck"]
    assert not service.get("configs"), "inline configs can't be put into a read-only container"


@pytest.mark.parametrize("name", ["ingress", "worker"])
def test_both_roles_are_one_image_and_wait_for_the_server(name: str) -> None:
    service = SERVICES[name]
    assert (service["image"], service["build"]["dockerfile"]) == ("handoff:local", "deploy/Dockerfile")
    assert service["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert "state" in service["networks"]


def test_workers_are_started_and_stopped_as_measured() -> None:
    worker = SERVICES["worker"]
    assert " ".join(worker["command"]) == f"celery {WORKER}"
    assert "REMAP_SIGTERM" not in worker["environment"], "SIGTERM is the one that gives calls their time"
    assert worker["stop_grace_period"] == f"{Settings().grace + STOPS_WITHIN:g}s"


def test_a_worker_is_gone_before_it_is_killed() -> None:
    after_grace = shutdown.PATIENCE + shutdown.END + shutdown.MAIN_LATER
    assert after_grace < STOPS_WITHIN
    assert Settings().grace + STOPS_WITHIN <= 30, "what Kubernetes gives a pod, if it is told nothing"
    assert shutdown.KEPT >= shutdown.END, "a call that can't be cut off is over before its lane is another's"
    said = re.findall(r"--stop-timeout (\d+)", (DEPLOY / "Dockerfile").read_text())
    assert said == [f"{Settings().grace + STOPS_WITHIN:g}"]


@pytest.mark.parametrize("name", ["ingress", "worker", "handoff"])
def test_a_container_gets_no_password_but_its_own(name: str) -> None:
    """All of .env is in its environment, but for what is said here."""
    told = SERVICES[name]["environment"]
    own = "operator" if name == "handoff" else name
    assert {variable for variable in PASSWORDS if told.get(variable) != ""} == set()
    assert told["HANDOFF_REDIS_URL"] == f"redis://handoff-{own}:${{VALKEY_{own.upper()}_PASSWORD}}@valkey:6379/0"


def test_an_ingress_is_gone_before_it_is_killed() -> None:
    assert serve.READ + serve.GRACE + serve.LAST_BELLS + 2 < DOOR_STOPS_WITHIN, "the intake's patience is under 2 s"
    assert SERVICES["ingress"]["stop_grace_period"] == f"{Settings().drain + DOOR_STOPS_WITHIN:g}s"


def test_the_server_is_reached_by_the_services_alone() -> None:
    assert "ports" not in SERVICES["valkey"]
    assert SERVICES["valkey"]["networks"] == ["state"]
    assert COMPOSE["networks"]["state"] == {"internal": True}
    assert SERVICES["ingress"]["ports"] == ["127.0.0.1:8000:8000"]


def test_mounted_files_exist_and_volumes_are_declared() -> None:
    for volume in SERVICES["valkey"]["volumes"]:
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file()


# --- systemd ----------------------------------------------------------------------------------------------------------


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_restarted_for_ever_and_has_no_rights(path: Path) -> None:
    said = unit(path)
    assert said["Service"]["Restart"] == "always"
    assert said["Unit"]["StartLimitIntervalSec"] == "0"
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert said["Service"][name] == "yes"
    assert said["Service"]["ProtectSystem"] == "strict"
    assert said["Service"]["CapabilityBoundingSet"] == ""
    assert said["Service"]["EnvironmentFile"] == "/etc/handoff/handoff.env"


def test_the_units_start_the_same_commands_as_compose() -> None:
    ingress, worker = (
        unit(DEPLOY / "systemd" / f"handoff-{role}.service")["Service"] for role in ("ingress", "worker")
    )
    assert ingress["ExecStart"] == "/opt/handoff/bin/python -m ingress"
    assert worker["ExecStart"] == f"/opt/handoff/bin/celery {WORKER}"
    assert "Environment" not in worker
    assert worker["KillMode"] == "mixed"
    for role, service in (("ingress", ingress), ("worker", worker)):
        assert SERVICES[role]["stop_grace_period"] == f"{service['TimeoutStopSec']}s"


def test_the_socket_is_the_address_of_the_settings() -> None:
    """systemd hands it to the service of the same name."""
    said = unit(DEPLOY / "systemd" / "handoff-ingress.socket")["Socket"]
    assert said["ListenStream"] == Settings().bind
    assert said["Backlog"] == str(listening.BACKLOG)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_a_unit_and_rates_it_as_safe(path: Path, tmp_path: Path) -> None:
    """The program need not be installed here: this Python stands in for it."""
    copy = tmp_path / path.name
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", path.read_text(), flags=re.MULTILINE))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-200:]
