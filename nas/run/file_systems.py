"""Which file system a path lies on, as far as it decides how a run may be locked and written."""

import re
from pathlib import Path

__all__ = ["network_file_system"]

# Several machines may have these mounted at once, so that memory mapped by one is not what another sees.
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "panfs", "orangefs")
_ESCAPED = re.compile(r"\\(040|011|012|134)")  # how the kernel writes blank, tab, newline and backslash
_NETWORK_FUSE = ("sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph", "juicefs")


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The type of the network file system that ``path`` lies on, ``"nfs4"``; None on a local one or where unknown.

    Args:
        path: need not exist.
        mounts: the kernel's list: a line for each mount with device, place and type; the last of a place counts.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux: SQLite's own answer is all there is
        return None
    here, best, found = path.absolute().resolve(), -1, ""
    for _, place, kind, *_ in (line.split() for line in lines):
        root = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), place))
        if here.is_relative_to(root) and len(root.parts) >= best:
            best, found = len(root.parts), kind
    fuse = found.startswith("fuse.") and found.removeprefix("fuse.").startswith(_NETWORK_FUSE)
    return found if fuse or found.startswith(_NETWORK) else None
