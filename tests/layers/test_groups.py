"""relay/layers/groups.py: the names of groups on the channel layer."""

from __future__ import annotations

import re

from django.test import override_settings

from relay import conf
from relay.bybit.topics import Category, Topic
from relay.layers.groups import on_layer
from relay.seam.envelopes import REPORTS_GROUP, UPSTREAM_GROUP, WORKERS_GROUP, demand_group


def test_a_relay_without_a_prefix_has_the_names_of_always() -> None:
    assert on_layer("marketfeed.upstream") == "marketfeed.upstream"


def test_every_group_of_a_relay_with_a_prefix_is_another_and_may_be_one() -> None:
    longest = Topic.parse(Category.INVERSE, f"publicTrade.{'A' * 60}")
    groups = [longest.group, Topic.parse(Category.SPOT, "tickers.BTCUSDT").group]
    groups += [UPSTREAM_GROUP, REPORTS_GROUP, WORKERS_GROUP, *map(demand_group, Category)]
    for prefix in ("second", "x" * 40):
        with override_settings(RELAY={"prefix": prefix}):
            names = [on_layer(group) for group in groups]
        assert len({*names, *groups}) == 2 * len(groups)
        for name in names:
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,99}", name)
            assert name.startswith(f"{prefix}.")


def test_a_prefix_that_no_group_may_begin_with_is_a_fault() -> None:
    for prefix in ("a.b", "a b", "x" * 41, "ü"):
        [fault] = conf.read({"prefix": prefix})[1]
        assert str(fault).startswith("RELAY_PREFIX: expected 1 to 40 letters")
