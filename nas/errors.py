"""How a search may end early: each message is one clear sentence for the user."""

__all__ = ["Interrupted", "SearchFailed"]


class SearchFailed(RuntimeError):
    """The search cannot go on for a reason that is not the user's input."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a search; the message says how to go on."""
