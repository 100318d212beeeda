"""Files that are there whole or not at all."""

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file in one step: a reader, or a process killed meanwhile, sees the old content or the new.

    Args:
        path: the file's path.
        content: bytes, or text, which is written in UTF-8.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name too outlives a power cut
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
