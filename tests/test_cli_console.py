"""The command line's own pieces, without a store: usage errors, words, signals, pictures."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from anthill_sync.cli_output import fill_standard_descriptors, system_failure
from anthill_sync.cli_signals import GRACE_SECONDS, Signals, Stopped
from anthill_sync.render import human_size, long_listing, plural, printable, timestamp
from anthill_sync.summaries import Entry

from .cli_tools import PATIENCE, ROOT, call, environment, run

COMMANDS = ["init", "config", "put", "get", "ls", "stat", "mv", "rm", "usage", "resume", "abandon", "reserve", "trim", "check"]
COMMANDS += ["drill", "repair", "recover", "serve", "completion", "key"]


def test_help_lists_every_command() -> None:
    result = call("--help")
    assert result.code == 0
    assert re.findall(r"^  (\w+)  ", result.out.split("Commands:")[1], re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "key"])
def test_every_command_has_help_with_the_common_options(name: str) -> None:
    result = call(name, "--help")
    assert result.code == 0
    for option in ("--home", "--quiet", "--verbose", "--log-file", "--passphrase-file"):
        assert option in result.out


@pytest.mark.parametrize("name", ["put", "mv", "rm", "resume", "abandon", "reserve", "trim"])
def test_commands_that_change_the_store_take_lock_wait(name: str) -> None:
    assert "--lock-wait" in call(name, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("ls", "--no-such-option"),
        ("put", "key"),
        ("reserve", "many"),
        ("reserve", "0"),
        ("get", "key", "--offset", "far"),
        ("init", "--pad-size", "huge"),
        ("init", "--set", "novalue"),
        ("check", "--sample", "200"),
        ("put", "key", "file", "--checksum"),
        ("get", "key", "-r"),
        ("rm", "-r", ""),
        ("ls", "\udcff"),
    ],
    ids=lambda arguments: " ".join(arguments).encode("ascii", "replace").decode() or "nothing",
)
def test_usage_errors_are_64_and_one_line(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.code == 64
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("anthill: ")


@pytest.mark.parametrize("wanted", [("--json",), ("--progress", "json"), ("--progress=json",)], ids=" ".join)
def test_usage_errors_are_json_where_json_was_asked_for(wanted: tuple[str, ...]) -> None:
    result = call("put", "key", *wanted)
    assert result.error == {"error": result.error["error"], "code": 64, "key": None, "pad": None, "resume": False}
    assert "SOURCE" in result.error["error"]


def test_json_behind_two_dashes_is_a_word_like_others() -> None:
    assert call("put", "--", "--json").err.startswith("anthill: ")


def test_version_is_printed() -> None:
    result = run("--version")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"anthill \d+\.\d+\S*\n", result.out)


def test_starting_imports_neither_the_store_nor_bars_nor_http() -> None:
    program = "import sys, anthill_sync.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    late = {"anthill_sync.store", "tqdm", "requests", "urllib3", "cryptography", "click", "rich", "asyncio"}
    assert late.isdisjoint(loaded)


def test_only_the_command_line_imports_typer_and_only_progress_tqdm() -> None:
    for path in (ROOT / "anthill_sync").rglob("*.py"):
        text = path.read_text()
        assert path.stem == "console" or path.stem.startswith("cli") or "typer" not in text, path
        assert path.stem == "progress" or not re.search(r"^\s*(from|import) tqdm", text, re.MULTILINE), path
        assert not re.search(r"^\s*(from|import) click", text, re.MULTILINE), path


# -- signals


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("handlers")
def test_a_signal_raises_like_ctrl_c(number: int) -> None:
    with Signals() as signals:
        with pytest.raises(Stopped):
            signal.raise_signal(number)
        assert signals.received == number
    assert issubclass(Stopped, KeyboardInterrupt)


@pytest.mark.usefixtures("handlers")
def test_signals_while_cleaning_up_are_ignored() -> None:
    with Signals() as signals:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGTERM


@pytest.mark.usefixtures("handlers")
def test_a_deferred_signal_is_raised_once_at_the_end() -> None:
    with Signals() as signals:
        steps = []

        def draw() -> None:
            with signals.deferred():
                signal.raise_signal(signal.SIGINT)
                steps.append("whole")

        with pytest.raises(Stopped):
            draw()
        with signals.deferred():
            steps.append("cleaned up")
    assert steps == ["whole", "cleaned up"]


@pytest.mark.usefixtures("handlers")
def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("handlers")
def test_signals_ignored_at_start_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.fixture
def no_switching() -> Iterator[None]:
    """A thread that runs goes on until it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("handlers", "no_switching")
def test_a_signal_that_another_thread_received_ends_a_wait_for_a_lock() -> None:
    """As one does that comes in the moment before the wait begins: the interpreter tells the main thread of neither."""
    taken, about_to_wait, over = threading.Semaphore(0), threading.Event(), threading.Event()
    rescued = []

    def receive() -> None:
        about_to_wait.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not over.wait(PATIENCE):
            rescued.append("the main thread noticed nothing")
            taken.release()

    receiver = threading.Thread(target=receive)
    receiver.start()
    with Signals() as signals:
        with pytest.raises(Stopped):  # noqa: PT012
            about_to_wait.set()
            taken.acquire()
        assert signals.received == signal.SIGTERM
    over.set()
    receiver.join()
    assert rescued == []


@pytest.mark.usefixtures("handlers")
def test_what_wakes_the_main_thread_ends_with_the_command() -> None:
    before, files = threading.active_count(), os.listdir("/dev/fd")
    with Signals():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert os.listdir("/dev/fd") == files
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_after_the_grace_ends_the_process_at_once(tmp_path: Path) -> None:
    program = f"""
import signal
from anthill_sync.cli_signals import Signals, Stopped
now = [0.0]
with Signals(clock=lambda: now[0]):
    try:
        signal.raise_signal(signal.SIGTERM)
    except Stopped:
        now[0] = {GRACE_SECONDS} + 1
        signal.raise_signal(signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-c", program], env=environment()).returncode == -signal.SIGTERM


# -- words


def test_errors_of_the_system_have_their_codes() -> None:
    codes = {name: system_failure(OSError(getattr(__import__("errno"), name), "x")).exit_code for name in _ERRNOS}
    assert codes == _ERRNOS


_ERRNOS = {"ENOENT": 66, "EACCES": 77, "EROFS": 77, "ENOSPC": 73, "EDQUOT": 73, "EIO": 74, "EMFILE": 74}


def test_words_cannot_drive_a_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\udcffd\u202ee é") == "a\\x1b[2Jb\\nc\\udcffd\\u202ee é"


def test_sizes_are_readable() -> None:
    assert [human_size(n) for n in (0, 1023, 1024, 1536, 4 * 1024**2, 5 * 1024**5)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "4.0 MiB",
        "5120.0 TiB",
    ]
    assert (plural(1, "pad"), plural(1234, "pad")) == ("1 pad", "1,234 pads")


def test_times_are_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert timestamp(datetime(2026, 11, 21, 12, 0, tzinfo=east)) == "2026-11-21T10:00:00.000000Z"


def test_long_listings_are_aligned() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    entries = [Entry("a", 5, 1, moment, 1, {}), Entry("b", 12345, 22, moment, 3, {})]
    assert long_listing(entries) == (
        "    5   1  2026-01-01T00:00:00.000000Z  1  a\n12345  22  2026-01-01T00:00:00.000000Z  3  b\n"
    )
    assert long_listing([]) == ""


# -- standard streams


def test_closed_standard_descriptors_are_occupied() -> None:
    program = (
        "import os; from anthill_sync.cli_output import fill_standard_descriptors as f; f(); print(os.open('/', os.O_RDONLY))"
    )
    script = f'exec "{sys.executable}" -c "{program}" <&- 2>&-'
    assert int(subprocess.run(["/bin/sh", "-c", script], env=environment(), capture_output=True).stdout) > 2
    fill_standard_descriptors()  # and does nothing where they are open


@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_help_onto_a_full_disk_is_73(arguments: str) -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "anthill_sync", arguments], env=environment(), stdout=full, stderr=subprocess.PIPE
        )
    assert process.returncode == 73
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_a_reader_of_help_that_goes_away_is_141(arguments: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(
        [sys.executable, "-m", "anthill_sync", arguments], env=environment(), stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    assert (process.returncode, process.stderr) == (141, b"")
