"""An image is composed from the one before only when that holds everything the index says it holds."""

from __future__ import annotations

import pytest

from anthill_sync.errors import AnthillError
from anthill_sync.image import finish_image
from anthill_sync.space import HEADER_SIZE
from tests.store_tools import StoreRig

pytest_plugins = ["tests.store_fixtures"]


def test_a_shared_pad_that_lacks_a_live_manifest_is_never_built_upon(rig: StoreRig) -> None:
    """Without a digest (after a recovery) the counter alone tells whose image it is: then the table decides."""
    rig.store.put_many({"a": b"1", "b": b"2"})
    pad = rig.index.values["a"].manifest_pad
    parsed = rig.parse(pad, rig.image(pad))
    assert parsed is not None
    header, table = parsed
    assert {manifest.key for manifest in table.manifests} == {"a", "b"}
    image = memoryview(bytearray(rig.image(pad)))
    end = HEADER_SIZE + header.payload
    kept = [manifest for manifest in table.manifests if manifest.key == "a"]
    length = finish_image(
        *(rig.sealer, rig.address(pad), image),
        counter=header.counter,
        end=end,
        run_id=table.run_id,
        entries=table.entries,
        manifests=kept,
    )
    digests = rig.session.journal.index.digests
    known, digests[pad * 16 : pad * 16 + 16] = digests[pad * 16 : pad * 16 + 16], bytes(16)
    rig.raw.pads[rig.address(pad)] = bytes(image[:length])  # type: ignore[attr-defined]
    rig.session.pads.forget_all()
    with pytest.raises(AnthillError, match="lacks a manifest") as caught:
        rig.store.put("c", b"3")
    assert caught.value.exit_code == 65
    assert rig.store["b"] == b"2"
    digests[pad * 16 : pad * 16 + 16] = known  # what stands in the files
