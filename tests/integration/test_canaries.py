"""Marked secrets and marked personal data go through everything, at the log level that tells most and through every
failure; then whatever was written is searched for the marks."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from ingress.signature import HEADER, sign
from tests import access, processes, servers
from tests.cli_kit import READING, run
from tests.ingress_kit import ingress
from tests.processes import Process, until
from worker.ops.samples import sample

pytestmark = pytest.mark.server

HANDLERS = "tests.integration.canary_handlers"
TEAM = "acme"
BODIES = {"inbox", "quarantine"}
TEXTS = {"dead", "trouble"}
"""Where the errors' texts are kept for `--show-text`: the handlers' own words, which README says may be personal."""


def secret(name: str) -> str:
    return f"canary-secret-{name}"


def person(name: str) -> str:
    return f"canary-person-{name}"


SIGNING = secret("webhook")
OUTGOING = "whsec_" + base64.b64encode(secret("outgoing-key-of-24-bytes").encode()).decode()
ROLES = {"HANDOFF_LOG_LEVEL": "DEBUG", "HANDOFF_GAP_WAIT": "20ms", "HANDOFF_PARTITIONS": "2"}
SECRETS = {
    "HANDOFF_WEBHOOK_SECRET": f"{SIGNING},{secret('webhook-old')}",
    "HANDOFF_TEAM_SECRETS": f"{TEAM}={secret('team')}",
    "HANDOFF_INBOX_TOKEN": secret("inbox"),
    "HANDOFF_INBOX_URL": "http://127.0.0.1:1/api/v1",
    "HANDOFF_HUBSPOT_TOKEN": secret("hubspot"),
    "HANDOFF_HUBSPOT_URL": "http://127.0.0.1:1",
    "HANDOFF_NOTIFY_URLS": f"json://{secret('notify-user')}:{secret('notify')}@127.0.0.1:1/{secret('notify-path')}",
    "HANDOFF_WEBHOOK_OUT_URL": f"https://127.0.0.1:1/{secret('out-path')}?key={secret('out-query')}",
    "HANDOFF_WEBHOOK_OUT_SECRET": OUTGOING,
    "HANDOFF_WEBHOOK_OUT_HEADERS": f"authorization={secret('out-header')}",
    "HANDOFF_WEBHOOK_OUT_ALLOW_PRIVATE": "true",
    "HANDOFF_SQL_URL": f"sqlite:////nowhere/{secret('sql')}.db",
}
MARKS = [b"canary-secret-", b"canary-person-", OUTGOING.encode()[7:]]


@dataclass
class Found:
    """Everything that was written, by where."""

    places: dict[str, bytes] = field(default_factory=dict)

    def add(self, place: str, text: str | bytes) -> None:
        self.places[place] = self.places.get(place, b"") + (text.encode() if isinstance(text, str) else text)

    def leaks(self) -> list[str]:
        """Where a mark is, with what stands around it."""
        leaks = []
        for place, text in self.places.items():
            for mark in MARKS:
                at = text.find(mark)
                if at >= 0:
                    leaks.append(f"{place}: ...{text[max(0, at - 200) : at + 100].decode(errors='replace')}...")
        return leaks


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server on which every user's password is marked, and the broker's user has another one."""
    with servers.running("valkey", locked=True) as found, redis.Redis.from_url(found) as client:
        for role in access.ROLES:
            for word in (secret("redis"), secret("broker")):
                client.execute_command("ACL", "SETUSER", f"handoff-{role}", f">{word}")  # type: ignore[no-untyped-call]
        yield found


def environment(url: str, role: str) -> dict[str, str]:
    where = url.rpartition("@")[2]
    return (
        ROLES
        | SECRETS
        | {
            "HANDOFF_REDIS_URL": f"redis://handoff-{role}:{secret('redis')}@{where}",
            "HANDOFF_BROKER_URL": f"redis://handoff-{role}:{secret('broker')}@{where}",
        }
    )


def event(seq: int) -> bytes:
    """An assignee change with every field that is about a person marked."""
    document: dict[str, Any] = sample("prospect.assigneeChanged")
    document.update(id=f"evt-{seq}", seq=seq, teamId=TEAM)
    document["data"]["prospect"]["context"]["assigneeId"] = f"member{seq}"
    return json.dumps(_marked(document)).encode()


def _marked(value: Any, name: str = "") -> Any:
    personal = {"displayName", "username", "bio", "notes", "location", "profileUrl", "image", "websiteUrl", "content"}
    match value:
        case dict():
            return {key: _marked(each, key) for key, each in value.items()}
        case list():
            return [_marked(each, name) for each in value]
    return person(name) if name in personal else value


def shown(process: Process) -> Iterator[tuple[str, bytes]]:
    """What others on the machine see of a process and its children: their titles."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == os.getpgid(process.pid):
                yield path.name, (path / "cmdline").read_bytes() + (path / "comm").read_bytes()
        except OSError:
            continue


def test_no_secret_and_no_personal_data_is_written_anywhere(url: str, tmp_path: Path) -> None:
    found = Found()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    celery = processes.python("celery", "-A", "worker", "worker", "-c", "2", "--loglevel", "DEBUG")
    own = {"TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2]), "HANDOFF_HANDLERS": HANDLERS}
    settings = {name.removeprefix("HANDOFF_"): value for name, value in environment(url, "ingress").items()}
    with (
        ingress(environment(url, "ingress")["HANDOFF_REDIS_URL"], "handoff", **settings) as door,
        processes.running(celery, environment(url, "worker") | own, tmp_path) as worker,
        redis.Redis.from_url(url) as client,
    ):
        path = f"/webhooks/inbox/{TEAM}"
        for body in (event(1), event(2), event(2), event(5), person("no json").encode()):
            headers = {HEADER: sign(body, secret("team").encode(), int(client.time()[0]))}
            assert door.http.post(path, content=body, headers=headers).status_code == 202
        for wrong in ({}, {HEADER: "t=1,v1=0"}, {HEADER: sign(event(1), b"not the secret", 1)}):
            for to in (path, "/webhooks/inbox", "/nowhere"):
                answer = door.http.post(to, content=event(1), headers=wrong)
                found.add("an answer", answer.content + str(answer.headers).encode())
        status = environment(url, "operator")

        def dead() -> int:
            return len(run("dead", "list", "--json", folder=tmp_path, **status).json["dead"])

        until(lambda: dead() >= 3 * 5 or not worker.running, "the handlers have failed", 90, pause=0.5)
        client.client_kill_filter(_type="normal", skipme=True)
        client.execute_command("CONFIG", "SET", "min-replicas-to-write", "1")  # type: ignore[no-untyped-call]
        worker.wait_for_output("NOREPLICAS", 60)
        client.execute_command("CONFIG", "SET", "min-replicas-to-write", "0")  # type: ignore[no-untyped-call]
        for process in (door.process, worker):
            for pid, title in shown(process):
                found.add(f"the title of {pid}", title)
        for page in ("/metrics", "/readyz", "/healthz"):
            found.add(page, door.http.get(page).content)
        commands(url, tmp_path, found)
        assert worker.stop(60) == 0, worker.output[-3000:]
        stored(client, found)
    found.add("the ingress", door.process.output)
    found.add("the worker", worker.output)
    assert b"attempt_failed" in found.places["the worker"]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            found.add(str(file.relative_to(tmp_path)), file.read_bytes())
    assert found.leaks() == []


def commands(url: str, folder: Path, found: Found) -> None:
    """Every command, as it should be, with a wrong password, and with nobody there."""
    there = environment(url, "operator")
    where = url.rpartition("@")[2]
    wrong = there | {"HANDOFF_REDIS_URL": f"redis://handoff-operator:{secret('wrong')}@{where}"}
    nobody = there | {"HANDOFF_REDIS_URL": f"redis://handoff-operator:{secret('nobody')}@127.0.0.1:1/0"}
    unreadable = [
        there | {"HANDOFF_REDIS_URL": bad}
        for bad in (
            f"redis://u:{secret('slash')}/x@{where}",
            f"{secret('scheme')}://u:p@{where}",
            f"redis://u:{secret('base')}@127.0.0.1:1/{secret('path')}",
            f"rediss://u:{secret('tls')}@127.0.0.1:1/0?ssl_ca_certs=/{secret('file')}",
        )
    ]
    (letter, *_) = run("dead", "list", "--json", folder=folder, **there).json["dead"]
    more = (["doctor"], ["explain", "evt-1"], ["dead", "show", letter["id"]], ["replay", "--list"], ["settings"])
    for command in (*READING, *more, ["send", "--sample"]):
        for place in (there, wrong, nobody, *unreadable):
            if command in (["status"], ["doctor"], ["send", "--sample"]) or place is there:
                ran = run(*command, folder=folder, **place)
                found.add(f"handoff {' '.join(command)}", ran.out + ran.err)
                assert "Traceback" not in ran.err, ran.err


def stored(client: redis.Redis, found: Found) -> None:
    """What the server keeps, but for bodies and for the texts of errors, which only hold no secrets."""
    for key in client.scan_iter(count=1000):
        name = key.decode(errors="replace")
        kind = name.split(":")[2] if name.startswith("handoff:{p") else ""
        found.add(f"a key's name {name}", key)
        if kind not in BODIES | TEXTS:
            found.add(f"key {name}", client.dump(key) or b"")
        elif kind in TEXTS or kind in BODIES:
            text = client.dump(key) or b""
            found.add(f"key {name}", text.replace(b"canary-person-", b""))
