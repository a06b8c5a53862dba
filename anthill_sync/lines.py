"""Journal lines and snapshot lines: bytes in, checked state out. Pure, no I/O.

Journal: ``{"s":sequence,"p":sum of the line before,"y":offset known to be synced,"r":[records],"c":own sum}``;
its first line is ``{"format":1,"base":sequence,"c":own sum}``. A sum is BLAKE3 of the line up to ``,"c"``, 8 bytes in hex.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blake3 import blake3

from .errors import IndexDamaged, UnknownFormat
from .index import MasterIndex, Record
from .packing import decode, encode, little_endian
from .values import BLOCK, DATA_ID_SIZE, BlockList, Pending, Value, split_ids

FORMAT = 1
PADS_PER_LINE = 4096
PART_BYTES = 1 << 20
REBUILD = "nothing was overwritten; 'anthill recover' rebuilds the index"
_LINE_START = b'{"s":'
_SUM_FIELD = len(b',"c":"') + 16 + len(b'"}')


_encode_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode_json = json.JSONDecoder().raw_decode  # ``json.loads`` looks for encodings and blanks in every line


def dumps(value: Any) -> bytes:
    """Compact JSON, one line, UTF-8 without escapes for other scripts."""
    return _encode_json(value).encode("utf-8")


def _sum(data: bytes) -> str:
    return blake3(data).hexdigest(8)


def _seal_line(body: bytes) -> tuple[bytes, str]:
    own = _sum(body)
    return body + b',"c":"' + own.encode() + b'"}\n', own


def _open_line(line: bytes) -> tuple[dict[str, Any], str] | None:
    """(fields, own sum) of a line without its newline, or None when it does not verify."""
    if line[-_SUM_FIELD:] != b',"c":"%b"}' % _sum(line[:-_SUM_FIELD]).encode():
        return None
    text = line.decode("utf-8")
    fields, end = _decode_json(text)
    return (fields, fields["c"]) if isinstance(fields, dict) and end == len(text) else None


# -- journal


def first_line(base: int) -> tuple[bytes, str]:
    """(line, its sum) that begins a journal after the snapshot with sequence ``base``."""
    return _seal_line(b'{"format":%d,"base":%d' % (FORMAT, base))


def encode_records(records: list[Record]) -> bytes:
    """``records`` as they stand in a line, joined by commas; what cannot be encoded raises ``TypeError`` or ``ValueError``."""
    return dumps(records)[1:-1]


def batch_line(sequence: int, previous: str, synced: int, records: Iterable[bytes]) -> tuple[bytes, str]:
    """(line, its sum) of one batch of encoded records; ``synced`` is the file offset up to which everything was synced
    before."""
    return _seal_line(
        b'{"s":%d,"p":"%b","y":%d,"r":[%b]' % (sequence, previous.encode(), synced, b",".join(filter(None, records)))
    )


Each = Callable[[int, list[Record]], object]  # sequence, records


@dataclass
class Tail:
    """Verified lines of a journal, from some offset on."""

    batches: list[tuple[int, list[Record]]] = field(default_factory=list)  # (sequence, records), unless ``each`` had them
    count: int = 0  # batches
    idle: bool = False  # the last of them is ``idle`` alone
    end: int = 0  # offset behind the last verified line
    last_sum: str = ""
    base: int = 0  # of the first line, when the scan began at offset 0
    torn: int = 0  # bytes behind ``end``


def scan(data: bytes, where: str, *, start: int = 0, previous: str | None = None, each: Each | None = None) -> Tail:
    """Verify journal bytes that begin at file offset ``start`` (``previous``: sum of the line before; None: the
    first line is expected). The first bad line ends the scan: a torn tail, unless a valid line anywhere names a
    higher synced offset: then ``IndexDamaged``. ``each`` gets every batch as soon as it is verified, so that none is kept:
    as objects they take ten times their bytes."""
    tail = Tail(end=start, last_sum=previous or "")
    take = each or (lambda sequence, records: tail.batches.append((sequence, records)))
    position, synced = 0, 0
    while (stop := data.find(b"\n", position)) >= 0:
        opened = _open_line(data[position:stop])
        if opened is None or not _accept(tail, opened, take, first=previous is None and tail.end == 0, where=where):
            break
        synced = max(synced, opened[0].get("y", 0))
        position = stop + 1
        tail.end = start + position
    tail.torn = start + len(data) - tail.end
    if previous is None and tail.end == 0:
        raise IndexDamaged(f"{where}: the first line is damaged; {REBUILD}")
    if tail.torn:
        synced = max([synced, *_named_offsets(data[position:])])
        if synced > tail.end:
            raise IndexDamaged(f"{where}: damaged at byte {tail.end}, below byte {synced} that was safely on disk; {REBUILD}")
    return tail


def _accept(tail: Tail, opened: tuple[dict[str, Any], str], take: Each, *, first: bool, where: str) -> bool:
    fields, own = opened
    if first:
        if "format" not in fields:
            return False
        if fields["format"] != FORMAT:
            raise UnknownFormat(f"{where}: format {fields['format']!r}; this version reads {FORMAT}")
        tail.base = fields["base"]
    elif fields.get("p") != tail.last_sum or "r" not in fields:
        return False
    else:
        take(fields["s"], fields["r"])
        tail.count += 1
        tail.idle = len(fields["r"]) == 1 and fields["r"][0][0] == "idle"
    tail.last_sum = own
    return True


def _named_offsets(data: bytes) -> Iterator[int]:
    return (fields["y"] for fields, _ in _whole_lines(data))


def _whole_lines(data: bytes) -> Iterator[tuple[dict[str, Any], str]]:
    """(fields, own sum) of every whole batch line in damaged bytes, also of one whose newline before it is lost."""
    for line in data.split(b"\n"):
        start = line.find(_LINE_START)
        while start >= 0:
            opened = _open_line(line[start:])
            if opened is not None:
                yield opened
            start = line.find(_LINE_START, start + 1)


class Salvaged(NamedTuple):
    """One line of a damaged journal that verifies by its own sum."""

    sequence: int
    previous: str  # sum that the line before it had
    own: str
    records: list[Record]


def salvage(data: bytes) -> tuple[int | None, list[Salvaged], bool]:
    """(base, lines, whole end) of a damaged journal: base as its first line has it, None when that is damaged too; every
    line that verifies, once, by sequence; and whether the last of them is where the file ends."""
    first = _open_line(data[: max(0, data.find(b"\n"))])
    base = first[0].get("base") if first is not None and first[0].get("format") == FORMAT else None
    found = {fields["s"]: Salvaged(fields["s"], fields["p"], own, fields["r"]) for fields, own in _whole_lines(data)}
    last = data[data.rfind(b"\n", 0, -1) + 1 : -1]
    whole_end = data.endswith(b"\n") and _open_line(last) is not None
    return base, [found[sequence] for sequence in sorted(found)], whole_end


# -- snapshot


def snapshot_lines(index: MasterIndex) -> Iterator[bytes]:
    """The snapshot of ``index``, line by line, the closing line last."""
    hasher, count = blake3(), 0
    for line in _snapshot_lines(index):
        hasher.update(line)
        count += 1
        yield line
    yield dumps({"lines": count, "sum": hasher.hexdigest()}) + b"\n"


def in_parts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of about 1 MiB: a write for every line would cost more than the line."""
    part = bytearray()
    for line in lines:
        part += line
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _snapshot_lines(index: MasterIndex) -> Iterator[bytes]:
    header = {
        "format": FORMAT,
        "sequence": index.sequence,
        "run": [index.run, index.run_id.hex()],
        "writing": sorted(index.writing),
        "to_rewrite": sorted(index.to_rewrite),
    }
    yield dumps(header) + b"\n"
    yield from (dumps(fields) + b"\n" for fields in _pads_fields(index))
    yield from (_value_line(key, value) for key, value in index.values.items())
    for key, pending in index.pending_uploads.items():
        yield dumps({"pending": key, "v": _pending_fields(pending)}) + b"\n"
    for key, pads in index.stale.items():
        yield dumps({"stale": key, "v": sorted(pads)}) + b"\n"


def _pads_fields(index: MasterIndex) -> Iterator[dict[str, Any]]:
    for first in range(0, index.pads, PADS_PER_LINE):
        part = slice(first, min(first + PADS_PER_LINE, index.pads))
        digests = bytes(index.digests[part.start * 16 : part.stop * 16])
        packed = [bytes(index.status[part]), bytes(index.blank[part]), little_endian(index.counters[part]).tobytes(), digests]
        yield {"pads": first, "packed": [encode(data) for data in packed]}


def _value_line(key: str, value: Value) -> bytes:
    """A value's line, as ``dumps`` would make it in thrice the time: there may be very many."""
    attributes = "null" if value.attributes is None else _encode_json(value.attributes)
    numbers = f"{value.size},{value.version},{value.modified},{attributes},{value.manifest_pad}"
    text = f'{{"key":{_encode_json(key)},"v":[{numbers},"{encode(value.data_ids)}","{encode(value.packed)}"]}}\n'
    return text.encode("utf-8")


def _pending_fields(pending: Pending) -> list[Any]:
    packed, ids = pending.blocks.packed()
    attempts = encode(b"".join(pending.data_ids))
    head = [attempts, pending.total, pending.source, pending.started, pending.attributes, pending.manifest]
    return [*head, encode(ids), encode(packed)]


def load_snapshot(data: bytes, where: str) -> MasterIndex:
    """The index of a snapshot file's bytes; ``IndexDamaged`` when it does not verify."""
    end = data.rfind(b"\n", 0, -1) + 1  # where the closing line begins
    try:
        _check_sum(data, end)
        return _read_lines(_lines(data, end), where)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise IndexDamaged(f"{where}: damaged ({error}); {REBUILD}") from error


def _check_sum(data: bytes, end: int) -> None:
    if not data:
        raise ValueError("the file is empty")
    closing, sum_of_all = json.loads(data[end:]), blake3(memoryview(data)[:end]).hexdigest()
    if not data.endswith(b"\n") or closing != {"lines": data.count(b"\n") - 1, "sum": sum_of_all}:
        raise ValueError("count or checksum differs")


def _lines(data: bytes, end: int) -> Iterator[bytes]:
    """The lines before ``end``, one at a time: all at once would take as much memory again."""
    position = 0
    while position < end:
        stop = data.index(b"\n", position)
        yield data[position:stop]
        position = stop + 1


def _read_lines(lines: Iterable[bytes], where: str) -> MasterIndex:
    index, entries = MasterIndex(), map(_decode_line, lines)
    header = next(entries)
    if header["format"] != FORMAT:
        raise UnknownFormat(f"{where}: format {header['format']!r}; this version reads {FORMAT}")
    index.sequence = header["sequence"]
    index.run, index.run_id = header["run"][0], bytes.fromhex(header["run"][1])
    index.writing, index.to_rewrite = set(header["writing"]), set(header["to_rewrite"])
    for entry in entries:
        _read_entry(index, entry)
    return index


def _decode_line(line: bytes) -> Any:
    text = line.decode("utf-8")
    value, end = _decode_json(text)
    if end != len(text):
        raise ValueError("a line has more than one value")
    return value


def hinted_values(data: bytes) -> dict[str, Value]:
    """Values that lines of a damaged snapshot seem to tell of. Nothing vouches for them: they are used where a pad says
    the same."""
    found = MasterIndex()
    for line in data.splitlines():
        if line.startswith(b'{"key":'):
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                _read_entry(found, json.loads(line))
    return {key: value for key, value in found.values.items() if isinstance(key, str) and _is_packed(value)}


def _is_packed(value: Value) -> bool:
    blocks, ids = divmod(len(value.packed), BLOCK.size), divmod(len(value.data_ids), DATA_ID_SIZE)
    return not blocks[1] and not ids[1] and all(each[3] < ids[0] for each in BLOCK.iter_unpack(value.packed))


def _read_entry(index: MasterIndex, fields: dict[str, Any]) -> None:
    if "key" in fields:
        size, version, modified, attributes, pad, ids, packed = fields["v"]
        index.values[fields["key"]] = Value(size, version, modified, attributes, pad, decode(ids), decode(packed))
    elif "pads" in fields:
        index.put_pads(fields["pads"], *(decode(text) for text in fields["packed"]))
    elif "pending" in fields:
        attempts, total, source, started, attributes, manifest, ids, packed = fields["v"]
        blocks = BlockList(decode(packed), split_ids(decode(ids)))
        place = (manifest[0], manifest[1], manifest[2]) if manifest else None
        pending = Pending(split_ids(decode(attempts)), total, source, started, attributes, blocks, place)
        index.put_pending(fields["pending"], pending)
    else:
        for pad, version in fields["v"]:
            index.add_stale(fields["stale"], pad, version)
