"""One writer for each run folder and file: a lock that ends with the process that holds it.

The lock is a file of its own beside what it guards (``.NAME.lock``), locked by the operating system, so that
it ends with its process however that dies, and holds on network drives that pass locks on. Where a file
system has no locks, the lock file itself is the lock: it names machine and process, and is taken over when
that process is gone, or when it was not renewed for a minute.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from striate.core.atomic import unwritable
from striate.core.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_RENEW_S: Final = 15.0
_STALE_S: Final = 60.0
_TRIES, _TRY_S = 20, 0.02
_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK})

_held: set[str] = set()
_held_lock = threading.Lock()


@contextmanager
def sole_writer(path: Path, what: str = "written") -> Iterator[None]:
    """Hold the right to write a file or folder for the length of the block.

    Args:
        path: the file or folder; it need not be there yet.
        what: what the holder does to it, for the message of others.

    Raises:
        UsageError: another process (or another thread of this one) holds it.
        WriteError: the lock can't be made.
    """
    lock = path.with_name(f".{path.name}.lock")
    key = os.path.realpath(lock)
    with _held_lock:
        if key in _held:
            raise _taken(path, what, "this process")
        _held.add(key)
    above = lock.parent
    made = not above.exists()
    try:
        with _of_system(lock, path, what) if fcntl is not None else _of_file(lock, path, what):
            yield
    finally:
        if made:  # for the lock, and still empty where nothing was written
            with suppress(OSError):
                above.rmdir()
        with _held_lock:
            _held.discard(key)


@contextmanager
def _of_system(lock: Path, path: Path, what: str) -> Iterator[None]:
    while True:
        file = _open(lock, path)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read(file)
            file.close()
            if error.errno in _BUSY:
                raise _taken(path, what, _name(holder)) from None
            if not holder:  # made a moment ago, here or by one who finds no locks either
                with suppress(OSError):
                    lock.unlink()
            with _of_file(lock, path, what):  # a file system without locks
                yield
            return
        if _is_still(file, lock):
            break
        file.close()  # its last holder removed it between opening and locking
    try:
        _write(file)
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        file.close()


@contextmanager
def _of_file(lock: Path, path: Path, what: str) -> Iterator[None]:
    """Lock by the file's being there, renewed as long as the block lasts."""
    for _ in range(_TRIES):
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            break
        except FileExistsError:
            with suppress(FileNotFoundError), open(lock, "rb") as other:
                holder = _read(other)
                if holder and not _is_gone(holder, lock):
                    raise _taken(path, what, _name(holder)) from None
                if not holder and not _is_stale(lock):  # its maker has not written yet
                    time.sleep(_TRY_S)
                    continue
            with suppress(FileNotFoundError):
                lock.unlink()
        except OSError as error:
            raise unwritable(path, error) from None
    else:
        raise _taken(path, what, "another process")
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            with suppress(OSError):
                os.utime(lock)

    with os.fdopen(descriptor, "r+b") as file:
        _write(file)
        keeper = threading.Thread(target=renew, name="striate-lock", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()
            with suppress(OSError):
                lock.unlink()


def _open(lock: Path, path: Path) -> IO[bytes]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR), "r+b")
    except OSError as error:
        raise unwritable(path, error) from None


def _is_still(file: IO[bytes], lock: Path) -> bool:
    try:
        there = os.stat(lock)
    except OSError:
        return False
    own = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _write(file: IO[bytes]) -> None:
    holder = {"machine": socket.gethostname(), "process": os.getpid()}
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(json.dumps(holder).encode())
        file.flush()


def _read(file: IO[bytes]) -> dict[str, Any]:
    try:
        file.seek(0)
        holder = json.loads(file.read(1000))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_gone(holder: dict[str, Any], lock: Path) -> bool:
    """Say whether the holder of a lock file no longer lives, or has not renewed it."""
    process = holder.get("process")
    if holder.get("machine") == socket.gethostname() and isinstance(process, int):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return process == os.getpid()
    return _is_stale(lock)


def _is_stale(lock: Path) -> bool:
    with suppress(OSError):
        return time.time() - lock.stat().st_mtime > _STALE_S
    return True


def _name(holder: dict[str, Any]) -> str:
    if not isinstance(holder.get("process"), int):
        return "another process"
    machine = str(holder.get("machine", ""))
    where = "" if machine == socket.gethostname() else f" on {machine if machine.isprintable() else '?'}"
    return f"process {holder['process']}{where}"


def _taken(path: Path, what: str, who: str) -> UsageError:
    return UsageError(f"{path} is being {what} by {who}: wait for it, or name another place")
