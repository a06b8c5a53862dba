"""Rewriting pads without what is dead in them, so that removed names and data leave the network."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from .committer import Committer
from .errors import AnthillError, NetworkError
from .events import OnEvent
from .memory_map import Kind
from .operation import Operation
from .pipeline import Pipeline
from .units import BlankUnit
from .values import Extent
from .writing import Writer

log = logging.getLogger("anthill_sync.rewriting")


class Rewriter:
    """``to_rewrite`` in the index names the pads; each run tries each of them once."""

    def __init__(self, committer: Committer, writer: Writer, pipeline: Pipeline) -> None:
        self._committer, self._writer, self._pipeline = committer, writer, pipeline
        self._supply, self._journal = committer.supply, committer.journal
        self._tried: set[int] = set()

    def new_run(self) -> None:
        """What earlier runs could not rewrite may be tried again."""
        self._tried.clear()

    def dead_pads(self, extents: Iterable[Extent], manifests: Iterable[int]) -> list[int]:
        """Pads to rewrite once these extents and the manifests on these pads are dead: all that hold such a manifest,
        and those that hold nothing else alive."""
        dead: dict[int, int] = {}
        for pad, _, _ in extents:
            dead[pad] = dead.get(pad, 0) + 1
        with self._supply.lock:
            spaces = self._supply.map.spaces
            empty = [pad for pad, count in dead.items() if pad not in spaces or len(spaces[pad].slots) == count]
        return sorted({*empty, *manifests})

    def not_blank(self) -> list[int]:
        """Free pads whose image still holds sealed bytes of removed values."""
        with self._supply.lock:
            blank = self._journal.index.blank
            return [pad for pad, kind in enumerate(self._supply.map.kinds) if kind == Kind.EMPTY and not blank[pad]]

    def mark(self, pads: list[int]) -> None:
        """Remember durably that these pads are to be rewritten."""
        if pads:
            self._committer.record([["remove", [], pads]])

    def look(self, extents: Iterable[Extent], manifests: Iterable[int]) -> NetworkError | None:
        """Before what these manifests name is freed: as ``SharedPads`` looks back before it replaces values. Nothing is read
        where all blocks are on the manifests' own pads, whose rewriting tells. A network that does not answer keeps nobody
        from removing values: its error is returned."""
        names = set(manifests)
        if all(pad in names for pad, _, _ in extents):
            return None
        try:
            for _ in self._pipeline.ahead(sorted(names), self._committer.look):
                continue
        except NetworkError as error:
            return error
        return None

    def rewrite(self, pads: list[int], on_event: OnEvent | None = None) -> AnthillError | None:
        """Send every pad anew; the first failure, after which the rest is left for later runs."""
        operation = Operation(on_event)
        operation.expect_pads(len(pads))
        self._tried.update(pads)
        try:
            for group in self._names_first(pads):
                self._writer.run(operation, partial(self._begin, operation, group))
        except AnthillError as error:
            return error
        return None

    def _names_first(self, pads: list[int]) -> list[list[int]]:
        """Pads with manifests; then, once those are rewritten, the others. A copy of this home that gave a removed value
        another name has rewritten the pad of its manifest, which is noticed there; the pads of its blocks are as both homes
        know them, and emptying one first would take the value from under its new name. Costs a removal of full chunks the
        time of one more write."""
        with self._journal.index_lock:
            named = {pad for places in self._journal.index.stale.values() for pad, _ in places}
        groups = [pad for pad in pads if pad in named], [pad for pad in pads if pad not in named]
        return [group for group in groups if group]

    def _begin(self, operation: Operation, pads: list[int]) -> None:
        for pad in pads:
            with self._supply.lock:
                space = self._supply.map.spaces.get(pad)
                empty = self._supply.map.kinds[pad] == Kind.EMPTY
                if space is not None and not space.blocked:
                    # under the lock: a space that is not queued yet may retire, and its pad be handed to somebody else
                    self._writer.shared.rewrite(space, operation)
            if empty:
                operation.enter()
                self._pipeline.upload.put(BlankUnit(self._committer, pad, operation))

    def empty_damaged(self, operation: Operation, pads: list[int]) -> None:
        """Put an empty image on damaged pads that hold nothing live; they serve again."""

        def begin() -> None:
            operation.expect_pads(len(pads))
            for pad in pads:
                operation.enter()
                self._pipeline.upload.put(BlankUnit(self._committer, pad, operation, damaged=True))

        self._writer.run(operation, begin)

    def left_over(self) -> list[int]:
        """Pads to rewrite that hold nothing alive: also chunks that nobody recorded, of whichever interrupted put."""
        with self._supply.lock:
            return [pad for pad in list(self._journal.index.to_rewrite) if self._supply.map.kinds[pad] == Kind.EMPTY]

    def rewrite_left_over(self) -> None:
        """What an earlier run could not rewrite is tried once by this one; a failure is only logged."""
        pads = sorted(self._journal.index.to_rewrite - self._tried)
        error = self.rewrite(pads) if pads else None
        if error is not None:
            log.warning("old names or data are left on %d pads: %s", len(self._journal.index.to_rewrite), error)
