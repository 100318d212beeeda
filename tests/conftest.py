"""Before torch is loaded: threads that wait soon sleep (see `nas`)."""

import nas  # noqa: F401
