"""``Machine``: what moves the data of an open store. Listing keys needs none of it, and loading it takes 30 ms."""

from __future__ import annotations

from .allocator import MemoryAllocator
from .config import Config
from .download import Downloader
from .journal import Journal
from .keys import MasterKey
from .networks.base import Network
from .pads import Pads
from .pipeline import Pipeline
from .sealing import Sealer
from .settings import Settings


class Machine:
    """Thread pools, pads and the memory map of one store; no thread runs before it has work."""

    def __init__(self, config: Config, key: MasterKey, settings: Settings, network: Network, journal: Journal) -> None:
        self.pipeline = Pipeline(settings)
        self.pads = Pads(network, key, config.slot, Sealer(key, config.slot))
        self.allocator = MemoryAllocator(journal, self.pads, self.pipeline, settings, config.pad_size)
        self.downloader = Downloader(self.pads, self.pipeline, config.chunk_size)
