"""What a running mutation tells its caller: frozen dataclasses, delivered one at a time, in order,
on the calling thread, each only after what it reports has succeeded. Totals may be None for a
stream of unknown length, and may rise, never fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ReservingScratchpads:
    """New pads are needed."""

    needed: int  # pads to reserve


@dataclass(frozen=True)
class ConfirmReservation:
    """Asked before the first reservation; nothing is reserved until it is answered."""

    needed: int  # pads to reserve
    at_most: bool  # True: an upper bound (an update or a stream)
    needed_bytes: int  # bytes of the pads to reserve
    free_pads: int  # empty pads that are ours already
    total_pads: int  # pads that are ours already
    free_bytes: int  # bytes free in all of our pads
    data_size: int | None  # plaintext bytes of the values; None for a stream
    estimated_cost: str | None  # in the network's own words; None where unknown or free


@dataclass(frozen=True)
class ReservationProgress:
    """A pad is reserved and the index says so, durably."""

    current: int  # pads reserved so far
    total: int | None  # pads to reserve


@dataclass(frozen=True)
class StartingUpload:
    """The first pad entered ``upload_ready_queue``."""

    total_bytes: int | None  # plaintext bytes over all uploads


@dataclass(frozen=True)
class UploadProgress:
    """A pad's data was transferred. Unchanged chunks count at once."""

    bytes_written: int  # plaintext bytes so far
    total_bytes: int | None  # plaintext bytes over all uploads


@dataclass(frozen=True)
class ScratchpadCommitComplete:
    """A pad is committed and the index says so, durably."""

    index: int  # pads committed so far
    total: int | None  # pads to commit


@dataclass(frozen=True)
class StoreComplete:
    """A key is published."""

    key: str
    size: int  # plaintext bytes
    pads: int  # pads the value lies on
    seconds: float  # since the put began


@dataclass(frozen=True)
class RetryScheduled:
    """An attempt failed and will be repeated."""

    operation: str  # reserve, write, confirm or read
    pad: str  # address
    attempt: int  # the attempt that failed, from 1
    wait_seconds: float
    error: str
    at_once: int | None = None  # network calls that may run at once from now on: halved by each refusal, then climbing back


Event = (
    ReservingScratchpads
    | ConfirmReservation
    | ReservationProgress
    | StartingUpload
    | UploadProgress
    | ScratchpadCommitComplete
    | StoreComplete
    | RetryScheduled
)
OnEvent = Callable[[Event], object]
Confirm = Callable[[ConfirmReservation], bool]
