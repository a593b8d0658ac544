"""What a run leaves on disk: everything that its audit needs, and nothing of this machine.

run.cbor            the terms, where the federation lives, how it was simulated
keys.cbor           the throw-away sealing keys of a simulation, so that its audit can open blobs
app/                federation.toml and app.py as they were
chain.sqlite        state and journal of the embedded chain
store/  kept/       the shared object store; what the nodes keep on their own disks. A blob in both is one file
journals/           one journal a node
metrics.jsonl       for each round a line a member, and its own
seconds.jsonl       one line a round: seconds of this machine's clock by phase
mlflow.json         which run of MLflow shows it; tensorboard/ has the files of TensorBoard
summary.json        the end table, as `--json` prints it
model.safetensors   the final model
report.html         a page that shows all that
audit.json          what the last `hansa audit` said of it

and of a Flower app

app/                pyproject.toml and the Python files, with federation.toml where there is one
flower.sqlite       what its nodes' contexts hold, and what its ServerApp was told
arrays.safetensors  the model as its strategy has it
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa import encoding, errors
from hansa.ledger.evm import Deployment
from hansa.protocol.terms import decode_terms, parameters
from hansa.records import Terms

FORMAT = 1
RECORD_LIMIT = 64 * 1024 * 1024
METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`run.cbor`. `malicious`: attack specifications by member name."""

    terms: Terms
    deployment: Deployment
    members: int
    seed: int
    malicious: Mapping[str, str]
    settings: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in order of their ids."""
        return tuple(f"m{i}" for i in range(self.members))


def write_record(folder: Path, record: RunRecord) -> None:
    """Write `run.cbor`."""
    fields = {
        "format": FORMAT,
        "terms": encoding.encode(record.terms),
        "deployment": deployment_fields(record.deployment),
        "members": record.members,
        "seed": record.seed,
        "malicious": dict(record.malicious),
        "settings": record.settings,
    }
    write_atomically(folder / "run.cbor", encoding.encode(fields))


def read_record(folder: Path) -> RunRecord:
    """Read `run.cbor`. Raises `Misconfigured` when there is none, `Untrusted` when it is malformed."""
    data = read_file(folder / "run.cbor")
    value = encoding.decode(data, limit=RECORD_LIMIT)
    try:
        if value["format"] != FORMAT:
            raise errors.Misconfigured(
                f"{folder} was written in format {value['format']}, this version reads {FORMAT}",
                hint="Use the version of Hansa that made the run.",
            )
        terms = decode_terms(value["terms"])
        deployment = read_deployment(value["deployment"], terms)
        malicious = {str(k): str(v) for k, v in value["malicious"].items()}
        return RunRecord(
            terms, deployment, _integer(value["members"]), _integer(value["seed"]), malicious,
            str(value["settings"]),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise errors.Untrusted(
            f"{folder / 'run.cbor'} is malformed: {e}", digest=encoding.digest(data)
        ) from e


def deployment_fields(d: Deployment) -> dict[str, Any]:
    """A deployment as plain values; its parameters follow from the terms."""
    return {
        "chain_id": d.chain_id,
        "contract": d.contract,
        "block": d.block,
        "owner": d.owner,
        "seats": list(d.seats),
        "model": d.model,
    }


def read_deployment(value: Any, terms: Terms) -> Deployment:
    """The deployment of `deployment_fields`. Raises `KeyError`, `TypeError` or `ValueError`."""
    return Deployment(
        chain_id=_integer(value["chain_id"]),
        contract=_bytes(value["contract"], 20),
        block=_integer(value["block"]),
        owner=_bytes(value["owner"], 20),
        seats=tuple(_bytes(s, 20) for s in value["seats"]),
        parameters=parameters(terms),
        model=_bytes(value["model"], 32),
    )


def _integer(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a number is no number")
    return value


def _bytes(value: Any, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ValueError(f"a field does not have {length} bytes")
    return value


def write_keys(folder: Path, keys: Mapping[int, bytes]) -> None:
    """Write the throw-away X25519 keys of a simulation, by id; readable by the user alone."""
    path = folder / "keys.cbor"
    write_atomically(path, encoding.encode({str(i): k for i, k in keys.items()}))
    path.chmod(0o600)


def read_keys(folder: Path) -> dict[int, bytes]:
    """The keys of `keys.cbor`, empty when there is no such file. Raises `Untrusted` when it is malformed."""
    if not (folder / "keys.cbor").exists():
        return {}
    data = read_file(folder / "keys.cbor")
    value = encoding.decode(data, limit=RECORD_LIMIT)
    if not isinstance(value, dict) or not all(k.isdigit() and len(v) == 32 for k, v in value.items()):
        raise errors.Untrusted(f"{folder / 'keys.cbor'} is malformed", digest=encoding.digest(data))
    return {int(k): v for k, v in value.items()}


def read_file(path: Path) -> bytes:
    """A file of the run folder. Raises `Misconfigured` when it cannot be read."""
    try:
        if path.stat().st_size > RECORD_LIMIT:
            raise errors.Untrusted(f"{path} is larger than {RECORD_LIMIT} bytes")
        return path.read_bytes()
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot read {path}: {e.strerror}", hint="Name the folder that `hansa run` wrote."
        ) from e


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees all of it or the one before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise errors.Unavailable(f"cannot write {path}: {e.strerror}", hint="Free some space.") from e


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` on final rounds; one torn by a crash is left out."""
    return [line for line in read_lines(folder / METRICS) if is_final(line)]


def is_final(line: Mapping[str, Any]) -> bool:
    """Whether a line of `metrics.jsonl` is that of a final round, and not one of a member or a failed round."""
    return (line.get("kind"), line.get("outcome")) == ("round", "final")


def whole_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of `metrics.jsonl`; what a crash left of a round's lines is removed from the file."""
    lines, whole = read_lines(folder / METRICS), 0
    for k, line in enumerate(lines, start=1):
        if line.get("kind") == "round":
            whole = k
    text = "".join(map(_line, lines[:whole])).encode()
    path = folder / METRICS
    if path.exists() and path.read_bytes() != text:
        write_atomically(path, text)
    return lines[:whole]


def append_metrics(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to `metrics.jsonl`, the round's own last. Raises `Unavailable` when they cannot be written."""
    try:
        with (folder / METRICS).open("ab") as file:
            file.write("".join(map(_line, lines)).encode())
    except OSError as e:
        raise errors.Unavailable(
            f"cannot write {folder / METRICS}: {e.strerror}", hint="Free some space."
        ) from e


def _line(line: Mapping[str, Any]) -> str:
    return json.dumps(line) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file, one a line, none if there is no such file; a line torn by a crash is left out."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def as_json(value: Any) -> Any:
    """Dataclasses, bytes and sets as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [as_json(v) for v in (sorted(value) if isinstance(value, frozenset | set) else value)]
    return value
