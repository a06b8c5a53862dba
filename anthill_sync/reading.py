"""Chunks of a source: read, and compared with what is stored already."""

from __future__ import annotations

from .committer import Committer
from .uploads import Origin, Upload


def read_chunk(committer: Committer, upload: Upload, chunk: int) -> memoryview:
    """The plaintext of a chunk, perhaps in this thread's plain buffer."""
    block = upload.resealed.get(chunk)
    if block is not None and upload.streamed:
        sealed = committer.pads.read_extent(block.extent)
        return memoryview(committer.pads.sealer.open_block(block.data_id, chunk, sealed))
    held = upload.held.get(chunk)
    if held is not None:
        return memoryview(held)
    assert upload.source is not None
    return upload.source.read(chunk * upload.chunk_size, committer.buffers.plain[: upload.chunk_length(chunk)])


def compare(upload: Upload, chunk: int, fingerprint: bytes, length: int) -> bool:
    """Note where an equal chunk lies already; True for a full chunk that lies nowhere."""
    origin = next((origin for origin, known in upload.known(chunk) if known == fingerprint), Origin.SENT)
    upload.origins[chunk] = origin
    if origin != Origin.SENT:
        upload.operation.transferred(length)
    return origin == Origin.SENT and length == upload.chunk_size
