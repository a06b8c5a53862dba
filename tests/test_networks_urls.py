"""Network URLs: what they open, how they are kept, what is said about wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthill_sync.errors import ConfigurationError
from anthill_sync.networks import normalise_url, open_network
from anthill_sync.networks.base import Network
from anthill_sync.settings import Settings
from tests.support import make_image, make_pad

PAD_SIZE = 16 * 1024
PAD = make_pad(1)
CWD = Path("/somewhere/else")


def opened(url: str, base: Path = CWD) -> Network:
    return open_network(url, pad_size=PAD_SIZE, base=base, settings=Settings())


@pytest.mark.parametrize("form", ["dir://{}", "dir:{}", "DIR:{}", "dir:///{}"])
def test_an_absolute_dir_url_opens_that_folder(tmp_path: Path, form: str) -> None:
    network = opened(form.format(tmp_path))
    network.write(PAD, make_image(b"image"))
    assert (tmp_path / PAD.address[:2] / PAD.address).read_bytes() == b"image"
    assert network.properties.scheme == "dir"
    assert network.properties.pad_size == PAD_SIZE


def test_a_relative_dir_url_opens_a_folder_below_base(tmp_path: Path) -> None:
    (tmp_path / "pads").mkdir()
    opened("dir:pads", tmp_path).write(PAD, make_image(b"image"))
    assert (tmp_path / "pads" / PAD.address[:2] / PAD.address).exists()


def test_a_memory_url_opened_twice_is_the_same_network(tmp_path: Path) -> None:
    opened("memory://twice").write(PAD, make_image(b"image"))
    opened("memory://twice").close()
    assert opened("memory://twice").read(PAD) == b"image"
    assert opened("memory://another") is not opened("memory://twice")


def test_a_memory_network_keeps_its_pad_size() -> None:
    opened("memory://sized")
    with pytest.raises(ConfigurationError, match=str(PAD_SIZE)):
        open_network("memory://sized", pad_size=2 * PAD_SIZE, base=CWD, settings=Settings())


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("dir:pads", "dir:///somewhere/else/pads"),
        ("dir:./pads/", "dir:///somewhere/else/pads"),
        ("dir:../pads", "dir:///somewhere/else/../pads"),
        ("dir:.", "dir:///somewhere/else"),
        ("dir:/backup", "dir:///backup"),
        ("dir:///backup", "dir:///backup"),
        ("dir:////backup", "dir:///backup"),
        ("Dir:/backup", "dir:///backup"),
        ("dir:a b", "dir:///somewhere/else/a%20b"),
        ("dir:a%3Fb", "dir:///somewhere/else/a%3Fb"),
        ("dir:me@work/pads", "dir:///somewhere/else/me@work/pads"),
        ("dir:./~name", "dir:///somewhere/else/~name"),
        ("memory://name", "memory://name"),
        ("http://Host:8620", "http://host:8620"),
        ("HTTPS://pads.example/", "https://pads.example"),
        ("https://pads.example/team/", "https://pads.example/team"),
        ("http://[::1]:8620", "http://[::1]:8620"),
        ("S3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket//team//pads/", "s3://bucket/team/pads"),
        ("s3://my.bucket-1/a_b~c.d", "s3://my.bucket-1/a_b~c.d"),
        (
            "s3://bucket/pads?region=eu-west-1&endpoint=http%3A%2F%2F127.0.0.1%3A9000/",
            "s3://bucket/pads?endpoint=http://127.0.0.1:9000&region=eu-west-1",
        ),
        ("s3://bucket?endpoint=https://[::1]:9000/s3/", "s3://bucket?endpoint=https://[::1]:9000/s3"),
        ("gs://bucket/pads", "gs://bucket/pads"),
        ("gs://bucket?endpoint=http://localhost:4443", "gs://bucket?endpoint=http://localhost:4443"),
        ("az://container/pads?account=colony", "az://container/pads?account=colony"),
    ],
)
def test_urls_are_kept_in_one_form(url: str, kept: str) -> None:
    assert normalise_url(url, CWD) == kept
    assert normalise_url(kept, Path("/another")) == kept


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "."))
def test_any_folder_name_survives_being_kept(name: str) -> None:
    kept = normalise_url("dir:.", Path("/root") / name)
    assert not set(kept[len("dir:///") :]) & set("?# ")
    assert normalise_url(kept, CWD) == kept
    assert vars(opened(kept))["_root"] == Path("/root") / name


def test_a_folder_name_that_is_not_text_survives_being_kept() -> None:
    folder = Path("/root") / os.fsdecode(b"\xff\xfe")
    assert vars(opened(normalise_url("dir:.", folder)))["_root"] == folder


SECRET = "s3cr3tword"
WRONG = {
    "backup": "dir:",
    "/backup": "dir:",
    "": "dir:",
    "://x": "dir:",
    "ftp://host/pads": "unknown network scheme 'ftp'",
    "c:/pads": "unknown network scheme 'c'",
    "http://": "http://host:port",
    "http:host": "http://host:port",
    "https:///path": "https://host",
    "http://host:port": "http://host:port",
    "http://host:99999": "http://host:port",
    "http://host name": "http://host:port",
    "https://h\u00f6st": "https://host",
    "https://host/a%2Fb": "https://host",
    "https://host/?x=y": "takes no query",
    "https://host#part": "takes no query",
    "s3:": "s3://bucket/prefix",
    "s3:bucket/prefix": "s3://bucket/prefix",
    "s3://": "s3://bucket/prefix",
    "s3:///prefix": "s3://bucket/prefix",
    "s3://b": "s3://bucket/prefix",
    "s3://buck et": "s3://bucket/prefix",
    "s3://bucket/../other": "s3://bucket/prefix",
    "s3://bucket/a%2Fb": "s3://bucket/prefix",
    "s3://bucket/a#b": "s3://bucket/prefix",
    "gs://b\u00fccket": "gs://bucket/prefix",
    "az://": "az://container/prefix",
    "s3://bucket?endpoint": "takes",
    "s3://bucket?region=": "letters, digits and dashes",
    "s3://bucket?region=a&region=b": "each once",
    "s3://bucket?endpoint=host:9000": "endpoint=https://host",
    "s3://bucket?endpoint=http://host:99999": "endpoint=https://host",
    "s3://bucket?endpoint=http://host:port": "endpoint=https://host",
    "s3://bucket?endpoint=ftp://host": "endpoint=https://host",
    "s3://bucket?endpoint=http://host/a b": "endpoint=https://host",
    "gs://bucket?region=eu": "takes",
    "az://bucket?account=a/b": "letters, digits and dashes",
    f"s3://bucket?access_key_id=me&secret_access_key={SECRET}": "credentials come from",
    f"s3://bucket?endpoint=http://me%3A{SECRET}%40host": "endpoint=https://host",
    f"az://bucket?sas_key={SECRET}": "credentials come from",
    f"gs://me:{SECRET}@bucket": "credentials never",
    f"s3://bucket/{SECRET}?endpoint=x": "endpoint=https://host",
    "dir:": "names a folder",
    "dir:/": "names a folder",
    "dir:///": "names a folder",
    "dir://": "three slashes",
    "dir://host/pads": "three slashes",
    "dir:~/pads": "not expanded",
    "dir:a%00b": "names a folder",
    "dir:pads?region=x": "%3F",
    "dir:///pads#part": "%23",
    "memory:name": "memory://name",
    "memory://": "memory://name",
    "memory://a/b": "memory://name",
    "memory://a?b=c": "no query",
    f"http://me:{SECRET}@host/": "credentials never",
    f"s3://me:{SECRET}@bucket/prefix": "credentials never",
    f"dir://me:{SECRET}@host/pads": "credentials never",
    f"memory://me:{SECRET}@name": "credentials never",
    f"ftp://me:{SECRET}@host": "credentials never",
    f"me:{SECRET}@host": "credentials never",
    f"http://host/?password={SECRET}": "takes no query",
    f"https://{SECRET}:x@host:1": "credentials never",
    f"dir:pads?password={SECRET}": "no query",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_is_a_configuration_error_that_says_what_to_write_and_no_secret(url: str) -> None:
    for use in (opened, lambda url: normalise_url(url, CWD)):
        with pytest.raises(ConfigurationError, match=WRONG[url]) as caught:
            use(url)
        assert SECRET not in repr(caught.value) + str(caught.value) + repr(caught.value.context)
        assert caught.value.exit_code == 78


def test_importing_the_networks_imports_no_network_and_no_http_library() -> None:
    script = """
import sys, anthill_sync.networks as networks
from pathlib import Path
heavy = {"requests", "urllib3", "backoff", "http.client", "blake3", "cryptography", "asyncio", "obstore"}
print(sorted(heavy & set(sys.modules)))
print(sorted(name for name in sys.modules if name.startswith("anthill_sync.networks.")))
networks.normalise_url("dir:x", Path("/"))
"""
    here = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['anthill_sync.networks.base']"], done.stderr
