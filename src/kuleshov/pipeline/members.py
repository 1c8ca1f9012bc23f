"""Several processes that run the same stages: rank 0 plans and works, the others join its trainings when told."""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, message
from kuleshov.core.processes import Launch
from kuleshov.pipeline.jobs import POLL_SECONDS, start, threads_of

CONNECT_SECONDS = 300
LEAVE_SECONDS = 30


class Leader:
    """Rank 0's side: what it tells reaches every other rank, in order, over the launcher's store or one of its own."""

    def __init__(self, launch: Launch) -> None:
        self.launch, self._told = launch, 0
        self._store: Any = _store(launch) if launch.members > 1 else None

    def invite(self, words: Sequence[str], folder: Path) -> dict[str, str]:
        """Let the other ranks start a training too; the environment of rank 0's own process of it."""
        if self._store is None:
            return self.launch.environment()
        port = _free_port()
        self._tell({"words": list(words), "folder": str(folder), "port": port})
        return self.launch.environment(port)

    @contextmanager
    def session(self) -> Iterator["Leader"]:
        """Let the other ranks go at the end, and say whether it failed."""
        failed = True
        try:
            yield self
            failed = False
        finally:
            if self._store is not None:
                self._tell({"failed": failed})
                self._wait_for_all(5 if failed else LEAVE_SECONDS)

    def _tell(self, value: dict[str, Any]) -> None:
        self._store.set(f"kuleshov/{self._told}", json.dumps(value))
        self._told += 1

    def _wait_for_all(self, seconds: int) -> None:
        """Keep the store until everyone has read the end of it."""
        from torch.distributed import DistError

        left = [f"kuleshov/left/{rank}" for rank in range(1, self.launch.members)]
        try:
            self._store.wait(left, timedelta(seconds=seconds))
        except DistError:
            return  # a rank has gone before


def follow(launch: Launch) -> None:
    """On another rank than 0: join the trainings that rank 0 starts until it lets this one go.

    Raises:
        KuleshovError: a training failed here, or rank 0 did or has gone.
    """
    store, number = _store(launch), 0
    while True:
        told = _next(store, f"kuleshov/{number}", launch)
        number += 1
        if "failed" in told:
            store.set(f"kuleshov/left/{launch.rank}", "")
            if told["failed"]:
                raise KuleshovError(f"rank {launch.rank} stops: rank 0 failed, and says why")
            return
        log = Path(told["folder"]) / f"log-rank{launch.rank}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = threads_of(launch.devices or 1)
        running = start(told["words"], log, threads, launch.environment(told["port"]))
        try:
            while running.code is None:
                time.sleep(POLL_SECONDS)
        finally:
            running.kill()
        if running.code:
            raise running.failure(f"the training on rank {launch.rank}")


def _next(store: Any, key: str, launch: Launch) -> dict[str, Any]:
    from torch.distributed import DistError, DistStoreError

    while True:
        try:
            # short waits, as none can be interrupted
            store.wait([key], timedelta(seconds=1))
            return json.loads(store.get(key))
        except DistStoreError:
            continue
        except DistError as error:
            raise KuleshovError(f"rank {launch.rank} stops: rank 0 has gone ({message(error)[:80]})") from error


def _store(launch: Launch) -> Any:
    from torch.distributed import DistError, TCPStore

    # torchrun's agent keeps one
    own = launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    wait = timedelta(seconds=CONNECT_SECONDS)
    try:
        return TCPStore(launch.address, launch.port, None, own, wait, wait_for_workers=False)
    except (DistError, ValueError) as error:
        place = f"{launch.address}:{launch.port}"
        raise KuleshovError(
            f"rank {launch.rank} cannot meet the others at {place} ({message(error)[:120]}): set MASTER_ADDR and "
            "MASTER_PORT to a free port of the first node"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
