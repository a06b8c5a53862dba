"""What many tests share: ``from tests.support import ...``, with pytest run from the repository's root."""

from .durability import fail_durable, record_durable
from .networks import (
    PATIENCE,
    FakeClock,
    FaultyNetwork,
    Gate,
    Seen,
    SlowNetwork,
    TestPad,
    make_image,
    make_pad,
    make_pad_image,
    run_threads,
)
from .retries import Heard, Rig, busy

__all__ = [
    "PATIENCE",
    "FakeClock",
    "FaultyNetwork",
    "Gate",
    "Heard",
    "Rig",
    "Seen",
    "SlowNetwork",
    "TestPad",
    "busy",
    "fail_durable",
    "make_image",
    "make_pad",
    "make_pad_image",
    "record_durable",
    "run_threads",
]
