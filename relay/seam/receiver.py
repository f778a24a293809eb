"""One topic as a hub receives it: what may go to readers, and what must be asked for again.

The channel layer may lose, repeat or delay whatever it carries. Positions tell: (epoch,
offset), where a worker's every start is a new, higher epoch. A position never goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.bybit.errors import ExchangeFault, NoSnapshotYet
from relay.bybit.frames import decode_frame
from relay.bybit.images import make_image
from relay.bybit.topics import Topic

Position = tuple[int, int]
"""(epoch, offset) of the last message of a topic; tuples compare as positions do."""


@dataclass(slots=True)
class Step:
    """What follows from one envelope.

    Attributes:
        forward: Messages for those who are up to date, in order.
        restart: Those who are up to date have missed something: a snapshot is owed to them.
        ask: The worker must be asked for a base.
        lost: Trades that cannot be had again.
    """

    forward: list[bytes] = field(default_factory=list)
    restart: bool = False
    ask: bool = False
    lost: int = 0


class StreamReceiver:
    """The hub's side of one topic.

    Attributes:
        position: The last message folded in; (0, 0) before the first.
        is_broken: Whether messages were missed since, so that a base is needed.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.position: Position = (0, 0)
        self.is_broken = True
        self._image = make_image(topic)

    @property
    def is_live(self) -> bool:
        """Whether a late reader may be greeted from the image."""
        return self._image.is_live and not self.is_broken

    @property
    def known(self) -> Position | None:
        """The position to tell the worker: None where a base is needed."""
        return None if self.is_broken else self.position

    def greeting(self) -> bytes | None:
        """Return a message that brings a late reader here; None if there is nothing to tell.

        Raises:
            ExchangeFault: the worker let through what it should not have; a base is needed.
        """
        try:
            return self._image.greeting()
        except ExchangeFault:
            self.is_broken = True
            raise

    @property
    def closings(self) -> int:
        """How many messages there were that no reader may miss; 0 where any may be missed."""
        return self._image.closings

    def closed_since(self, closings: int) -> tuple[int, list[bytes]]:
        """Return those after the first `closings`: how many are lost, and the rest as they came."""
        return self._image.closed_since(closings)

    def expect(self, epoch: int) -> None:
        """Take the word that a new worker serves: what an older one said may be outdated."""
        if self.position[0] < epoch:
            self.is_broken = True

    def publication(self, epoch: int, after: int, texts: Sequence[bytes]) -> Step:
        """Take messages that follow position (epoch, after)."""
        here = self.position
        if (epoch, after) < here:
            return Step()  # of a worker that was replaced, or a repetition
        follows = (epoch, after) == here and not self.is_broken
        begins = epoch > here[0] and after == 0
        if not (follows or begins):
            return self._hole(epoch, after, texts)
        if begins:
            self._image = self._image.renewed()
            self.is_broken = False
        return self._take(epoch, after, texts)

    def _take(self, epoch: int, offset: int, texts: Sequence[bytes]) -> Step:
        step = Step()
        for index, text in enumerate(texts):
            try:
                offset += self._image.apply(text, decode_frame(text))
            except NoSnapshotYet:
                offset += 1
                continue
            except ExchangeFault:  # the worker let through what it should not have
                broken = self._hole(epoch, offset + 1, texts[index + 1 :])
                return Step(step.forward + broken.forward, broken.restart, broken.ask)
            step.forward.append(text)
        self.position = (epoch, offset)
        return step

    def _hole(self, epoch: int, after: int, texts: Sequence[bytes]) -> Step:
        """Messages were missed: go on from a snapshot among `texts`, or ask for a base, once."""
        ask, self.is_broken = not self.is_broken, True
        if self.topic.has_history:
            return Step(ask=ask)  # the base will tell what was missed
        self._image = self._image.renewed()
        self.is_broken = False
        step = self._take(epoch, after, texts)
        if self._image.is_live:
            return step
        self.position = max(self.position, (epoch, after))
        self.is_broken = True
        return Step(restart=True, ask=ask)

    def base(self, epoch: int, offset: int, texts: Sequence[bytes]) -> Step:
        """Take the state at (epoch, offset), as the worker answers who asks.

        Args:
            texts: A snapshot as a rule; messages that no reader may miss, and the last one; empty
                for trades before the first.
        """
        if (epoch, offset) < self.position or (self.is_live and (epoch, offset) == self.position):
            return Step()
        missed = offset - self.position[1] if epoch == self.position[0] else None
        had_history = self.position != (0, 0)
        self._image = self._image.renewed()
        step = Step()
        for text in texts:
            try:
                self._image.apply(text, decode_frame(text))
            except ExchangeFault:
                self.is_broken = True
                return Step(restart=True)  # asked for again at the next renewal
        if self.topic.is_events:
            self._image.start()
            if had_history and missed:
                step.lost, recovered = self._image.recover(missed)
                if recovered is not None:
                    step.forward.append(recovered)
        else:
            step.restart = True
        self.position = (epoch, offset)
        self.is_broken = False
        return step

    def stale(self, epoch: int, after: int) -> Step:
        """Take the word that messages of the exchange were missed after (epoch, after)."""
        if (epoch, after) < self.position:
            return Step()
        is_state = not self.topic.is_events
        if (epoch, after) != self.position and is_state:
            self.is_broken = True
            self.position = (epoch, after + 1)
            self._image.stop()
            return Step(restart=True)
        self._image.stop()
        if is_state:
            self.position = (epoch, after + 1)
        return Step()
