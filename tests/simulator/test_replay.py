"""Recordings are played byte for byte, in file order, at the pace that was asked for."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from relay.simulator.replay import Player, Recording, RecordingError
from relay.simulator.server import REPLAY_UNSENT, Simulator
from relay.simulator.topics import Category
from tests.processes import PATIENCE
from tests.recordings import COLLECTIONS, SESSIONS, category_of, each, market_frames, messages
from tests.simulator.reference import client, control, eventually

A, B = "orderbook.50.AUSDT", "publicTrade.BUSDT"


def frame(topic: str, ts: int | None, n: int = 0) -> bytes:
    clock = "" if ts is None else f'"ts":{ts},'
    return f'{{"topic":"{topic}",{clock} "data":{n}}}'.encode()


LINES = [
    b'{"success":true,"op":"subscribe"}',
    frame(A, 1000, 1),
    frame(B, 1010, 2),
    frame(A, 1100, 3),
    frame(B, 1050, 4),  # out of order, as between topics of one socket
    frame(A, None, 5),
    frame(A, 1200, 6),
]
FRAMES = LINES[1:]


def player(speed: float = 1.0) -> Player:
    return Player(Recording(LINES).topics[Category.LINEAR], speed)


def test_frames_are_played_at_their_own_pace() -> None:
    one = player()
    one.add([A, B], 50_000)
    assert one.take(50_000, 10) == FRAMES[:1]
    assert one.wait(50_000) == pytest.approx(0.010)
    assert one.take(50_099, 10) == FRAMES[1:2]
    assert one.take(50_100, 10) == FRAMES[2:5]
    assert one.wait(50_100) == pytest.approx(0.100)
    assert one.take(50_200, 10) == FRAMES[5:]
    assert one.wait(50_200) is None


def test_frames_are_played_at_the_pace_of_their_arrival_where_that_is_known() -> None:
    lines = [
        frame(A, 1000, 1),  # of an older file, to which the rest was added
        b'{"at":5000}',
        frame(A, 1001, 2),
        frame(B, None, 3),
        b'{"at":5250}',
        frame(A, 1002, 4),
    ]
    recording = Recording(lines)
    assert [(one.due, one.payload) for one in recording.topics[Category.LINEAR][A]] == [
        (1000, lines[0]),
        (5000, lines[2]),
        (5250, lines[5]),
    ]
    assert [one.due for one in recording.topics[Category.LINEAR][B]] == [5000]


def test_wrapped_frames_too_are_played_at_the_pace_of_their_arrival() -> None:
    wrapped = [
        b'{"category":"%s","message":%s}' % (category, frame(A, 1000, 1))
        for category in (b"spot", b"linear")
    ]
    recording = Recording([b'{"at":5000}', wrapped[0], b'{"at":5100}', wrapped[1]])
    dues = {name: topics[A][0].due for name, topics in recording.topics.items()}
    assert dues == {Category.SPOT: 5000, Category.LINEAR: 5100}


def test_the_end_is_news_once_each_time_everything_has_been_played() -> None:
    one = player(speed=0)
    assert not one.take_end()
    one.add([A], 0)
    assert not one.take_end()
    one.take(0, 100)
    assert one.take_end()
    assert not one.take_end()
    one.add([B], 0)
    assert not one.take_end()
    one.take(0, 100)
    assert one.take_end()
    one.remove([A, B])
    assert not one.take_end()


async def test_a_reader_and_the_log_are_told_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "relay.simulator")
    async with (
        Simulator(replay=Recording(LINES), speed=0) as simulator,
        client(simulator, "linear") as one,
    ):
        for _ in range(2):  # subscribing again plays it again
            await one.send(op="subscribe", args=[A, B])
            async with asyncio.timeout(PATIENCE):
                *before, end = await one.until(lambda message: message.get("op") == "pong")
            assert "the replay has ended" in end["ret_msg"]
            assert len([message for message in before if "topic" in message]) == len(FRAMES)
            await one.ask(op="unsubscribe", args=[A, B])
    assert caplog.text.count("the replay has ended") == 2


def test_frames_are_played_faster() -> None:
    one = player(speed=10)
    one.add([A, B], 0)
    assert one.take(0, 1) == FRAMES[:1]
    assert one.wait(0) == pytest.approx(0.001)
    assert one.take(10, 10) == FRAMES[1:5]
    assert one.wait(10) == pytest.approx(0.010)


def test_frames_are_played_as_fast_as_possible_in_file_order() -> None:
    one = player(speed=0)
    one.add([B, A], 0)
    assert one.take(0, 4) + one.take(0, 4) == FRAMES
    assert one.wait(0) is None


def test_a_topic_that_joins_late_is_played_whole() -> None:
    one = player()
    one.add([A], 0)
    assert one.take(100, 10) == [FRAMES[0], FRAMES[2], FRAMES[4]]
    one.add([B], 150)
    assert one.take(150, 10) == [FRAMES[1], FRAMES[3]]
    assert one.take(200, 10) == [FRAMES[5]]


def test_the_clock_starts_at_the_first_frame_of_the_first_topics() -> None:
    one = player()
    one.add([B], 0)
    assert one.take(0, 10) == [FRAMES[1]]
    one.add([A], 1)
    assert one.take(1, 10) == [FRAMES[0]]


def test_a_frame_without_a_time_is_due_with_the_one_before_it() -> None:
    lines = [frame(A, 1000), frame(B, None), frame(B, 1010)]
    one = Player(Recording(lines).topics[Category.LINEAR], 1.0)
    one.add([B], 0)
    assert one.take(0, 10) == lines[1:2]
    assert one.wait(0) == pytest.approx(0.010)


def test_a_topic_that_left_is_silent_and_starts_over_when_it_comes_back() -> None:
    one = player()
    one.add([A, B], 0)
    one.take(0, 10)
    one.remove([A])
    assert one.take(1000, 10) == [FRAMES[1], FRAMES[3]]
    one.add([A], 1000)
    assert one.take(1000, 10) == [FRAMES[0], FRAMES[2], FRAMES[4], FRAMES[5]]


def test_a_wrapped_recording_gives_each_frame_to_its_category(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for category, line in [("spot", FRAMES[0]), ("option", FRAMES[1]), ("spot", LINES[0])]:
            file.write(b'{"category": "%s", "source": "x", "message": ' % category.encode())
            file.write(line + b"}\r\n\n")
    topics = Recording.read(path).topics
    assert {
        (category, topic): [recorded.payload for recorded in frames]
        for category, found in topics.items()
        for topic, frames in found.items()
    } == {(Category.SPOT, A): [FRAMES[0]], (Category.OPTION, B): [FRAMES[1]]}


@pytest.mark.parametrize(
    ("name", "given", "categories"),
    [
        ("spot-session.jsonl", None, [Category.SPOT]),
        ("session.jsonl", None, list(Category)),
        ("spot-session.jsonl", Category.INVERSE, [Category.INVERSE]),
    ],
)
def test_the_category_of_a_raw_recording_is_given_or_guessed(
    tmp_path: Path, name: str, given: Category | None, categories: list[Category]
) -> None:
    (tmp_path / name).write_bytes(b"\n".join(LINES))
    assert list(Recording.read(tmp_path / name, given).topics) == categories


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no frame of a topic"),
        (LINES[0], "no frame of a topic"),
        (FRAMES[0] + b"\nhello\n", "line 2 is not a recorded frame"),
        (b"[1]\n", "line 1 is not"),
        (b'{"category":"futures","message":{"topic":"a"}}', "line 1 is not"),
        (b'{"topic":"a","ts":"now"}', "line 1 is not"),
        (b"\xff\xfe", "line 1 is not"),
    ],
)
def test_what_cannot_be_played_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=words):
        Recording.read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    (tmp_path / "plain.gz").write_bytes(b"{}")
    for name in ("missing", "torn.gz", "plain.gz", "."):
        with pytest.raises(RecordingError, match="cannot be read"):
            Recording.read(tmp_path / name)


@each(*SESSIONS)
@pytest.mark.parametrize("speed", [0, 1000.0])
async def test_a_recorded_session_reaches_the_socket_byte_for_byte(
    path: Path, speed: float
) -> None:
    frames = [line.encode() for _, line in market_frames(path)]
    topics = sorted({topic for topic, _ in market_frames(path)})
    async with Simulator(replay=Recording.read(path), speed=speed) as simulator:
        for _ in range(2):  # a new socket hears it from the start
            async with client(simulator, category_of(path)) as one:
                await one.send(op="subscribe", args=topics)
                heard: list[bytes] = []
                async with asyncio.timeout(PATIENCE):
                    while len(heard) < len(frames):
                        message = await one.connection.recv(decode=False)
                        if b'"success"' not in message:
                            heard.append(message)
                assert heard == frames
                await one.until(lambda message: message.get("op") == "pong")  # the end is told
                assert (await one.ask(op="ping"))["ret_msg"] == "pong"


@each(*(path for path in COLLECTIONS if "observed" not in path.name))
async def test_mixed_recordings_answer_on_every_category(path: Path) -> None:
    recording = Recording.read(path)
    trades = [json.loads(text) for _, text in messages(path) if '"topic":"publicTrade.BTC"' in text]
    assert set(recording.topics) == set(Category)
    async with (
        Simulator(replay=recording, speed=0) as simulator,
        client(simulator, "option") as one,
    ):
        ack = await one.ask(op="subscribe", args=["publicTrade.BTC"])
        assert ack["data"]["successTopics"] == ["publicTrade.BTC"]
        assert await one.receive() == trades[0]


async def test_a_topic_that_is_not_in_the_file_is_refused() -> None:
    async with Simulator(replay=Recording(LINES)) as simulator:
        async with client(simulator, "linear") as one:
            reply = await one.ask(op="subscribe", args=[A, "orderbook.50.CUSDT"])
            assert reply["ret_msg"] == "error:handler not found,topic:orderbook.50.CUSDT"
        async with client(simulator, "inverse") as one:
            assert not (await one.ask(op="subscribe", args=[A]))["success"]


async def test_an_unsubscribed_topic_falls_silent() -> None:
    lines = [frame(A, 1000 + n, n) for n in range(100_000)]
    async with (
        Simulator(replay=Recording(lines)) as simulator,
        client(simulator, "linear") as one,
    ):
        await one.send(op="subscribe", args=[A])
        await one.until(lambda message: message.get("data") == 5)
        await one.send(op="unsubscribe", args=[A])
        await one.until(lambda message: message.get("op") == "unsubscribe")
        assert (await one.ask(op="ping"))["ret_msg"] == "pong"


async def test_a_fast_replay_waits_for_its_reader() -> None:
    lines = [frame(A, 1000, 10**900 + n) for n in range(20_000)]
    async with (
        Simulator(replay=Recording(lines), speed=0, unsent_limit=2**21) as simulator,
        client(simulator, "linear") as one,
    ):
        one.connection.transport.pause_reading()
        await one.send(op="subscribe", args=[A])
        await eventually(lambda: next(iter(simulator.sockets)).waiting > REPLAY_UNSENT)
        one.connection.transport.resume_reading()
        *_, last = await one.until(lambda message: message.get("data") == 10**900 + 19_999)
        assert last["topic"] == A


async def test_a_replay_has_connection_faults_but_no_market() -> None:
    async with (
        Simulator(replay=Recording(LINES)) as simulator,
        client(simulator, "linear"),
        control(simulator) as orders,
    ):
        assert await orders.do("drop", category="linear") == {"dropped": 1}
        answer = await orders.ask(do="pause")
        assert answer == {"ok": False, "error": "a replay has no market"}
