"""Videos within tar shards: named by shard and place, and read whole by one request, from whatever fsspec opens."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kuleshov.core.errors import VideoError, message

_MEMBER = re.compile(r"(.+\.tar)/@(\d+)\+(\d+)/[^/]+")
# the loaders ask for a video's length, its packets and its frames, one after the other
_REMEMBERED = 2


@dataclass(frozen=True)
class ShardMember:
    """A part of a shard, by its `path`: the shard's own path or URL, and the bytes [offset, offset + size) of it."""

    path: str
    shard: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes, fetched alone.

        Raises:
            VideoError: the shard cannot be reached, or ends before.
        """
        return _fetch(self)


def member_path(shard: str, offset: int, size: int, name: str) -> Path:
    """What a member is called wherever a video's path is expected: `SHARD.tar/@OFFSET+SIZE/NAME`."""
    return Path(f"{shard}/@{offset}+{size}/{name}")


def shard_member(path: str | Path) -> ShardMember | None:
    """The member that a path names, None for a file of its own."""
    found = _MEMBER.fullmatch(str(path))
    return ShardMember(str(path), as_url(found[1]), int(found[2]), int(found[3])) if found else None


def as_url(path: str | Path) -> str:
    """A path as text; a URL's two slashes, of which paths keep one, are put back."""
    return re.sub(r"^([a-z][a-z0-9+.-]+):/+", r"\1://", str(path))


@lru_cache(maxsize=_REMEMBERED)
def _fetch(member: ShardMember) -> bytes:
    import fsspec

    try:
        system, place = fsspec.core.url_to_fs(member.shard)
        found = system.cat_file(place, start=member.offset, end=member.offset + member.size)
    except Exception as error:  # each file system has errors of its own
        raise VideoError(member.path, f"its shard cannot be read ({message(error)[:120]})") from error
    if len(found) < member.size:
        raise VideoError(member.path, f"its shard ends before byte {member.offset + member.size}: index it again")
    return found
