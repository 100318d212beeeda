"""The one exception that means "the user can mend this": every command turns it into exit status 2."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input from a user.

    The message is one clear sentence that states the rule, the value and the place (file, line or key), for example
    ``choice 'fpn.3.x1' has 6 options, got token 7``.
    """
