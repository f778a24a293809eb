"""`manage.py record` as a user runs it: what the file holds, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from relay.lib.clock import wall_ms
from relay.upstream.recorder import FrameFile
from tests.commands import refused
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.processes import MANAGE, PATIENCE, Program, Programs, run, until
from tests.redis_server import free_port
from tests.stopwatch import Stopwatch
from tests.terminal.terminal import CTRL_C, Terminal

BOOK, TRADES, TICKER = BookFeed("AUSDT"), TradesFeed("AUSDT"), TickerFeed("BUSDT")
ODD = '{"topic":"publicTrade.AUSDT", "type":"snapshot",\t"ts":1,"data":[{"i":"é\\u00e9"}] }'


def read(path: Path) -> list[str]:
    """Return the lines of a recording; it must be whole."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    assert text == "" or text.endswith("\n")
    return text.splitlines()


def said_in(path: Path) -> list[str]:
    """Return what the exchange said, answers included, without the times of arrival."""
    return [line for line in read(path) if not line.startswith('{"at":')]


def frames(path: Path) -> list[str]:
    """Return the messages of topics in a raw recording."""
    return [line for line in read(path) if "topic" in json.loads(line)]


def record(programs: Programs, exchange: StandIn, path: Path, *topics: str) -> Program:
    command = (*MANAGE, "record", *topics, "--out", str(path))
    return programs.start("record", *command, UPSTREAM_URL=exchange.url)


async def until_held(program: Program, path: Path, count: int) -> None:
    """Return when a plain recording has so many lines of topics."""
    await until(
        lambda: path.exists() and len(frames(path)) >= count, PATIENCE, f"{count}; {program.output}"
    )


async def stop(program: Program, number: signal.Signals = signal.SIGTERM) -> None:
    with Stopwatch(program.process.pid) as watch:
        program.signal(number)
        assert await program.end() == 0, program.output
    assert watch.seconds < 5


async def played(
    programs: Programs, path: Path, category: str, count: int, *topics: str
) -> list[str]:
    """Have the simulator play a recording as fast as it can; return what a client is sent."""
    port = await programs.simulator("--replay", str(path), "--speed", "0")
    async with connect(f"ws://127.0.0.1:{port}/v5/public/{category}", compression=None) as one:
        await one.send(json.dumps({"op": "subscribe", "args": topics}))
        got: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while len(got) < count:
                text = str(await one.recv())
                if "topic" in json.loads(text):
                    got.append(text)
        return got


@pytest.mark.parametrize("name", ["session.jsonl", "session.jsonl.gz"])
async def test_a_recording_is_what_was_said_and_is_played_byte_for_byte(
    name: str, exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path, topics = tmp_path / name, (f"spot:{BOOK.topic}", f"spot:{TRADES.topic}")
    program = record(programs, exchange, path, *topics)
    await exchange.until_followed("spot", BOOK.topic, TRADES.topic)
    said = [BOOK.snapshot(), TRADES.trade(3), ODD, *(BOOK.delta() for _ in range(200))]
    for text in said:
        await exchange.say("spot", json.loads(text)["topic"], text)
    await exchange.say_raw("spot", "not JSON")
    await exchange.say_raw("spot", b"\x00\xff", text=False)
    await until(lambda: "binary" in program.output, PATIENCE, "all has come")
    await stop(program)
    assert frames(path) == said
    assert all("success" in line for line in said_in(path) if line not in said)
    assert "203 messages" in program.output
    assert await played(programs, path, "spot", len(said), BOOK.topic, TRADES.topic) == said


async def test_frames_of_several_categories_are_wrapped_and_played_in_their_own(
    exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "both.jsonl.gz"
    program = record(programs, exchange, path, f"spot:{BOOK.topic}", TICKER.topic)
    await exchange.until_followed("spot", BOOK.topic)
    await exchange.until_followed("linear", TICKER.topic)
    said = {
        ("spot", BOOK.topic): [BOOK.snapshot(), BOOK.delta()],
        ("linear", TICKER.topic): [*TICKER.greeting(), TICKER.delta()],
    }
    for (category, topic), texts in said.items():
        for text in texts:
            await exchange.say(category, topic, text)
    await exchange.say_raw("linear", b"the end", text=False)
    await exchange.say_raw("spot", b"the end", text=False)
    await until(lambda: program.output.count("binary") == 2, PATIENCE, "all has come")
    await stop(program)
    kept = [json.loads(line) for line in said_in(path)]
    assert all(set(line) == {"category", "message"} for line in kept)
    for (category, topic), texts in said.items():
        assert await played(programs, path, category, len(texts), topic) == texts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
async def test_a_signal_in_the_midst_of_a_flood_leaves_a_whole_file(
    number: signal.Signals, name: str, programs: Programs, tmp_path: Path
) -> None:
    port = await programs.simulator("--rate", "500")
    path = tmp_path / name
    program = programs.start(
        "record",
        *(*MANAGE, "record", "orderbook.50.BTCUSDT", "orderbook.50.ETHUSDT", "--out", str(path)),
        UPSTREAM_URL=f"ws://127.0.0.1:{port}/v5/public",
    )
    await until(lambda: "is open" in program.output, PATIENCE, "connected")
    if name.endswith(".gz"):  # where all waits for long
        await asyncio.sleep(2)
    else:
        await until_held(program, path, 50)
    await stop(program, number)
    kept = frames(path)
    assert kept
    ids = [json.loads(line)["data"]["u"] for line in kept if "BTCUSDT" in line]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_a_killed_recorder_leaves_whole_lines(
    exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    program = record(programs, exchange, path, BOOK.topic)
    await exchange.until_followed("linear", BOOK.topic)
    said = [BOOK.snapshot(), BOOK.delta()]
    for text in said:
        await exchange.say("linear", BOOK.topic, text)
    await until_held(program, path, 2)
    program.kill()
    assert frames(path) == said


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_file_is_whole_after_each_flush(name: str, tmp_path: Path) -> None:
    file = FrameFile(tmp_path / name)
    for line, at in ((b'{"n":1}', 7), (b'{"n":2}', 7)):
        file.add(line, at)
        file.flush()
    file.add(b'{"n":3}', 8)
    assert read(tmp_path / name) == ['{"at":7}', '{"n":1}', '{"n":2}']
    file.close()
    assert read(tmp_path / name) == ['{"at":7}', '{"n":1}', '{"n":2}', '{"at":8}', '{"n":3}']


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_recording_of_nothing_leaves_no_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FrameFile(path).close()
    assert not path.exists()
    path.write_bytes(b"")  # somebody else's, such as mktemp's
    FrameFile(path).close()
    assert path.exists()


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_what_is_to_be_replaced_stays_until_something_came(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious\n")
    FrameFile(path, overwrite=True).close()
    assert path.read_bytes() == b"precious\n"
    file = FrameFile(path, overwrite=True)
    file.add(b"{}", 1)
    file.close()
    assert read(path) == ['{"at":1}', "{}"]


async def test_a_recorder_without_an_exchange_writes_nothing_and_says_so(
    programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl.gz"
    command = (*MANAGE, "record", BOOK.topic, "--out", str(path))
    for _ in range(2):  # the second is not refused for what the first left
        nowhere = f"ws://127.0.0.1:{free_port()}/v5/public"
        program = programs.start("record", *command, UPSTREAM_URL=nowhere)
        await until(lambda log=program.log: "WARNING" in log.read_text(), PATIENCE, "a vain try")
        await stop(program)
        assert program.output.endswith(
            f"Nothing came from the exchange, so {path} was not written.\n"
        )
        assert not path.exists()


async def test_each_frame_is_kept_with_the_time_at_which_it_arrived(
    exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    program = record(programs, exchange, path, BOOK.topic)
    await exchange.until_followed("linear", BOOK.topic)
    sent: list[tuple[int, str]] = []
    for text in (BOOK.snapshot(), BOOK.delta(), BOOK.delta()):
        sent.append((wall_ms(), text))
        await exchange.say("linear", BOOK.topic, text)
        await until_held(program, path, len(sent))
    ended = wall_ms()
    await stop(program)
    arrived: dict[str, int] = {}
    at = 0
    for line in read(path):
        if line.startswith('{"at":'):
            at = json.loads(line)["at"]
        else:
            arrived[line] = at
    times = [arrived[text] for _, text in sent]
    assert all(said_at <= at for (said_at, _), at in zip(sent, times, strict=True)), (sent, times)
    assert times == sorted(times)
    assert times[0] < sent[1][0]  # the second was sent when the first had been written
    assert times[-1] <= ended


async def test_after_a_loss_it_goes_on_and_invents_nothing(
    exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    program = record(programs, exchange, path, BOOK.topic)
    await exchange.until_followed("linear", BOOK.topic)
    said = [BOOK.snapshot(), BOOK.delta()]
    for text in said:
        await exchange.say("linear", BOOK.topic, text)
    await until_held(program, path, 2)
    exchange.lines[0].cut()
    await exchange.until(lambda: exchange.opened["linear"] == 2, "it comes back")
    await exchange.until_followed("linear", BOOK.topic)
    said.append(BOOK.snapshot())
    await exchange.say("linear", BOOK.topic, said[-1])
    await until_held(program, path, 3)
    await stop(program)
    assert frames(path) == said


async def test_a_full_disk_ends_it_with_one_sentence_and_a_whole_file(
    programs: Programs, tmp_path: Path
) -> None:
    port = await programs.simulator("--rate", "200")
    path = tmp_path / "x.jsonl"
    command = (*MANAGE, "record", "orderbook.200.BTCUSDT", "--out", str(path))
    program = programs.start(
        "record",
        *("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *command),  # files of 32 or 64 KiB
        UPSTREAM_URL=f"ws://127.0.0.1:{port}/v5/public",
    )
    assert await program.end() == 1
    assert program.output.endswith(f"Cannot write on in {path}: File too large.\n")
    assert len(frames(path)) > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["candles.1.X", "--out", "x"], "Unknown topic: candles.1.X."),
        (["orderbook.7.X", "--out", "x"], "Bad levels: 7; linear has 1, 50, 200, 500, 1000."),
        (["moon:tickers.X", "--out", "x"], "Bad category: moon."),
        (["tickers.BTCUSDT"], "The following arguments are required: --out."),
        (["--out", "x"], "The following arguments are required: TOPIC."),
        (["tickers.X", "--out", "/nowhere/x"], "Cannot write /nowhere/x: No such file or direct"),
        (["tickers.X", "--out", "/"], "Cannot write /: Is a directory."),
        (["tickers.X", "--out", __file__], f"{__file__} is not empty: choose another file, or"),
    ],
)
def test_a_wrong_argument_ends_it_with_one_sentence_and_status_2(
    arguments: list[str], words: str
) -> None:
    ended = refused("record", *arguments)
    assert (ended.status, ended.output) == (2, "")
    assert ended.errors.startswith(words)
    assert ended.errors.count("\n") == 1


def test_a_wrong_setting_ends_it_with_one_sentence_and_status_2(tmp_path: Path) -> None:
    command = (*MANAGE, "record", "tickers.X", "--out", str(tmp_path / "x"))
    result = run(*command, UPSTREAM_URL="https://x")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "UPSTREAM_URL" in result.stderr


async def test_topics_that_the_exchange_does_not_have_end_it(
    programs: Programs, tmp_path: Path
) -> None:
    port = await programs.simulator()
    url = f"ws://127.0.0.1:{port}/v5/public"
    path = tmp_path / "x.jsonl"
    command = (*MANAGE, "record", "tickers.NONE", "orderbook.1.NIL", "--out", str(path))
    result = await asyncio.to_thread(run, *command, UPSTREAM_URL=url)
    assert result.returncode == 2
    said = result.stderr.splitlines()[-1]
    assert said.startswith("The exchange refuses linear:")
    assert "tickers.NONE" in said
    assert not path.exists()


async def test_a_file_is_replaced_on_demand_alone_and_never_shared(
    exchange: StandIn, programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("precious\n")
    command = (*MANAGE, "record", BOOK.topic, "--out", str(path), "--overwrite")
    program = programs.start("record", *command, UPSTREAM_URL=exchange.url)
    await exchange.until_followed("linear", BOOK.topic)
    second = await asyncio.to_thread(run, *command, UPSTREAM_URL=exchange.url)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"{path} is being written by another recorder.\n"
    said = BOOK.snapshot()
    await exchange.say("linear", BOOK.topic, said)
    await until(lambda: "precious" not in path.read_text(), PATIENCE, "the file is replaced")
    await until_held(program, path, 1)
    await stop(program)
    assert frames(path) == [said]


async def test_on_a_terminal_it_counts_in_place(exchange: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    command = (*MANAGE, "record", BOOK.topic, "--out", str(path))
    async with Terminal.running(*command, UPSTREAM_URL=exchange.url, columns=140) as terminal:
        before = terminal.settings
        await exchange.until_followed("linear", BOOK.topic)
        for text in (BOOK.snapshot(), BOOK.delta(), BOOK.delta()):
            await exchange.say("linear", BOOK.topic, text)
        await terminal.until_shown("linear live", "3 messages")
        exchange.is_shut = True
        exchange.lines[0].cut()  # what is logged goes above the line, not through it
        await terminal.until_shown("linear not connected", "connection 1 broke")
        assert terminal.text.count("messages/s") == 1
        terminal.type(CTRL_C)
        assert await terminal.end() == 0
        assert "3 messages" in terminal.text
        assert terminal.settings == before
        assert terminal.raw.count(b"\x1b[?25h") == terminal.raw.count(b"\x1b[?25l") == 1
    assert len(frames(path)) == 3
