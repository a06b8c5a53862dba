"""What pandas, pyarrow and zarr do with ``anthill://`` URLs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest

from anthill_sync import Store
from anthill_sync.filesystem import AnthillFileSystem

pytest_plugins = ["tests.filesystem_fixtures"]
with_zarr = pytest.mark.skipif(sys.version_info >= (3, 15), reason="what zarr needs has to be compiled for Python 3.15")


def test_the_url_is_known_where_the_package_is_installed() -> None:
    (point,) = [point for point in importlib.metadata.entry_points(group="fsspec.specs") if point.name == "anthill"]
    assert point.load() is AnthillFileSystem
    assert AnthillFileSystem.async_impl is False


def test_pandas_reads_and_writes_urls(home: Path) -> None:
    table = pd.DataFrame({"ant": [f"ant {n}" for n in range(5000)], "legs": range(5000)})
    table.to_parquet("anthill://reports/x")
    table.to_csv("anthill://reports/x.csv.gz", index=False)
    assert pd.read_parquet("anthill://reports/x").equals(table)
    assert pd.read_parquet("anthill://reports/x", columns=["legs"]).equals(table[["legs"]])
    assert pd.read_csv("anthill://reports/x.csv.gz", compression="gzip").equals(table)
    other = pd.read_parquet("anthill://reports/x", storage_options={"home": str(home), "read_only": True})
    assert other.equals(table)
    with Store.open(home) as store:
        assert sorted(store) == ["reports/x", "reports/x.csv.gz"]


def test_pandas_that_fails_leaves_the_old_value(home: Path) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ZeroDivisionError

    for name in ("table.csv", "table.csv.gz"):
        pd.DataFrame({"a": [1]}).to_csv(f"anthill://{name}")
        with Store.open(home) as store:
            old = store[name]
            with pytest.raises(ZeroDivisionError):
                pd.DataFrame({"a": [*range(100_000), Bad()]}).to_csv(f"anthill://{name}")
            assert store[name] == old


def test_pyarrow_that_fails_leaves_the_old_value(home: Path) -> None:
    table = pyarrow.table({"legs": list(range(1000))})
    files = fsspec.filesystem("anthill")
    with pyarrow.parquet.ParquetWriter("x", table.schema, filesystem=files) as writer:
        writer.write_table(table)
    with contextlib.suppress(ZeroDivisionError), pyarrow.parquet.ParquetWriter("x", table.schema, filesystem=files) as writer:
        writer.write_table(table.slice(0, 10))
        raise ZeroDivisionError
    assert pyarrow.parquet.read_table("x", filesystem=files).num_rows == 1000


def test_pyarrow_reads_a_dataset_of_many_values(home: Path) -> None:
    table = pd.DataFrame({"year": [2024, 2025] * 100, "legs": range(200)})
    table.to_parquet("anthill://data", partition_cols=["year"])
    found_files = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("anthill")))
    found = pyarrow.dataset.dataset("data", filesystem=found_files, partitioning="hive").to_table().to_pandas()
    assert sorted(found["legs"]) == list(range(200))


@with_zarr
def test_zarr_keeps_arrays(home: Path) -> None:
    import zarr

    for fill in (7, 9):  # the second one replaces the first
        numbers: Any = zarr.open("anthill://arrays/one", mode="w", shape=(300, 300), chunks=(100, 100), dtype="i4")
        numbers[:] = fill
        numbers[150, 150] = fill + 1
        again: Any = zarr.open("anthill://arrays/one", mode="r")
        assert (again[0, 0], again[150, 150], int(again[:].sum())) == (fill, fill + 1, 300 * 300 * fill + 1)
    with Store.open(home) as store:
        assert len(store.entries("arrays/one")) >= 10


@with_zarr
def test_zarr_finds_chunks_that_were_never_written_empty(home: Path) -> None:
    import zarr

    numbers: Any = zarr.open("anthill://sparse", mode="w", shape=(300,), chunks=(100,), dtype="i4", fill_value=3)
    numbers[:100] = 7
    again: Any = zarr.open("anthill://sparse", mode="r")
    assert (again[50], again[150]) == (7, 3)
