"""The whole road over TLS, under users with passwords; and each way in which a connection is rightly refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import kombu.transport
import pytest
import redis

from tests import access, processes, servers
from tests.certificates import Authority
from tests.cli_kit import Ran, run
from tests.ingress_kit import event, ingress
from tests.processes import until
from worker.doorbell import SEQUENCE_QUEUE, Doorbell
from worker.errors import BrokerUnavailable, ConfigurationError
from worker.ops.doctor.brokers import try_broker
from worker.runtime import transport
from worker.runtime.waiting import Waiting
from worker.settings import Settings

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="the embedded Valkey has no TLS"),
]

SPECIAL = "p@ss:w/rd?#%&=+ ü"


@dataclass(frozen=True)
class Place:
    """A server that speaks TLS, and what there is of certificates. ``url`` has neither user nor parameters."""

    url: str
    folder: Path
    authority: Authority

    def as_user(self, role: str, query: str | None = None) -> str:
        """The URL of a role that trusts the authority, or has other parameters."""
        told = f"ssl_ca_certs={self.authority.file}" if query is None else query
        return f"{access.as_user(self.url, role)}{'?' if told else ''}{told}"

    def handoff(self, url: str, *words: str) -> Ran:
        return run(*(words or ("status",)), folder=self.folder, HANDOFF_REDIS_URL=url)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    with _serving(authority, folder, "localhost") as url:
        yield Place(url, folder, authority)


def _serving(authority: Authority, folder: Path, *hosts: str, **options: bool):  # type: ignore[no-untyped-def]
    shown = authority.issue(f"server-{hosts[0]}", *hosts, ended=options.pop("ended", False))
    return servers.running("redis", tls=servers.Tls(shown.certificate, shown.key, authority.file, **options))


def test_an_event_goes_the_whole_road_over_tls(place: Place) -> None:
    """The ingress with its pipelined connection and its bells, a worker and the command line, each as its own user."""
    environment = {
        "HANDOFF_REDIS_URL": place.as_user("worker"),
        "HANDOFF_LOG_FORMAT": "json",
        "HANDOFF_HANDLERS": "worker.handlers.log",
        "HANDOFF_GAP_WAIT": "20ms",
    }
    celery = processes.python("celery", "-A", "worker", "worker", "-c", "1")
    with (
        ingress(place.as_user("ingress"), "handoff", PREFIX="handoff") as door,
        processes.running(celery, environment, place.folder) as worker,
    ):
        assert door.post(event("acme", 1)).status_code == 202
        until(lambda: door.metric('handoff_ingress_bells_total{outcome="rung"}') >= 1, "the bell is rung", deadline=60)
        worker.wait_for_output(" ready.", deadline=60)
        until(lambda: deliveries(place)["released"] == 1, "it is through", deadline=60)
        assert place.handoff(place.as_user("operator"), "explain", "evt1").code == 0
        assert worker.stop() == 0, worker.output
        assert "Traceback" not in worker.output + door.process.output
    assert place.handoff(place.as_user("operator"), "audit").code == 0


def deliveries(place: Place) -> Any:
    """What the command line tells of them."""
    status = place.handoff(place.as_user("operator"), "status", "--json")
    assert status.err == ""
    return status.json["deliveries"]


def test_kombu_checks_certificates_as_redis_py_does(place: Place) -> None:
    """Told nothing of it, kombu would take any certificate for the broker's, and give its owner the password."""
    unsure = Settings(redis_url=place.as_user("worker", ""))
    with pytest.raises(BrokerUnavailable, match="certificate is not accepted"):
        Doorbell(unsure).ring_sequencer(0)
    Doorbell(Settings(redis_url=place.as_user("worker", "ssl_cert_reqs=none"))).ring_sequencer(0)
    Doorbell(Settings(redis_url=place.as_user("worker"))).ring_sequencer(0)


def one_line(ran: Ran) -> str:
    """What an operator's mistake is told by."""
    assert (ran.code, ran.out) == (2, ""), ran
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: HANDOFF_REDIS_URL: "), line
    assert access.PASSWORD not in line
    return line


def test_a_certificate_of_somebody_else_s_is_refused_in_one_line(place: Place) -> None:
    other = Authority(place.folder, "other").file
    for query in ("", f"ssl_ca_certs={other}"):
        line = one_line(place.handoff(place.as_user("operator", query)))
        assert "the server's certificate is not accepted: " in line
        assert "ssl_ca_certs=" in line
    assert place.handoff(place.as_user("operator", "ssl_cert_reqs=none")).code != 2


@pytest.mark.parametrize(
    ("host", "ended", "why"),
    [("localhost", True, "certificate has expired"), ("redis.example", False, "Hostname mismatch")],
)
def test_a_certificate_that_has_ended_or_is_for_another_host_is_refused(
    tmp_path: Path, host: str, ended: bool, why: str
) -> None:
    authority = Authority(tmp_path)
    with _serving(authority, tmp_path, host, ended=ended) as url:
        there = Place(url, tmp_path, authority)
        assert why in one_line(there.handoff(there.as_user("operator")))
        if not ended:
            told = f"ssl_ca_certs={authority.file}&ssl_check_hostname=false"
            assert there.handoff(there.as_user("operator", told)).code != 2


def test_a_server_that_asks_for_one_gets_a_certificate_of_this_side_s(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("client")
    with _serving(authority, tmp_path, "localhost", clients=True) as url:
        there = Place(url, tmp_path, authority)
        assert "ssl_certfile=" in one_line(there.handoff(there.as_user("operator")))
        told = f"ssl_ca_certs={authority.file}&ssl_certfile={ours.certificate}&ssl_keyfile={ours.key}"
        assert there.handoff(there.as_user("operator", told)).code != 2
        Doorbell(Settings(redis_url=there.as_user("worker", told))).ring_sequencer(0)


def test_every_process_says_what_is_wrong_with_a_certificate_and_shows_no_traceback(place: Place) -> None:
    """The ingress and a worker wait for a server that may be mended; what they say meanwhile is for an operator."""
    url = place.as_user("worker", "")
    celery = processes.python("celery", "-A", "worker", "worker", "-c", "1")
    with (
        ingress(place.as_user("ingress", ""), "handoff", wait="/healthz") as door,
        processes.running(celery, {"HANDOFF_REDIS_URL": url}, place.folder) as worker,
    ):
        told = door.http.get("/readyz").json()["error"]["message"]
        assert "the server's certificate is not accepted" in told
        worker.wait_for_output(
            "handoff: HANDOFF_REDIS_URL: no TLS connection to the state server: the server's cert", 60
        )
        worker.wait_for_output("Cannot connect to", 60)
        said = worker.output + door.process.output
    assert "Traceback" not in said, said
    assert access.PASSWORD not in said


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("ssl_ca_certs=/nowhere", "ssl_ca_certs can't be read: No such file or directory"),
        ("ssl_certfile=/nowhere", "ssl_certfile can't be read"),
        ("ssl_cert_reqs=perhaps", "unknown ssl_cert_reqs"),
        ("ssl_verify=1", "has no parameter ssl_verify"),
    ],
)
def test_a_parameter_that_can_t_be_used_stops_the_start(query: str, problem: str) -> None:
    for setting in ("redis_url", "broker_url"):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            Settings.model_validate({setting: f"rediss://user:hidden@localhost:1/0?{query}"})
        assert str(caught.value).startswith(f"HANDOFF_{setting.upper()}: ")
        assert "hidden" not in str(caught.value)


def test_a_password_may_have_any_character_in_it(tmp_path: Path) -> None:
    """Percent-encoded in the URL; for the state and for the bells."""
    with servers.running("redis", locked=True) as url:
        with redis.Redis.from_url(url) as client:
            client.execute_command("ACL", "SETUSER", "handoff-operator", f">{SPECIAL}")  # type: ignore[no-untyped-call]
            client.execute_command("ACL", "SETUSER", "handoff-worker", f">{SPECIAL}")  # type: ignore[no-untyped-call]
            client.hset("handoff:config", "partitions", 2)
        where = url.rpartition("@")[2]
        ran = run("status", folder=tmp_path, HANDOFF_REDIS_URL=f"redis://handoff-operator:{quote(SPECIAL, '')}@{where}")
        assert ran.code != 2, ran.err
        Doorbell(Settings(redis_url=f"redis://handoff-worker:{quote(SPECIAL, '')}@{where}")).ring_sequencer(0)
        wrong = run("status", folder=tmp_path, HANDOFF_REDIS_URL=f"redis://handoff-operator:wrong@{where}")
        assert "refuses the user or password" in one_line(wrong)
        plain = run("status", folder=tmp_path, HANDOFF_REDIS_URL=f"redis://handoff-operator:{SPECIAL}@{where}")
        assert SPECIAL not in plain.err


@pytest.fixture
def behind_a_sentinel(tmp_path: Path) -> Iterator[Settings]:
    """A server and a Sentinel that both speak TLS, and a state and broker there."""
    authority = Authority(tmp_path)
    shown = authority.issue("everybody", "127.0.0.1", "localhost")
    with servers.running("redis", tls=servers.Tls(shown.certificate, shown.key, authority.file)) as url:
        port = servers.free_port()
        tls = servers.Tls(shown.certificate, shown.key, authority.file).options
        lines = [f"{name} {value}" for name, value in tls.items()]
        lines += ["port 0", "bind 127.0.0.1", f"tls-port {port}", "tls-replication yes", f"dir {tmp_path}"]
        lines += [f"sentinel monitor main 127.0.0.1 {urlsplit(url).port} 1"]
        config = tmp_path / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        with processes.running([servers.binary("redis"), str(config), "--sentinel"], {}):
            trust = f"ssl_ca_certs={authority.file}"
            with redis.Redis.from_url(f"rediss://127.0.0.1:{port}?{trust}") as sentinel:
                until(lambda: _watches(sentinel), "the Sentinel sees the server")
            yield Settings(redis_url=f"rediss+sentinel://127.0.0.1:{port}/main/0?{trust}")


def _watches(sentinel: redis.Redis) -> bool:
    try:
        return bool(sentinel.sentinel_master("main")["flags"] == "master")
    except redis.exceptions.ConnectionError:
        return False


def test_whoever_asks_the_broker_behind_a_sentinel_does_it_over_tls_too(
    behind_a_sentinel: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watchdog that can't ask never calls a worker deaf, and the doctor would say that the broker is away."""
    monkeypatch.setattr(kombu.transport, "TRANSPORT_ALIASES", dict(kombu.transport.TRANSPORT_ALIASES))
    transport.install()
    bell, waiting = Doorbell(behind_a_sentinel), Waiting(behind_a_sentinel)
    bell.ring_sequencer(1)
    assert waiting.count([SEQUENCE_QUEUE, "other"]) == {SEQUENCE_QUEUE: 1, "other": 0}
    assert try_broker(behind_a_sentinel).error == ""
    waiting.close()
    bell.close()
