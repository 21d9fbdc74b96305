"""The front door: verifies Inbox's webhooks and stores them. ``python -m ingress`` runs it; see ``ingress.serve``."""

from worker import lean as lean  # before anything imports structlog
