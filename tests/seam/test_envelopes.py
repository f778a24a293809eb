"""relay/seam/envelopes.py: what is sent is what is received, and by whom it may be."""

from __future__ import annotations

from typing import Any, get_args

import msgpack
import msgspec
import pytest

from relay.bybit.errors import Code
from relay.bybit.topics import Category
from relay.seam import envelopes
from relay.seam.envelopes import Envelope, UpstreamState, as_message
from tests.builders import kind_of

EACH: list[Envelope] = [
    envelopes.Demand("p", {"a": (3, 4), "b": None}, ["c"], epoch=3, whole=True, behind=True),
    envelopes.Resync("a"),
    envelopes.Publication("g", 3, 4, [b"{}", b"\xff"], 1.5),
    envelopes.Base("g", 3, 4, []),
    envelopes.Stale("g", 3, 4),
    envelopes.Confirmed("g", 3),
    envelopes.Refused("g", 3, Code.TOO_MANY_TOPICS, "no room"),
    envelopes.Upstream(Category.SPOT, 3, UpstreamState.PARTIAL, 1_700_000_000_000, "w"),
    envelopes.Joined({"g": 1}),
    envelopes.Hello("p"),
    envelopes.Left("p"),
    envelopes.Carries("p", {"spot": (3, 4)}),
    envelopes.WorkerReport("p", b"\0"),
    envelopes.Report("p", b"\0"),
    envelopes.PinsChanged("p"),
    envelopes.Disconnect("p", "7"),
]
RECEIVERS: list[tuple[Any, Any]] = [
    (envelopes.ToHub, envelopes.decode_to_hub),
    (envelopes.ToLeader, envelopes.decode_to_leader),
    (envelopes.ToWorker, envelopes.decode_to_worker),
    (envelopes.ToWeb, envelopes.decode_to_web),
]


def test_every_kind_is_here() -> None:
    assert [type(envelope) for envelope in EACH] == sorted(
        get_args(Envelope), key=[type(envelope) for envelope in EACH].index
    )
    assert len({kind_of(envelope) for envelope in EACH}) == len(EACH)


@pytest.mark.parametrize("envelope", EACH, ids=kind_of)
def test_its_receivers_read_it_as_it_was_sent_and_the_others_do_not_know_it(
    envelope: Envelope,
) -> None:
    message = msgpack.unpackb(msgpack.packb(as_message(envelope)))  # as over Redis
    assert (message["type"], message["v"]) == (kind_of(envelope), envelopes.VERSION)
    readers = 0
    for kinds, decode in RECEIVERS:
        if type(envelope) in get_args(kinds):
            readers += 1
            assert decode(message["body"]) == envelope
        else:
            with pytest.raises(msgspec.ValidationError, match=r"`\$\.type`$"):
                decode(message["body"])
    assert readers


def test_each_category_has_a_group_of_its_own_that_every_process_knows() -> None:
    groups = {category: envelopes.demand_group(category) for category in Category}
    assert groups[Category.SPOT] == "marketfeed.demand.spot"
    assert len(set(groups.values())) == len(Category)


@pytest.mark.parametrize("envelope", EACH, ids=kind_of)
def test_within_a_process_it_is_handed_over_as_it_is(envelope: Envelope) -> None:
    assert as_message(envelope, is_shared=True)["body"] is envelope


@pytest.mark.parametrize("envelope", EACH, ids=kind_of)
def test_a_process_of_an_earlier_version_finds_no_field_that_it_could_misread(
    envelope: Envelope,
) -> None:
    """Marketfeed 0.1 read `group`, `category`, `audiences`, `process`, `epoch` or `topic` first."""
    assert set(as_message(envelope)) == {"type", "v", "body"}
