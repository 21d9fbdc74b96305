"""`handoff dev`: the state server, the ingress and a worker as real processes in one terminal, and a first story told.

    checks ──▶ server up ──▶ ingress, worker started ──▶ ingress ready ──▶ story posted ──▶ changes seen ──▶ up
       └ one line, nothing started   └── a child ends, or a signal: everything is stopped, in reverse order

"Changes seen" is what tells that the worker works: the built-in ``log`` handler has printed every change of the story.
Where none is told, handlers being other people's, the worker's own "ready" has to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import click
import httpx

from worker.core.liveness import EXIT_DEAF
from worker.errors import ConfigurationError
from worker.ops import embedded, posting, samples
from worker.ops.dev_folder import DevFolder
from worker.ops.dev_output import Output, welcome
from worker.ops.supervisor import Ended, Supervisor
from worker.settings import Settings, load_settings

DEFAULT_HANDLERS: Final = ["worker.handlers.log"]
_KINDS: Final = {"assigned", "reassigned", "unassigned"}
_READY_LOGGER: Final = "celery.apps.worker"
GRACE: Final = 2.0  # seconds for calls to end, and with 3 more for all else below the supervisor's patience
_POLL: Final = 0.05  # seconds
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """``once``: stop when the story is through. ``tell``: post it at all. ``deadline``: seconds for all of it."""

    once: bool
    tell: bool
    deadline: float


class NotWorking(Exception):
    """Something that was started does not work; the text is one line."""


def run(options: Options) -> int:
    """Run until a signal comes, or with ``once`` until the story is through. Returns the exit code.

    Raises ``HandoffError`` for what is wrong before anything is started, and ``NotWorking`` for what fails after.
    """
    settings = load_settings()
    folder = DevFolder()
    own_server = "redis_url" not in settings.model_fields_set
    with folder.held():
        settings = _completed(settings, folder, own_server=own_server)
        with asyncio.Runner() as runner:
            return runner.run(_Dev(settings, options, folder, own_server=own_server).run())


def _completed(settings: Settings, folder: DevFolder, *, own_server: bool) -> Settings:
    """The settings that the children get: with the embedded server, a secret and a port that is free."""
    host, port = settings.host_and_port
    changes: dict[str, object] = {}
    try:
        if port == 0:
            changes["bind"] = f"{f'[{host}]' if ':' in host else host}:{embedded.free_port(host)}"
        elif not embedded.is_free(host, port):
            other = settings.bind.removesuffix(str(port)) + str(port + 1)
            raise ConfigurationError(
                "HANDOFF_BIND", f"{settings.bind} is in use by another program", f"stop it, or set HANDOFF_BIND={other}"
            )
    except OSError as error:
        raise ConfigurationError(
            "HANDOFF_BIND", f"can't listen at {settings.bind}: {error.strerror}", "for instance 127.0.0.1:8000"
        ) from None
    if own_server:
        changes["redis_url"] = f"redis://{embedded.HOST}:{embedded.port_for(folder.valkey)}/0"
    if not settings.webhook_secret:
        changes["webhook_secret"] = [folder.secret()]
    return Settings.model_validate(changes)  # which reads the environment for the rest


class _Dev:
    def __init__(self, settings: Settings, options: Options, folder: DevFolder, *, own_server: bool) -> None:
        self._settings = settings
        self._options = options
        self._folder = folder
        self._own_server = own_server
        self._made_secret = not load_settings().webhook_secret
        self._output = Output(raw=settings.log_format == "json")
        self._story = samples.story()
        self._seen: set[int] = set()
        self._all_seen = asyncio.Event()
        self._worker_ready = asyncio.Event()

    async def run(self) -> int:
        async with Supervisor(self._on_line) as supervisor:
            with _signals(supervisor, self._output) as stopped:
                going = asyncio.create_task(self._go(supervisor))
                first: set[asyncio.Future[Any]] = {going, stopped, supervisor.ended}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                try:
                    if stopped.done():
                        return 128 + stopped.result() if self._options.once else 0
                    if supervisor.ended.done():
                        raise NotWorking(self._why(supervisor.ended.result()))
                    return going.result()
                finally:
                    going.cancel()
                    await asyncio.wait({going})
                    await supervisor.stop("ingress", "worker")
                    await supervisor.stop()

    async def _go(self, supervisor: Supervisor) -> int:
        try:
            async with asyncio.timeout(self._options.deadline) as limit:
                await self._start(supervisor)
                if self._options.tell:
                    await self._tell()
                else:
                    await self._worker_ready.wait()
                limit.reschedule(None)
        except TimeoutError:
            missing = "the worker is not ready"
            if self._options.tell:
                missing = f"{len(self._seen)} of {self._story.changes} changes reached the log handler"
            raise NotWorking(f"not up after {self._options.deadline:.0f} s: {missing}") from None
        self._output.say(
            welcome(
                posting.local_url(self._settings),
                told=self._options.tell,
                own_server=self._own_server,
                made_secret=self._made_secret,
            )
        )
        if not self._options.once:
            await asyncio.Future()
        return 0

    async def _start(self, supervisor: Supervisor) -> None:
        told = self._told_settings()
        env = os.environ | told | {"PYTHONUNBUFFERED": "1"}
        if self._own_server:
            port = int(self._settings.redis_url.rpartition(":")[2].removesuffix("/0"))
            await supervisor.start("valkey", embedded.command(self._folder.valkey, port), env)
            await embedded.ready(port)
        self._folder.write_env(told)
        # JSON and INFO whatever is set: this process reads along, and renders what it shows.
        level = "DEBUG" if self._settings.log_level.upper() == "DEBUG" else "INFO"
        # Nothing is in front of this ingress, and whoever presses Ctrl-C waits.
        env |= {"HANDOFF_DRAIN": "0", "HANDOFF_GRACE": f"{GRACE:g}"}
        env |= {"HANDOFF_LOG_FORMAT": "json", "HANDOFF_LOG_LEVEL": level, "PYTHONWARNINGS": _warnings()}
        await supervisor.start("ingress", [sys.executable, "-m", "ingress"], env)
        await supervisor.start("worker", _worker_command(), env, again={EXIT_DEAF})
        await self._ingress_ready()

    def _why(self, ended: Ended) -> str:
        said = ended.last_line or (embedded.last_words(self._folder.valkey) if ended.name == "valkey" else "")
        return str(replace(ended, last_line=said))

    def _told_settings(self) -> dict[str, str]:
        """The settings that make other processes agree with this one."""
        told = {
            "HANDOFF_REDIS_URL": self._settings.redis_url,
            "HANDOFF_BIND": self._settings.bind,
            "HANDOFF_WEBHOOK_SECRET": ",".join(key.get_secret_value() for key in self._settings.webhook_secret),
            "HANDOFF_PREFIX": self._settings.prefix,
        }
        return told | ({"HANDOFF_BROKER_URL": self._settings.broker_url} if self._settings.broker_url else {})

    async def _ingress_ready(self) -> None:
        url = posting.local_url(self._settings) + "/readyz"
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(url)).is_success:
                        return
                await asyncio.sleep(_POLL)

    async def _tell(self) -> None:
        self._output.say("Posting five sample events, signed, as the provider would.")
        to = posting.target(self._settings)
        answers = await posting.post_all([delivery.body for delivery in self._story.deliveries], to, concurrency=1)
        refused = [answer for answer in answers if not answer.accepted]
        if refused:
            raise NotWorking(f"the ingress answered {refused[0].status} {refused[0].code or ''} to a sample".rstrip())
        await self._all_seen.wait()

    def _on_line(self, name: str, text: str) -> None:
        fields = self._output.line(name, text)
        if fields is not None and fields.get("logger") == _READY_LOGGER and fields["event"].endswith(" ready."):
            self._worker_ready.set()
        if fields is not None and name == "worker" and self._is_change(fields):
            self._seen.add(fields["seq"])
            if len(self._seen) == self._story.changes:
                self._all_seen.set()

    def _is_change(self, fields: dict[str, Any]) -> bool:
        return fields.get("team_id") == self._story.team and fields.get("kind") in _KINDS and "seq" in fields


def _worker_command() -> list[str]:
    options = ["-c", "2", "--loglevel", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [sys.executable, "-m", "celery", "-A", "worker", "--quiet", "worker", *options]


def _warnings() -> str:
    """Celery warns root of pickled messages at every start; here nothing but JSON is accepted, and it's a trial."""
    quiet = "ignore:You're running the worker with superuser privileges"
    return ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quiet)))


@contextlib.contextmanager
def _signals(supervisor: Supervisor, output: Output) -> Iterator[asyncio.Future[int]]:
    """The first signal that asks to stop sets the future; a second one kills the children at once."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def ask(number: int) -> None:
        if stopped.done():
            supervisor.kill()
            return
        stopped.set_result(number)
        with contextlib.suppress(OSError):
            click.echo()
            output.say("Stopping.")

    for number in _SIGNALS:
        loop.add_signal_handler(number, ask, number)
    try:
        yield stopped
    finally:
        stopped.cancel()
