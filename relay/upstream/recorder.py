"""The exchange's own words, kept in a file, with the time at which they arrived.

A line `{"at":1795996800123}` stands before the frames that arrived at that time, in Unix ms. The
frames themselves stay as they came, byte for byte, and a program that reads frames alone passes
over the other lines, as over answers: they have no topic.

The file is right at every moment: it grows by whole lines, or by whole gzip members, and a write
that fails is taken back. So it can be played (`relay.simulator.replay`) whatever ended it.
"""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import random
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from relay.bybit.errors import BadFrame
from relay.bybit.frames import decode_frame
from relay.bybit.subscriptions import Subscriptions
from relay.bybit.topics import Category, Topic, truncate
from relay.lib.clock import wall_ms
from relay.upstream.category import ConnectionState

logger = logging.getLogger(__name__)

BLOCK_BYTES = 2**20  # written together at most: compressing that takes about 40 ms
CROWDED_BYTES = 8 * 2**20  # waiting to be written, at which the exchange should wait, too
FLUSH_INTERVAL = 1.0  # seconds a line waits at most
MEMBER_INTERVAL = 10.0  # seconds the same with gzip: short members compress badly


class FrameFile:
    """A file of lines, compressed if its name ends in `.gz`.

    Attributes:
        path: Where it is.
        flush_interval: Seconds in which `flush` should be called.
        waiting: Bytes that are not written yet.
        written: Bytes in the file.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be written, is being written by another recorder, or (as
                `FileExistsError`) holds something already.
        """
        self.path = path
        self._is_gzip = path.name.endswith(".gz")
        self.flush_interval = MEMBER_INTERVAL if self._is_gzip else FLUSH_INTERVAL
        self.waiting = 0
        self.written = 0
        self._lines: list[bytes] = []
        self._at: int | None = None  # of the last line
        self._is_new = True
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            self._is_new = False
            self._fd = os.open(path, os.O_WRONLY)
        try:
            status = os.fstat(self._fd)
            self._is_regular = stat.S_ISREG(status.st_mode)
            if self._is_regular:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if status.st_size and not overwrite:
                    raise FileExistsError
        except OSError:
            os.close(self._fd)
            raise

    def add(self, line: bytes, at: int) -> None:
        """Keep a line, to be written with the next `flush`.

        Args:
            at: When it arrived, Unix ms.
        """
        if at != self._at:
            self._at = at
            line = b'{"at":%d}\n%s' % (at, line)
        self._lines.append(line + b"\n")
        self.waiting += len(line) + 1

    def flush(self) -> None:
        """Write what waits, whole or not at all.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._lines:
            block, self._lines, self.waiting = b"".join(self._lines), [], 0
            self._write(gzip.compress(block, mtime=0) if self._is_gzip else block)

    def close(self) -> None:
        """Write what waits and see it reach the disk.

        A file that this recorder made is removed if nothing was written to it; one that was there
        before, to be overwritten, is as it was.

        Raises:
            OSError: as `flush`.
        """
        try:
            self.flush()
            if self._is_regular and self.written:
                os.fsync(self._fd)
        finally:
            if self._is_new and not self.written:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._fd)

    def discard(self) -> None:
        """Forget what waits."""
        self._lines, self.waiting = [], 0

    def _write(self, data: bytes) -> None:
        if self._is_regular and not self.written:
            os.ftruncate(self._fd, 0)  # what is replaced is replaced by something
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            if self._is_regular:
                os.ftruncate(self._fd, self.written)
                os.lseek(self._fd, self.written, os.SEEK_SET)
            raise
        self.written += len(data)


class CategoryRecorder:
    """The topics of one category on their way into a file.

    Attributes:
        connections: The connections there should be.
        messages: Frames of topics that were kept; answers are kept as well, and not counted.
        size: Of those messages, in bytes as the exchange sent them.
        refused: The exchange's words for each topic that it does not have.
    """

    def __init__(
        self,
        topics: Iterable[Topic],
        keep: Callable[[Category, bytes], None],
        is_crowded: Callable[[], bool],
    ) -> None:
        """Share the topics among as few connections as the exchange allows.

        Args:
            topics: All of one category; at least one.
            keep: Takes each frame.
            is_crowded: Whether `keep` should be given a pause.
        """
        self.connections: list[ConnectionState] = []
        self.messages = 0
        self.size = 0
        self.refused: dict[str, str] = {}
        self._confirmed: set[str] = set()
        self._keep = keep
        self._is_crowded = is_crowded
        for topic in topics:
            self.category = topic.category
            self._connection_for(topic.text).add(topic.text)

    def _connection_for(self, text: str) -> ConnectionState:
        if self.connections and self.connections[-1].has_room(self.category, text):
            return self.connections[-1]
        self.connections.append(ConnectionState(len(self.connections) + 1))
        return self.connections[-1]

    @property
    def is_crowded(self) -> bool:
        """Whether reading should pause."""
        return self._is_crowded()

    @property
    def is_live(self) -> bool:
        """Whether all its connections are open."""
        return all(connection.is_open for connection in self.connections)

    def on_opened(self, connection: ConnectionState, now: float) -> None:
        """Give an open connection its subscriptions, which want all its topics."""
        topics = [text for text in connection.topics if text not in self.refused]
        connection.subscriptions = Subscriptions(self.category, topics, now, known=self._confirmed)
        connection.answered_at = now
        logger.info("%s: connection %d is open", self.category, connection.number)

    def on_closed(self, connection: ConnectionState) -> None:
        """Take a connection for broken, or not made."""
        connection.subscriptions = None

    def on_frame(self, connection: ConnectionState, text: bytes, now: float) -> None:
        """Keep one text frame of the exchange as it is."""
        try:
            frame = decode_frame(text)
        except BadFrame as fault:
            self._leave_out(str(fault), text)
            return
        if b"\n" in text or b"\r" in text:
            self._leave_out("more than one line", text)
            return
        self._keep(self.category, text)
        if frame.topic is not None:
            self.messages += 1
            self.size += len(text)
            if connection.subscriptions is not None:
                connection.subscriptions.data(frame.topic)
                self._confirmed.add(frame.topic)
        elif frame.is_pong:
            connection.answered_at = now
        elif frame.is_ack and connection.subscriptions is not None:
            for verdict in connection.subscriptions.reply(frame, now, random.random()):
                if verdict.is_confirmed:
                    self._confirmed.add(verdict.topic)
                    continue
                words = truncate(verdict.words)
                if verdict.is_asked_again:
                    words += "; asking again"
                elif verdict.topic not in self._confirmed:
                    self.refused[verdict.topic] = verdict.words
                logger.warning("%s:%s was refused: %r", self.category, verdict.topic, words)

    def on_binary(self, size: int) -> None:
        """Take note of a binary frame, which Bybit does not send here."""
        self._leave_out(f"binary, {size} bytes", b"")

    def _leave_out(self, why: str, text: bytes) -> None:
        beginning = text[:80].decode(errors="replace")
        logger.warning("%s: a frame was left out: %s: %r", self.category, truncate(why), beginning)


class Recorder:
    """Topics of any categories on their way into one file.

    Frames of one category are written as they came; of several, each is wrapped with the name
    of its category, because Bybit's messages do not tell theirs. When they came is told by lines
    of their own (see the module).

    Attributes:
        categories: The parts, one a category.
    """

    def __init__(
        self, topics: Iterable[Topic], file: FrameFile, *, wall_ms: Callable[[], int] = wall_ms
    ) -> None:
        by_category: dict[Category, list[Topic]] = {}
        for topic in dict.fromkeys(topics):
            by_category.setdefault(topic.category, []).append(topic)
        keep = self._keep if len(by_category) == 1 else self._keep_wrapped
        self.categories = [
            CategoryRecorder(its_topics, keep, lambda: file.waiting > CROWDED_BYTES)
            for its_topics in by_category.values()
        ]
        self._file = file
        self._wall_ms = wall_ms

    @property
    def messages(self) -> int:
        """Frames of topics that were kept."""
        return sum(part.messages for part in self.categories)

    @property
    def size(self) -> int:
        """Of those messages, in bytes as the exchange sent them."""
        return sum(part.size for part in self.categories)

    @property
    def is_hopeless(self) -> bool:
        """Whether the exchange has refused every topic."""
        return all(
            len(part.refused) == sum(len(connection.topics) for connection in part.connections)
            for part in self.categories
        )

    def _keep(self, category: Category, text: bytes) -> None:
        self._file.add(text, self._wall_ms())

    def _keep_wrapped(self, category: Category, text: bytes) -> None:
        wrapped = b'{"category":"%s","message":%s}' % (category.encode(), text)
        self._file.add(wrapped, self._wall_ms())
