"""``handoff send`` against a small server of the test's own that checks signatures with the ingress's code."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingress import signature
from worker.ops.cli import main
from worker.settings import load_settings

SECRET = "ibt_wh_test_secret"


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default of five, connections that come together wait for seconds


class Receiver:
    """Answers with ``statuses`` in turn, then 202; keeps what was posted as (path, body, signed with SECRET)."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.posts: list[tuple[str, bytes, bool]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.posts.append((self.path, body, signed(self.headers[signature.HEADER], body)))
                status = receiver.statuses.pop(0) if receiver.statuses else 202
                answer = b"" if status == 202 else json.dumps({"error": {"code": "busy", "message": ""}}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))


def signed(header: str, body: bytes) -> bool:
    timestamp = int(header.partition(",")[0].removeprefix("t="))
    return abs(timestamp - time.time()) < 300 and header == signature.sign(body, SECRET.encode(), timestamp)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.thread.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDOFF_BIND", f"127.0.0.1:{receiver.port}")
    monkeypatch.setenv("HANDOFF_WEBHOOK_SECRET", SECRET)
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    receiver.thread.join()


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    load_settings.cache_clear()
    return CliRunner().invoke(main, ["send", *arguments], input=stdin)


def test_a_file_arrives_byte_for_byte_and_signed(receiver: Receiver, tmp_path: Path) -> None:
    raw = b'{ "id": "a",\n  "seq": 1 }\n'
    (tmp_path / "event.json").write_bytes(raw)
    result = run("event.json")
    assert result.exit_code == 0, result.output
    assert receiver.posts == [("/webhooks/inbox", raw, True)]
    assert result.output == "202 accepted  event.json\n"


def test_standard_input_and_a_teams_own_url(receiver: Receiver) -> None:
    assert run("-", "--team", "t/1", stdin=b'{"id":"a"}\n{"id":"b"}').exit_code == 0
    assert sorted(receiver.posts) == [
        ("/webhooks/inbox/t%2F1", b'{"id":"a"}', True),
        ("/webhooks/inbox/t%2F1", b'{"id":"b"}', True),
    ]


def test_a_503_is_tried_again_and_a_refusal_is_not(receiver: Receiver) -> None:
    receiver.statuses = [503, 503]
    assert "(attempt 3)" in run("-", stdin=b'{"id":"a"}').output
    receiver.statuses = [413]
    receiver.posts.clear()
    result = run("-", stdin=b'{"id":"a"}')
    assert (result.exit_code, result.output) == (1, "413 busy  standard input\n")
    assert len(receiver.posts) == 1


def test_a_503_that_lasts_ends_as_a_refusal(receiver: Receiver) -> None:
    receiver.statuses = [503] * 99
    result = run("-", "--json", stdin=b'{"id":"a"}')
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["answers"] == [{"status": 503, "code": "busy", "count": 1}]
    assert (answer["sent"], answer["accepted"], answer["retries"]) == (1, 0, 4)


def test_the_story_is_told_in_its_order(receiver: Receiver) -> None:
    result = run("--sample")
    assert result.exit_code == 0, result.output
    first = json.loads(receiver.posts[0][1])["seq"]
    assert [json.loads(body)["seq"] - first for _, body, _ in receiver.posts] == [0, 2, 1, 1, 3]
    assert len(result.output.splitlines()) == 5


def test_many_samples_end_in_a_table(receiver: Receiver) -> None:
    result = run("--sample", "--count", "40", "--teams", "3", "--duplicates", "0.5", "--shuffle", "4", "--seed", "1")
    assert result.exit_code == 0, result.output
    bodies = [body for _, body, _ in receiver.posts]
    assert len(set(bodies)) == 40
    assert len(bodies) > 40
    assert f"{len(bodies)} of {len(bodies)} accepted" in result.output


def test_the_secret_may_be_in_another_variable(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_WEBHOOK_SECRET", "some_other_secret")
    monkeypatch.setenv("MINE", f" {SECRET} ,older")
    assert run("-", "--secret-env", "MINE", stdin=b'{"id":"a"}').exit_code == 0
    assert receiver.posts[0][2]
    assert run("-", "--secret-env", "NOBODYS", stdin=b'{"id":"a"}').exit_code == 2


def test_a_team_with_secrets_of_its_own_is_signed_with_them(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_WEBHOOK_SECRET", "some_other_secret")
    monkeypatch.setenv("HANDOFF_TEAM_SECRETS", f"t1={SECRET}")
    assert run("-", "--team", "t1", stdin=b'{"id":"a"}').exit_code == 0
    assert receiver.posts[0][2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name at least one FILE"),
        (["-", "--sample"], "and not both"),
        (["--sample", "--shuffle", "3"], "go with --sample --count N"),
        (["--sample", "--team", "t"], "--team goes with files only"),
        (["-", "--count", "3"], "--count goes with --sample"),
        (["missing.json"], "missing.json: No such file"),
        (["--sample", "--url", "http://127.0.0.1:1"], "nothing answers at http://127.0.0.1:1/webhooks/inbox"),
        (["--sample", "--url", "ftp://127.0.0.1"], "--url: Request URL has an unsupported protocol"),
    ],
)
def test_wrong_usage_is_told_in_a_line_with_exit_code_2(receiver: Receiver, arguments: list[str], said: str) -> None:
    result = run(*arguments, stdin=b'{"id":"a"}')
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert receiver.posts == []


def test_without_a_secret_it_says_which_setting(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDOFF_WEBHOOK_SECRET")
    result = run("--sample")
    assert result.exit_code == 2
    assert result.output.startswith("Error: HANDOFF_WEBHOOK_SECRET: is not set")
