"""From a URL, settings, environment and AWS profiles to an object store: what is used, what is refused, what is not shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from anthill_sync import Store
from anthill_sync.errors import AccessDenied, AnthillError, ConfigurationError, ProtocolError, TransientNetworkError
from anthill_sync.networks import object_stores, objects, open_network
from anthill_sync.networks.base import Network
from anthill_sync.networks.object_profiles import profile_options
from anthill_sync.settings import Settings, resolve
from tests.faults.proxy import Proxy, nothing
from tests.support import make_image, make_pad
from tests.support.objects import KEYS, STRONG, moto
from tests.support.scripted import Answer, Scripted

from .cli_tools import Shell

PAD = make_pad(1)
FACTS = {"abilities": list(STRONG)}
ID, SECRET, TOKEN = "AKIDPROFILE", "pr0f1le/s3cr3t", "t0ken"
GONE = Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without profiles, an environment without credentials, and no machine role to ask."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")) or name.lower() in ("http_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")


def opened(url: str, **settings: Any) -> Network:
    objects = {name: settings.pop(name) for name in list(settings) if name.startswith("objects.")}
    chosen = resolve({**settings, **objects}, environ={})
    return open_network(url, pad_size=16384, base=Path("/"), settings=chosen, facts=FACTS)


def profiles(folder: Path, credentials: str = "", config: str = "") -> None:
    (folder / ".aws").mkdir(exist_ok=True)
    (folder / ".aws" / "credentials").write_text(credentials)
    (folder / ".aws" / "config").write_text(config)


KEYS_OF_IT = f"aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"


def signer(script: Scripted, **settings: Any) -> str:
    """The access key that a request is signed with, and the region."""
    with pytest.raises(AnthillError, match="never written"):
        opened(f"s3://bucket?endpoint={script.url}", **settings).read(PAD)
    key, _, region, _, _ = script.requests[-1].headers["authorization"].partition("Credential=")[2].split(",")[0].split("/")
    return f"{key} {region}"


# -- credentials


def test_credentials_come_from_settings_before_the_environment_before_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(tmp_path, f"[default]\n{KEYS_OF_IT}", "[default]\nregion = eu-north-1\n")
    with Scripted(GONE) as script:
        assert signer(script) == f"{ID} eu-north-1"
        assert signer(script, **{"objects.region": "eu-south-1"}) == f"{ID} eu-south-1"
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        assert signer(script) == f"{KEYS['AWS_ACCESS_KEY_ID']} us-east-1"
        chosen = {"objects.access_key_id": "AKIDSETTING", "objects.secret_access_key": "x", "objects.region": "eu-south-2"}
        assert signer(script, **chosen) == "AKIDSETTING eu-south-2"


def test_the_profile_that_is_named_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = KEYS_OF_IT.replace(ID, "AKIDOTHER") + f"aws_session_token = {TOKEN}\n"
    profiles(tmp_path, f"[default]\n{KEYS_OF_IT}\n[work]\n{other}", "[profile work]\nregion = eu-central-1\n")
    with Scripted(GONE) as script:
        assert signer(script, **{"objects.profile": "work"}) == "AKIDOTHER eu-central-1"
        assert script.requests[-1].headers["x-amz-security-token"] == TOKEN
        monkeypatch.setenv("AWS_PROFILE", "work")
        assert signer(script) == "AKIDOTHER eu-central-1"
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        assert signer(script) == "AKIDOTHER eu-west-3"


def test_a_profile_named_in_the_settings_is_used_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(tmp_path, f"[work]\n{KEYS_OF_IT}")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with Scripted(GONE) as script:
        assert signer(script, **{"objects.profile": "work"}) == f"{ID} us-east-1"


@pytest.mark.parametrize("config", ["role_arn = arn:aws:iam::1:role/x", "sso_session = x", "credential_process = /bin/x"])
def test_a_profile_that_only_says_how_to_get_keys_is_refused_with_the_way_out(tmp_path: Path, config: str) -> None:
    profiles(tmp_path, config=f"[profile work]\n{config}\n")
    with pytest.raises(ConfigurationError, match="aws configure export-credentials --profile work"):
        opened("s3://bucket", **{"objects.profile": "work"})
    assert profile_options(None, {"HOME": str(tmp_path)}) == {}


def test_a_profile_that_is_nowhere_is_named_with_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(ConfigurationError, match=r"'nowhere'.*\.aws/config.*\.aws/credentials"):
        opened("s3://bucket")


def test_the_files_of_profiles_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"[default]\n{KEYS_OF_IT}")
    environ = {"HOME": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys")}
    assert profile_options(None, environ) == {"access_key_id": ID, "secret_access_key": SECRET}


@pytest.mark.parametrize("text", [f"{SECRET}\n", f"[default]\n{SECRET}\n", f"[default\n{SECRET}=x"])
def test_a_file_of_profiles_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    profiles(tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"\.aws/credentials: not in the format") as caught:
        opened("s3://bucket")
    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)


def test_a_file_of_profiles_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "folder"))
    with pytest.raises(ConfigurationError, match="folder: Is a directory"):
        opened("s3://bucket")


def test_no_credentials_anywhere_is_77_and_says_where_they_were_looked_for() -> None:
    with pytest.raises(AccessDenied, match=r"no credentials: .*environment.*profile") as caught:
        opened("s3://bucket?endpoint=http://127.0.0.1:9").read(PAD)
    assert caught.value.exit_code == 77


def test_profiles_are_for_s3_only(tmp_path: Path) -> None:
    profiles(tmp_path, SECRET)
    opened("gs://bucket", **{"objects.bearer_token": "x"}).close()


# -- settings


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"objects\.nonsense is no setting of this store"):
        opened("s3://bucket", **{"objects.nonsense": "1"})


@pytest.mark.parametrize("name", ["bucket", "bucket_name"])
def test_the_bucket_is_named_in_the_url_only(name: str) -> None:
    with pytest.raises(ConfigurationError, match="the network URL names it"):
        opened("s3://bucket", **{f"objects.{name}": "other"})


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("az://container?account=colony", {"objects.account_key": f"!{SECRET}"}),
        ("gs://bucket", {"objects.service_account_key": SECRET}),
        ("s3://bucket", {"objects.virtual_hosted_style_request": SECRET}),
    ],
)
def test_a_setting_that_is_not_understood_is_not_quoted(url: str, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="not understood") as caught:
        opened(url, **settings)
    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)


def test_azure_needs_an_account() -> None:
    with pytest.raises(ConfigurationError, match=r"\?account="):
        opened("az://container")


def test_buckets_may_be_part_of_the_host_s_name() -> None:
    with Scripted(GONE) as script:
        for settings, path in (({}, "/bucket/team/"), ({"objects.virtual_hosted_style_request": "true"}, "/team/")):
            keys = {"objects.access_key_id": "x", "objects.secret_access_key": "y"}
            with pytest.raises(AnthillError, match="never written"):
                opened(f"s3://bucket/team?endpoint={script.url}", **keys, **settings).read(PAD)
            assert script.requests[-1].path == f"{path}{PAD.address}"


@pytest.mark.parametrize(
    ("scheme", "settings", "header"),
    [
        ("gs", {"objects.bearer_token": "t"}, "authorization"),
        ("az", {"objects.account_name": "colony", "objects.account_key": "a2V5"}, "authorization"),
    ],
)
def test_other_stores_get_the_same_requests_with_their_own_headers(scheme: str, settings: dict[str, str], header: str) -> None:
    with Scripted(Answer(201, headers={"ETag": '"1"', "x-goog-generation": "7"})) as script:
        opened(f"{scheme}://bucket/team?endpoint={script.url}", **settings).write(PAD, make_image(b"image"))
    (request,) = script.requests
    assert (request.method, request.body) == ("PUT", b"image")
    assert unquote(request.path).split("?")[0].endswith(f"bucket/team/{PAD.address}")
    assert header in request.headers
    prefix = {"gs": "x-goog-meta-", "az": "x-ms-meta-"}[scheme]
    assert request.headers[f"{prefix}anthillcounter"] == "1"


# -- on the way


@pytest.mark.parametrize("where", ["url", "settings", "environment"])
def test_plain_http_to_another_machine_has_to_be_allowed(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, settings = "s3://bucket", {}
    if where == "url":
        url += "?endpoint=http://objects.example:9000"
    elif where == "settings":
        settings = {"objects.endpoint": "http://objects.example:9000"}
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://objects.example:9000")
    with pytest.raises(ConfigurationError, match=r"\(objects\.example\).*allow_plain_http"):
        opened(url, **settings)
    opened(url, allow_plain_http=True, **settings).close()


def test_time_limits_bound_each_request_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def store(bucket: str, **options: Any) -> object:
        seen.update(options)
        return object()

    monkeypatch.setitem(vars(object_stores)["_STORES"], "s3", store)
    opened("s3://bucket", deadline_base=10, deadline_rate=1024, connect_timeout=3, read_timeout=0)
    client = seen["client_options"]
    assert [client[name].total_seconds() for name in ("connect_timeout", "read_timeout", "timeout")] == [3, 26, 26]
    assert seen["retry_config"]["max_retries"] == 0
    assert client["allow_http"] is False


def test_a_private_authority_is_trusted_when_named_and_only_then(tmp_path: Path) -> None:
    from tests.support.certificates import make_certificate

    certificate, key = make_certificate(tmp_path, authority=False)
    with Scripted(GONE, tls=(certificate, key)) as script:
        url = f"s3://bucket?endpoint={script.url}"
        keys = {"objects.access_key_id": "x", "objects.secret_access_key": "y"}
        with pytest.raises(ProtocolError, match=r"certificate is refused.*ca_file") as caught:
            opened(url, **keys).read(PAD)
        assert caught.value.exit_code == 76
        with pytest.raises(AnthillError, match="never written"):
            opened(url, ca_file=str(certificate), **keys).read(PAD)


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: No such file"):
        opened("s3://bucket", ca_file=str(tmp_path / "nowhere"))
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationError, match="ca_file holds no certificate"):
        opened("s3://bucket", ca_file=str(tmp_path / "empty"))


def test_tls_to_a_plain_server_is_a_protocol_error() -> None:
    keys = {"objects.access_key_id": "x", "objects.secret_access_key": "y"}
    with Scripted(GONE) as script, pytest.raises(ProtocolError, match="TLS"):
        opened(f"s3://bucket?endpoint={script.url.replace('http:', 'https:')}", **keys).read(PAD)


def test_a_proxy_is_used_and_the_environment_s_is_not_asked_for_our_own_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"objects.access_key_id": "x", "objects.secret_access_key": "y"}
    url = f"s3://{moto().bucket()}?endpoint={moto().endpoint}"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    opened(url, **keys).write(PAD, make_image(b"image"))
    with pytest.raises(TransientNetworkError, match="connection refused"):
        opened(url, proxy="http://127.0.0.1:9", **keys).read(PAD)


# -- the command


def test_a_store_on_s3_is_made_used_and_described_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    shell = Shell(tmp_path / "home")
    with Proxy(moto().endpoint) as proxy:
        url = f"s3://{moto().bucket()}/pads?endpoint={proxy.url}"
        assert f"network: {url}\n" in shell.ok("init", "--pad-size", "16KiB", "--network", url).out
        shell.ok("put", "key", "-", stdin=b"value" * 10_000)
        assert shell.ok("get", "key").data == b"value" * 10_000
        usage = shell.ok("usage").out
    assert "abilities create/metadata/if-match/ranges/delete" in usage
    kept = (tmp_path / "home" / "config.json").read_text()
    assert '"if-match"' in kept
    assert not [value for name, value in KEYS.items() if "KEY" in name and value in kept + usage]


def test_a_secret_in_the_settings_table_is_used_and_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, url = tmp_path / "home", f"s3://{moto().bucket()}?endpoint={moto().endpoint}"
    settings = {"objects.access_key_id": ID, "objects.secret_access_key": SECRET, "objects.region": "us-east-1"}
    with Store.create(home, network=url, pad_size=16384, settings=settings) as store:
        store["k"] = b"v"
    assert stat.S_IMODE((home / "config.json").stat().st_mode) == 0o600
    shell = Shell(home)
    assert shell.ok("get", "k").data == b"v"
    assert SECRET not in shell.ok("config").out + shell.ok("usage").out
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>"), 69, "no such bucket"),
        (Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"), 77, "secret key is wrong"),
        (Answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>"), 77, "clock is wrong"),
        (Answer(400, b"<Error><Code>ExpiredToken</Code></Error>"), 77, "has expired"),
        (Answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"), 78, "?region="),
        (Answer(500), 75, "failed"),
    ],
)
def test_what_init_is_told_has_its_exit_code_and_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, code: int, words: str
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with Scripted(answer) as script:
        result = Shell(tmp_path / "home")("init", "--set", "backoff_base=0", "--network", f"s3://bucket?endpoint={script.url}")
    assert len(script.requests) == (Settings().attempts if code == 75 else 1)
    assert (result.code, words in result.err) == (code, True), result.err
    assert not (tmp_path / "home" / "config.json").exists()
    assert not [value for name, value in KEYS.items() if "KEY" in name and value in result.err]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith(("obstore", "anthill_sync.networks.object"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"anthill_sync\[objects\]"):
        opened("s3://bucket")


@pytest.mark.parametrize(
    ("scheme", "settings", "header"),
    [
        ("s3", {"objects.access_key_id": "x", "objects.secret_access_key": "y"}, ("if-match", '"1"')),
        ("gs", {"objects.bearer_token": "t"}, ("x-goog-if-generation-match", "7")),
        ("az", {"objects.account_name": "colony", "objects.account_key": "a2V5"}, ("if-match", '"1"')),
    ],
)
def test_a_later_image_names_the_one_before_as_each_store_wants_it(
    scheme: str, settings: dict[str, str], header: tuple[str, str]
) -> None:
    with Scripted(Answer(201, headers={"ETag": '"1"', "x-goog-generation": "7"})) as script:
        network = opened(f"{scheme}://bucket?endpoint={script.url}", **settings)
        network.write(PAD, make_image(b"first"))
        network.write(PAD, make_image(b"second", 2))
    assert script.requests[1].headers[header[0]] == header[1]


# -- what it costs, as docs/object-stores.rst says


WEAK = ("create", "metadata", "ranges")
PAD_SIZE = 16 * 1024
CHUNK = 15 * 1024


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(moto().endpoint) as running:
        yield running


def asked(proxy: Proxy, action: Callable[[], object]) -> dict[str, int]:
    proxy.reset(nothing)
    action()
    return dict(proxy.methods)


BARE = ("create", "ranges")
COSTS: dict[tuple[str, ...], dict[str, dict[str, int]]] = {
    STRONG: {"new": {"PUT": 41}, "again": {"PUT": 1}, "again, reopened": {"GET": 1, "HEAD": 1, "PUT": 1}},
    WEAK: {
        "new": {"PUT": 41},
        "again": {"PUT": 1, "HEAD": 2},
        "again, reopened": {"GET": 1, "PUT": 1, "HEAD": 1},
    },
    BARE: {
        "new": {"PUT": 41, "HEAD": 41, "GET": 41},
        "again": {"GET": 2, "PUT": 1, "HEAD": 1},
        "again, reopened": {"GET": 2, "PUT": 1, "HEAD": 1},
    },
}


@pytest.mark.parametrize("abilities", COSTS, ids=["if-match", "metadata", "neither"])
def test_puts_and_gets_cost_the_requests_that_are_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, abilities: tuple[str, ...]
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "probe", lambda bucket, settings: abilities)
    costs, url = COSTS[abilities], f"s3://{moto().bucket()}?endpoint={proxy.url}"
    with Store.create(tmp_path / "home", network=url, pad_size=PAD_SIZE) as store:
        assert asked(proxy, lambda: store.put("large", bytes(40 * CHUNK + 100))) == costs["new"]
        assert asked(proxy, lambda: store.put("small", b"1" * 100)) == costs["again"]
        assert asked(proxy, lambda: store["large"]) == {"GET": 41}
    with Store.open(tmp_path / "home") as store:
        assert asked(proxy, lambda: store.put("other", b"2" * 100)) == costs["again, reopened"]
        assert asked(proxy, lambda: [list(store), store.stat("large"), store.usage()]) == {}


def test_a_thousand_small_values_are_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with Store.create(tmp_path / "home", network=f"s3://{moto().bucket()}?endpoint={proxy.url}") as store:
        values = {f"small/{n}": b"%1024d" % n for n in range(1000)}
        asked(proxy, lambda: store.put_many(values))
        assert proxy.requests <= 20
        assert store["small/999"] == values["small/999"]


def test_making_a_store_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{moto().bucket()}?endpoint={proxy.url}"
    Store.create(tmp_path / "home", network=url, pad_size=PAD_SIZE).close()
    assert proxy.requests <= 40
    proxy.reset(nothing)
    Store.create(tmp_path / "second", network=url, key_file=tmp_path / "home" / "key", pad_size=PAD_SIZE).close()
    assert 65 < proxy.requests <= 40 + 65, "each pad that may hold the first image of a store with this key"
