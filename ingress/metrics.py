"""The ingress's metrics: every one of them is defined here, with the sentence that documents it.

They live in a registry of their own, so that nothing else in the process adds to ``/metrics``. Labels have few values,
all of them ours: never a team, an id or anything else that a sender chooses.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)


class Metrics:
    """One process's metrics. Counters are added to once a batch where a request would otherwise pay for them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.deliveries = Counter(
            "handoff_ingress_deliveries",
            "Requests to the webhook by what became of them: accepted (stored in Redis, answered 202), the signature's "
            "verdict where it was refused (missing, malformed, forged, stale, future, team_secret_required), or the "
            "error code of any other answer. backlog_full, backlog_bytes_full, memory_full, store_unavailable and "
            "overloaded come back later.",
            ["outcome"],
            registry=registry,
        )
        self.bytes = Counter("handoff_ingress_bytes", "Bytes of the bodies that were accepted.", registry=registry)
        self.batch_size = Histogram(
            "handoff_ingress_commit_deliveries",
            "Deliveries that shared one round trip to Redis.",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "handoff_ingress_commit_seconds",
            "Time from sending a batch to Redis to its last reply, failures included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.bells = Counter(
            "handoff_ingress_bells",
            "Doorbells to the sequencers: rung, or failed for want of a broker. Failing is harmless: they are "
            "rung again, and the sweeper looks anyway.",
            ["outcome"],
            registry=registry,
        )
        self.cut = Counter(
            "handoff_ingress_connections_cut",
            "Connections that were idle or slow, and cut because too many were open to leave room for deliveries.",
            registry=registry,
        )
        self.in_flight = Gauge("handoff_ingress_in_flight", "Requests being answered now.", registry=registry)
        self.backlog = Gauge(
            "handoff_ingress_backlog",
            "Accepted deliveries that wait (unread, held or in lanes), as last counted plus those accepted since.",
            registry=registry,
        )
        self.backlog_bytes = Gauge(
            "handoff_ingress_backlog_bytes", "The same in bytes, as the server keeps them.", registry=registry
        )
        self.memory = Gauge(
            "handoff_ingress_server_memory_bytes",
            "The state server's memory that counts against its maxmemory, as last seen.",
            registry=registry,
        )
        self.memory_limit = Gauge(
            "handoff_ingress_server_memory_limit_bytes",
            "At so much of it deliveries are answered 503 (HANDOFF_MAX_MEMORY of maxmemory); 0: never.",
            registry=registry,
        )
        self.closed = Gauge(
            "handoff_ingress_closed",
            "1 while every delivery is answered 503 for this reason, else 0: a bound is reached.",
            ["reason"],
            registry=registry,
        )
        self.workers = Gauge(
            "handoff_ingress_workers",
            "Workers of the last minute by what they get done: live; deaf (hearing nothing, and leaving); silent (no "
            "heartbeat: killed, stopped or hanging). Not a number while the state server can't be asked.",
            ["state"],
            registry=registry,
        )
        self.ready = Gauge("handoff_ingress_ready", "1 while /readyz answers 200, else 0.", registry=registry)
        self.accepted = self.deliveries.labels("accepted")
        self.rung = self.bells.labels("rung")
        self.ring_failed = self.bells.labels("failed")

    def render(self) -> bytes:
        """The text that Prometheus reads, in ``CONTENT_TYPE``."""
        return generate_latest(self.registry)
