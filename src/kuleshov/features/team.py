"""Processes, on one machine or several, that fill one store without talking: each holds locks in its folder.

A lock ends with the process that holds it, however that ends: what a dead one had begun is free for others.
"""

import hashlib
import os
import random
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kuleshov.core.errors import StoreError
from kuleshov.core.files import make_folder, write_atomic
from kuleshov.video.video_file import Video

LOCK, WORKERS = ".lock", ".workers"
_REQUEST = "request"
POLL_SECONDS = 0.5


class Team:
    """A member of those that work on a store.

    Args:
        folder: the store.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._store = Path(folder) / WORKERS, Path(folder)
        self._presence = FileLock(self.folder / f"{uuid.uuid4().hex}.member", thread_local=False)
        self._claims: dict[str, FileLock] = {}

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Own the store for a moment, after other members.

        Raises:
            StoreError: a process that is no member is writing it.
        """
        make_folder(self._store)
        lock = FileLock(self._store / LOCK)
        while True:
            try:
                lock.acquire(timeout=POLL_SECONDS)
                break
            except Timeout as error:
                if not self.others():
                    raise StoreError(
                        f"{self._store} is being written by a process without --join: wait until it is done"
                    ) from error
        try:
            yield
        finally:
            lock.release()

    def others(self) -> bool:
        """Whether another member is alive."""
        return any(path != Path(self._presence.lock_file) and not _free(path) for path in self.folder.glob("*.member"))

    def enter(self, request: str) -> bool:
        """Become a member, owning the store; True for the first one.

        Raises:
            StoreError: other members work on another request.
        """
        first, path = not self.others(), self.folder / _REQUEST
        if first:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_atomic(path, request)
        elif not path.is_file() or path.read_text(encoding="utf-8") != request:
            raise StoreError(f"{self._store} is being written for other videos: give the same ones, or wait")
        self._presence.acquire(timeout=0)
        return first

    def leave(self) -> None:
        """Be no member any longer; whatever is claimed is free."""
        for movie_id in list(self._claims):
            self.release(movie_id)
        self._presence.release()
        Path(self._presence.lock_file).unlink(missing_ok=True)
        with suppress(OSError):
            # others may be there
            self.folder.rmdir()

    def dissolve(self) -> None:
        """Forget the request and the dead, owning the store: it is done."""
        dead = (path for path in self.folder.glob("*.member") if _free(path))
        for path in (self.folder / _REQUEST, *self.folder.glob("*.claim"), *dead):
            path.unlink(missing_ok=True)

    def claim(self, waiting: Sequence[Video], is_done: Callable[[str], bool]) -> Iterator[Video]:
        """Go once through the videos, from any of them on: those that no other member has, and that are not done."""
        begin = random.Random(os.urandom(8)).randrange(len(waiting)) if waiting else 0
        for video in [*waiting[begin:], *waiting[:begin]]:
            lock = FileLock(self.folder / f"{file_stem(video.id)}.claim", thread_local=False)
            with suppress(Timeout):
                lock.acquire(timeout=0)
                if is_done(video.id):
                    lock.release()
                else:
                    self._claims[video.id] = lock
                    yield video

    def release(self, movie_id: str) -> None:
        """Let others see that a video is done, or have it."""
        lock = self._claims.pop(movie_id)
        lock.release()
        # who holds this file's lock by now finds the video done
        Path(lock.lock_file).unlink(missing_ok=True)


def file_stem(movie_id: str) -> str:
    """A movie's name among files, whatever its id."""
    return hashlib.sha256(movie_id.encode("utf-8")).hexdigest()[:24]


def _free(path: Path) -> bool:
    try:
        with FileLock(path, thread_local=False).acquire(timeout=0):
            return True
    except Timeout:
        return False
