"""What must be sent for a value, and where it goes. Changes the memory map's plans only; reserves and sends nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Container, Mapping
from typing import Any

from .image import manifest_size
from .journal import Journal
from .memory_map import Placement
from .operation import Operation
from .sealing import OVERHEAD
from .space import ENTRY_SIZE, HEADER_SIZE, TABLE_FIXED
from .supply import PadSupply
from .uploads import Move, Origin, Upload
from .values import DATA_ID_SIZE, Span, Value


class Planner:
    """Plans uploads; they are known by data id until they are forgotten."""

    def __init__(self, supply: PadSupply, journal: Journal, pad_size: int, chunk_size: int) -> None:
        self._supply, self._journal = supply, journal
        self._lock: threading.RLock = supply.lock
        self._pad_size, self._chunk_size = pad_size, chunk_size
        self._uploads: dict[bytes, Upload] = {}
        self._versions = 0

    def new_run(self) -> None:
        """Versions are counted anew within each run."""
        self._versions = 0

    def next_version(self) -> int:
        """A version above every one before, never used again."""
        with self._lock:
            self._versions += 1
            return self._journal.index.run << 32 | self._versions

    def planned(self) -> int:
        """Uploads that are planned or running."""
        return len(self._uploads)

    def upload(self, data_id: bytes) -> Upload:
        """The planned upload of this data id."""
        return self._uploads[data_id]

    def plan(self, operation: Operation, key: str, size: int | None, attributes: Mapping[str, Any] | None) -> Upload:
        """Decide what must be sent for one value (``size`` None: a stream), and place its remainder and manifest where
        that is known already."""
        index = self._journal.index
        upload = Upload(
            operation,
            key,
            os.urandom(DATA_ID_SIZE),
            version=self.next_version(),
            size=size,
            chunk_size=self._chunk_size,
            attributes=attributes,
            old=index.values.get(key),
            pending=index.pending_uploads.get(key),
        )
        with self._lock:
            self._uploads[upload.data_id] = upload
        if size is not None:
            upload.plan(len(upload.origins))
            if upload.old is None and upload.pending is None:
                if self.rest_goes_alone(upload, 1):
                    upload.send_rest_alone()
                self._place_tail(upload, 1 if size else 0)
        operation.expect(size, len(upload.sends), upload.placement and upload.placement.space)
        return upload

    def plan_move(self, operation: Operation, key: str, value: Value, away: Container[int]) -> Move:
        """Decide what must be sealed anew so that nothing of the published value is on the pads ``away``."""
        version, data_id = self.next_version(), os.urandom(DATA_ID_SIZE)
        upload = Move(operation, key, data_id, value, version=version, chunk_size=self._chunk_size, away=away)
        with self._lock:
            self._uploads[data_id] = upload
        upload.plan(value.chunks)
        operation.expect_pads(len(upload.sends))
        return upload

    def place(self, upload: Upload, spans: list[Span]) -> None:
        """Place the remainder, when it is sent, and the manifest together."""
        placement = self._place_tail(upload, len(spans))
        upload.operation.expect(0, 0, placement.space)

    def _place_tail(self, upload: Upload, spans: int) -> Placement:
        assert upload.size is not None
        chunk = len(upload.origins) - 1
        rest = upload.size % self._chunk_size
        sent = bool(rest) and upload.origins[chunk] == Origin.SENT and not upload.rest_alone
        upload.tail_chunk = chunk if sent else None
        return self._place(upload, rest + OVERHEAD if sent else None, chunk, spans)

    def rest_goes_alone(self, upload: Upload, spans: int | None = None) -> bool:
        """True when the remainder has to be sent and does not fit into one empty pad together with the manifest, here
        assumed to have this many ``spans`` (None: those it has now)."""
        assert upload.size is not None
        rest = upload.size % self._chunk_size
        if not rest or upload.rest_alone or upload.origins[-1] != Origin.SENT:
            return False
        manifest = upload.manifest_size(len(upload.spans()) if spans is None else spans)
        return HEADER_SIZE + rest + OVERHEAD + ENTRY_SIZE + TABLE_FIXED + manifest > self._pad_size

    def place_manifest(self, upload: Upload, spans: int) -> None:
        """Place a manifest whose blocks stay where they are."""
        placement = self._place(upload, None, 0, spans)
        upload.operation.expect(0, 0, placement.space)

    def _place(self, upload: Upload, length: int | None, chunk: int, spans: int) -> Placement:
        size = upload.manifest_size(spans)
        owner, manifest = (upload.data_id, chunk), (upload.key, upload.version)
        with self._lock:
            self._uploads[upload.data_id] = upload
            upload.placement = placement = self._supply.map.place(length, owner, manifest, size)
        return placement

    def to_seal_anew(self, upload: Upload) -> list[int]:
        """Carried-over chunks to send after all, because the manifest would take more than half a pad."""
        return upload.too_many_spans(upload.spans(), self._pad_size // 2)

    def needed(self, uploads: list[Upload]) -> int:
        """Pads that these plans need beyond what is there; those of changed chunks not counted."""
        return self._supply.shortage(self.count(uploads))

    def at_most(self, uploads: list[Upload]) -> int:
        """The same if every chunk had changed."""
        changed = sum(len(upload.scans) + self._tail_pads(upload) for upload in uploads if upload.placement is None)
        return self._supply.shortage(self.count(uploads) + changed)

    def _tail_pads(self, upload: Upload) -> int:
        """Pads at most for a remainder and manifest that are not placed yet."""
        return 1 + int(upload.size is not None and self.rest_goes_alone(upload, len(upload.origins)))

    def count(self, uploads: list[Upload]) -> int:
        """Empty pads that these plans will take."""
        spaces = {upload.placement.space for upload in uploads if upload.placement is not None}
        return sum(len(upload.sends) for upload in uploads) + sum(space.number is None for space in spaces)

    def check_allocation_possible(self, size: int) -> int | None:
        """See ``MemoryAllocator``."""
        full, rest = divmod(size, self._chunk_size)
        with self._lock:
            space = self._supply.map.fits(rest + OVERHEAD if rest else None, manifest_size("x" * 64, None, 1))
            return self._supply.shortage(full + (space is None)) or None

    def forget(self, uploads: list[Upload]) -> None:
        """The uploads are over: what was planned for those that are not done is free again. Safe to repeat."""
        with self._lock:
            for upload in uploads:
                self._uploads.pop(upload.data_id, None)
                if upload.placement is not None and not upload.done:
                    self._supply.map.release(upload.placement)
