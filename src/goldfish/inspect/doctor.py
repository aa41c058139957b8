"""`goldfish doctor`: checks of the store, its surroundings and the installed packages, with a line on each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from goldfish.errors import ConfigError
from goldfish.sweep.progress import clock
from goldfish.tracking import sql

if TYPE_CHECKING:
    from goldfish.sweep.claims import Claim
    from goldfish.tracking.store import Store

LITTLE, TOO_LITTLE = 2 * 2**30, 2**27  # bytes free: warn, bad
OLD = 3600.0  # seconds after which a temporary file belongs to nobody any more
SHOWN = ("torch", "pytorch-lightning", "hydra-core", "mlflow")
_PATIENCE = 2.0  # seconds to wait for a lock
_DRIVER = Path("/proc/driver/nvidia/version")


class Line(NamedTuple):
    """The result of a check: its subject, its level (ok, warn or bad), and a text."""

    grade: str
    subject: str
    words: str

    def __str__(self) -> str:
        return f"{self.grade:<5}{self.subject:<10} {self.words}"


def doctor(*, move: bool = False, release: str | None = None, torch: bool = False) -> Iterator[Line]:
    """Look at everything.

    Args:
        move: correct artifact paths that point to where the project's folder once was.
        release: give up the claims of this host's dead processes, and all claims of the host of this name.
        torch: import torch and ask it, not only its version file.
    """
    from goldfish.tracking.store import Store

    store = Store()
    yield from _guarded("store", lambda: [_store(store)])
    yield from _guarded("locks", lambda: [_locks(store), *_claims(store, release)])
    yield from _guarded("disk", lambda: [_disk(store)])
    yield from _guarded("GPU", lambda: [_asked() if torch else _gpu()])
    yield from _guarded("versions", lambda: [_versions()])
    yield from _guarded("artifacts", lambda: [_artifacts(store, move=move)])
    yield from _guarded("leftovers", lambda: [_leftovers(store)])
    yield from _guarded("spool", lambda: [_spool(store)])


def _guarded(subject: str, look: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    """Turn an error in a check into a line of its own, so that the other checks still run."""
    try:
        yield from look()
    except (OSError, ConfigError, sqlite3.Error) as error:
        yield Line("bad", subject, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _store(store: Store) -> Line:
    from goldfish.tracking.client import without_password

    if store.path is None:
        store.exists()  # raises where a server does not answer
        return Line("ok", "store", f"{without_password(store.uri)} (no SQLite file: its schema is its own affair)")
    if not store.path.exists():
        return Line("ok", "store", f"none yet at {store.path}; the first sweep makes it")
    if not store.exists():
        return Line("bad", "store", f"{store.path}: SQLite, but without MLflow's tables")
    damage = sql.damage(store.path)
    if damage:
        return Line("bad", "store", f"{store.path}: integrity_check: {'; '.join(damage)}; restore a copy of it")
    version, known = sql.version(store.path), revisions()
    words = f"{store.path}: {len(sql.run_ids(store.path, active=True))} runs, schema {version}, integrity ok"
    if version not in known:
        return Line(
            "bad", "store", f"{words}; the installed MLflow does not know this schema: it is older than the store"
        )
    newest = known - set(_parents().values())
    return Line("ok", "store", words if version in newest else f"{words}; the next sweep brings its schema up to date")


def revisions() -> set[str]:
    """The schemas that the installed MLflow knows, read from its migrations without importing it."""
    return set(_parents())


def _parents() -> dict[str, str]:
    spec = importlib.util.find_spec("mlflow")
    place = Path(str(spec.origin)).parent / "store" / "db_migrations" / "versions" if spec else Path("/nowhere")
    parents = {}
    for path in place.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        own, parent = (re.search(rf"^{name}\b[^=]*= *['\"](\w+)", text, re.M) for name in ("revision", "down_revision"))
        if own:
            parents[own[1]] = parent[1] if parent else ""
    return parents


def _locks(store: Store) -> Line:
    """Take the lock that creating and migrating take, and give it back."""
    from filelock import FileLock, Timeout

    if store.path is None or not store.path.parent.is_dir():
        return Line("ok", "locks", "nothing to lock yet")
    lock = store.path.with_name(f"{store.path.name}.lock")
    there = lock.exists()
    try:
        with FileLock(lock, timeout=_PATIENCE):
            pass
    except Timeout:
        return Line("warn", "locks", f"{lock}: held by another process, which creates or migrates the store")
    if not there:
        lock.unlink(missing_ok=True)
    if store.path.exists() and (reason := sql.lock(store.path, _PATIENCE)):
        return Line("warn", "locks", f"{store.path}: {reason}")
    return Line("ok", "locks", f"{lock}: can be taken")


def _claims(store: Store, release: str | None) -> list[Line]:
    """The runs that are being trained, and the claims whose processes are gone."""
    from goldfish.sweep.claims import Claims

    claims = Claims(store.state / "claims")
    known = claims.all()
    dead = [claim for claim in known if not claims.alive(claim)]
    stale = dead if release is None else [*dead, *(c for c in known if c.host == release and c not in dead)]
    live = [claim for claim in known if claim not in stale]
    told = f"{len(live)} runs are being trained{_whose(live)}"
    if release is not None:
        claims.drop(stale)
        return [Line("ok", "claims", f"{told}; {len(stale)} released{_whose(stale)}")]
    if stale:
        words = f"{told}; {len(stale)} claims of dead processes{_whose(stale)}: the next sweep takes them, or --release"
        return [Line("warn", "claims", words)]
    return [Line("ok", "claims", told)]


def _whose(claims: Iterable[Claim]) -> str:
    owners = Counter((claim.host, claim.pid) for claim in claims)
    listed = ", ".join(f"{count} of process {pid} on {host}" for (host, pid), count in owners.items())
    return f" ({listed})" if listed else ""


def _disk(store: Store) -> Line:
    """Bytes free where the store, its checkpoints and temporary files lie."""
    places = {"store": store.path.parent if store.path else None, "checkpoints": store.state}
    places["temporary files"] = Path(tempfile.gettempdir())
    devices: dict[int, tuple[list[str], int]] = {}
    for name, place in places.items():
        if place is not None:
            there = next(folder for folder in (place, *place.parents) if folder.exists())
            free = shutil.disk_usage(there).free
            devices.setdefault(there.stat().st_dev, ([], free))[0].append(name)
    words = "; ".join(f"{' and '.join(names)}: {_bytes(free)} free" for names, free in devices.values())
    least = min(free for _, free in devices.values())
    return Line("bad" if least < TOO_LITTLE else "warn" if least < LITTLE else "ok", "disk", words)


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _gpu() -> Line:
    """Torch's build from its version file, and the driver from the kernel."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Line("bad", "GPU", "torch is not installed")
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    matches = {key: re.search(rf"^{key}\b[^=]*= *'([^']+)'", text, re.M) for key in ("__version__", "cuda", "hip")}
    version, cuda, hip = (match[1] if match else "" for match in matches.values())
    build = f"torch {version}, built for {f'CUDA {cuda}' if cuda else f'ROCm {hip}' if hip else 'CPU'}"
    lines = _DRIVER.read_text(encoding="utf-8", errors="replace").splitlines() if _DRIVER.is_file() else []
    driver = re.search(r"\s(\d+\.\d+[.\d]*)\s", lines[0]) if lines else None
    if lines and not cuda:
        return Line("warn", "GPU", f"{build}, but there is an NVIDIA driver: this torch does not use it")
    return Line("ok", "GPU", f"{build}; NVIDIA driver: {driver[1] if driver else 'there' if lines else 'none'}")


def _asked() -> Line:
    import torch

    build = f"torch {torch.__version__}"
    if not torch.cuda.is_available():
        return Line("warn" if _DRIVER.is_file() else "ok", "GPU", f"{build} sees no GPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Line("ok", "GPU", f"{build}, CUDA {torch.version.cuda}: {', '.join(names)}")


def _versions() -> Line:
    """The installed versions, compared with those that goldfish requires."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, importlib.metadata.requires("goldfish-rnn") or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = _installed(requirement.name)
            if version == "missing":
                wrong.append(f"{requirement.name} is not installed")
            elif not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name} {version}, required {requirement.specifier}")
    shown = ", ".join([f"Python {platform.python_version()}", *(f"{name} {_installed(name)}" for name in SHOWN)])
    return Line("bad" if wrong else "ok", "versions", "; ".join([shown, *wrong]))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _artifacts(store: Store, *, move: bool) -> Line:
    """Artifact paths are absolute: they point elsewhere once the project's folder was moved."""
    if store.path is None or store.artifacts is None or not store.exists():
        return Line("ok", "artifacts", "no SQLite store: nothing to correct")
    moved = sql.moved(store.path, store.artifacts)
    if not moved:
        return Line("ok", "artifacts", f"all below {store.artifacts}, or somewhere that is there")
    roots = ", ".join(sorted(moved))
    if not move:
        count = moved.total()
        return Line("bad", "artifacts", f"{count} paths lead to {roots}, which is not where they lie now; --relocate")
    backup = store.path.with_name(f"{store.path.name}.before-relocate-{time.strftime('%Y%m%d-%H%M%S')}")
    sql.relocate(store.path, store.artifacts, backup)
    words = f"{moved.total()} paths corrected from {roots} to {store.artifacts}; backup: {backup}"
    return Line("ok", "artifacts", words)


def _leftovers(store: Store) -> Line:
    """Our own temporary files that no process can still want."""
    old = sorted(path for path in _temporary(store) if _age(path) > OLD)
    if not old:
        return Line("ok", "leftovers", "none")
    oldest = clock(max(map(_age, old)))
    listed = f"{', '.join(map(str, old[:3]))}{' …' if len(old) > 3 else ''}"
    return Line("warn", "leftovers", f"{len(old)} of killed processes, up to {oldest} old, may be removed: {listed}")


def _temporary(store: Store) -> Iterator[Path]:
    """Our short-lived files, and those that a killed process left without a record."""
    if store.path is not None:
        yield from store.path.parent.glob(f"{store.path.stem}.*.tmp")
        yield from _unrecorded(store)
    for folder in ("checkpoints", "spool", "claims"):
        yield from (store.state / folder).rglob("*.tmp")
    for path in Path(tempfile.gettempdir()).glob("goldfish-*"):
        if path.is_dir() and path.lstat().st_uid == os.getuid():
            yield path


def _unrecorded(store: Store) -> Iterator[Path]:
    """Folders of artifacts, named after an MLflow run, without that run."""
    if store.path is None or store.artifacts is None or not store.exists():
        return
    known = sql.run_ids(store.path, active=False)
    for path in store.artifacts.glob("*/*"):
        if re.fullmatch(r"[0-9a-f]{32}", path.name) and path.name not in known:
            yield path


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _spool(store: Store) -> Line:
    from goldfish.sweep.recorder import replay
    from goldfish.tracking import spool

    lines, damaged = replay(store), spool.damaged(store.state)
    if damaged:
        lines.append(f"{len(damaged)} damaged files may be removed, their runs are trained again: {damaged[0]}")
    still = spool.waiting(store.state) or damaged
    return Line("warn" if still else "ok", "spool", "; ".join(lines) or "empty")
