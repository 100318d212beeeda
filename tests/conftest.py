"""Before torch is loaded: threads that wait sleep (see `nas`)."""

import nas  # noqa: F401
