"""Acks, refusals and pongs of each category, request by request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from relay.simulator.exchange import Exchange
from relay.simulator.session import Session
from relay.simulator.topics import Category

NOW = 1_700_000_000_000
ID = "conn-1"
FIRST = {
    Category.SPOT: "orderbook.50.BTCUSDT",
    Category.LINEAR: "orderbook.50.BTCUSDT",
    Category.INVERSE: "orderbook.50.BTCUSD",
    Category.OPTION: "orderbook.25.BTC-25JUN27-80000-C-USDT",
}
FUTURES = pytest.mark.parametrize("category", [Category.LINEAR, Category.INVERSE])


class Talk:
    """A session and everything it said, in order."""

    def __init__(self, category: Category, symbols: int | None = None) -> None:
        self.exchange = Exchange(1, 10, symbols)
        self.said: list[dict[str, Any]] = []
        self.session = Session(category, ID, self.exchange, self, self.push)

    def push(self, frame: bytes) -> None:
        header = {126: 4, 127: 10}.get(frame[1], 2)
        self.said.append(json.loads(frame[header:]))

    def ask(self, text: str | dict[str, Any]) -> list[dict[str, Any]]:
        self.said.clear()
        self.session.receive(text if isinstance(text, str) else json.dumps(text), NOW)
        return self.said

    def reply(self, **request: Any) -> dict[str, Any]:
        (reply,) = (one for one in self.ask(request) if "topic" not in one)
        return reply

    def subscribe(self, args: Iterable[str], **more: Any) -> dict[str, Any]:
        return self.reply(op="subscribe", args=list(args), **more)


def success(ret_msg: str, op: str, **more: str) -> dict[str, Any]:
    return {"success": True, "ret_msg": ret_msg, "conn_id": ID, **more, "op": op}


def refusal(ret_msg: str, op: str = "subscribe", **more: str) -> dict[str, Any]:
    return {"success": False, "ret_msg": ret_msg, "conn_id": ID, **more, "op": op}


def fates(succeeded: list[str], failed: list[str]) -> dict[str, Any]:
    return {
        "success": not failed,
        "conn_id": ID,
        "data": {"failTopics": failed, "successTopics": succeeded},
        "type": "COMMAND_RESP",
    }


def test_spot_acks_with_a_word_and_repeats_an_id_only_if_there_is_one() -> None:
    talk = Talk(Category.SPOT)
    assert talk.subscribe(["orderbook.50.BTCUSDT"]) == success("subscribe", "subscribe")
    reply = talk.subscribe(["orderbook.1.BTCUSDT"], req_id="a")
    assert reply == success("subscribe", "subscribe", req_id="a")
    assert list(reply) == ["success", "ret_msg", "conn_id", "req_id", "op"]


@FUTURES
def test_futures_ack_without_a_word_and_always_with_an_id(category: Category) -> None:
    talk = Talk(category)
    assert talk.subscribe([FIRST[category]]) == success("", "subscribe", req_id="")
    reply = talk.reply(op="unsubscribe", args=[FIRST[category]], req_id="3")
    assert reply == success("", "unsubscribe", req_id="3")


def test_a_number_comes_back_as_text() -> None:
    assert Talk(Category.LINEAR).reply(op="ping", req_id=1)["req_id"] == "1"


def test_option_tells_the_fate_of_each_topic() -> None:
    talk = Talk(Category.OPTION)
    good, bad = FIRST[Category.OPTION], "orderbook.25.BTC-1JAN20-1-C"
    assert talk.subscribe([good, bad], req_id="x") == fates([good], [bad])
    assert talk.subscribe([good]) == fates([], [good])
    assert talk.reply(op="unsubscribe", args=[good]) == fates([good], [])


def test_option_accepts_topics_of_which_nothing_will_come() -> None:
    symbol = FIRST[Category.OPTION].removeprefix("orderbook.25.")
    silent = [f"orderbook.1.{symbol}", f"orderbook.50.{symbol}", f"kline.1.{symbol}"]
    talk = Talk(Category.OPTION)
    assert talk.ask({"op": "subscribe", "args": silent}) == [fates(silent, [])]


@pytest.mark.parametrize(
    ("category", "reply"),
    [
        (Category.SPOT, success("pong", "ping")),
        (Category.LINEAR, success("pong", "ping", req_id="")),
        (Category.INVERSE, success("pong", "ping", req_id="")),
        (Category.OPTION, {"args": [str(NOW)], "op": "pong"}),
    ],
)
def test_every_category_has_its_pong(category: Category, reply: dict[str, Any]) -> None:
    assert Talk(category).ask({"op": "ping", "args": []}) == [reply]


@pytest.mark.parametrize("category", [Category.SPOT, Category.OPTION])
def test_data_follows_the_ack(category: Category) -> None:
    said = Talk(category).ask({"op": "subscribe", "args": [FIRST[category]]})
    assert [one.get("type") for one in said[1:]] == ["snapshot"]
    assert "success" in said[0]


@FUTURES
def test_data_comes_before_the_ack(category: Category) -> None:
    said = Talk(category).ask({"op": "subscribe", "args": [FIRST[category]]})
    assert [one.get("type") for one in said[:-1]] == ["snapshot", "delta"]
    assert "success" in said[-1]


@FUTURES
@pytest.mark.parametrize(
    "bad",
    [
        "orderbook.50.NOPEUSDT",
        "orderbook.51.BTCUSDT",
        "orderbook.50.btcusdt",
        "candles.BTCUSDT",
        "order",
        "",
        "kline.2.BTCUSDT",
    ],
)
def test_one_bad_topic_refuses_the_whole_request(category: Category, bad: str) -> None:
    talk = Talk(category)
    args = [FIRST[category], bad, "orderbook.50.WORSE"]
    why = f"error:handler not found,topic:{bad}"
    assert talk.ask({"op": "subscribe", "args": args}) == [refusal(why, req_id="")]
    assert talk.subscribe([FIRST[category]])["success"], "it had been subscribed all the same"


def test_spot_names_the_bad_topic_in_its_own_words() -> None:
    reply = Talk(Category.SPOT).subscribe(["orderbook.50.BTCUSDT", "orderbook.50.NOSUCHSYM"])
    assert reply == refusal("Invalid symbol :[orderbook.50.NOSUCHSYM]")


def test_a_second_subscribe_is_refused_whole_and_the_first_keeps_flowing() -> None:
    talk = Talk(Category.LINEAR)
    talk.subscribe(["orderbook.50.BTCUSDT"])
    reply = talk.subscribe(["orderbook.50.ETHUSDT", "orderbook.50.BTCUSDT"], req_id="e6")
    assert reply == refusal("error:already subscribed,topic:orderbook.50.BTCUSDT", req_id="e6")
    assert list(talk.session.topics) == ["orderbook.50.BTCUSDT"]
    assert len(talk.exchange.followed) == 1


def test_spot_takes_ten_args_in_a_request() -> None:
    talk = Talk(Category.SPOT, symbols=20)
    topics = [f"orderbook.50.SIM{n:04}USDT" for n in range(1, 12)]
    assert talk.subscribe(topics) == refusal("args size >10")
    assert talk.subscribe(topics[:10])["success"]
    assert talk.subscribe(topics[10:])["success"]


def test_a_connection_takes_21_000_characters_of_args() -> None:
    talk = Talk(Category.LINEAR, symbols=1000)
    topics = [f"orderbook.50.SIM{n:04}USDT" for n in range(1, 880)]
    fitting = 21_000 // len(topics[0])
    assert not talk.subscribe(topics[: fitting + 1])["success"]
    assert talk.subscribe(topics[:fitting])["success"]
    assert not talk.subscribe(topics[fitting : fitting + 1])["success"]
    assert talk.reply(op="unsubscribe", args=topics[:1])["success"]
    assert talk.subscribe(topics[fitting : fitting + 1])["success"]


def test_what_is_not_json_is_told_so() -> None:
    (reply,) = Talk(Category.LINEAR).ask("hello")
    assert reply["success"] is False
    assert reply["ret_msg"].startswith(
        "Failed to decode incoming data:readObjectStart: expect { or n, but found h, "
    )


@pytest.mark.parametrize("request_", [{"op": "pong"}, {"op": 5}, {}, {"op": "auth", "args": []}])
def test_an_unknown_op_is_refused(request_: dict[str, Any]) -> None:
    (reply,) = Talk(Category.LINEAR).ask(request_)
    assert (reply["success"], reply["ret_msg"]) == (False, "error:invalid op")


@pytest.mark.parametrize("args", [None, [], "orderbook.50.BTCUSDT", [1], {"a": 1}])
def test_args_that_are_no_list_of_topics_are_refused(args: object) -> None:
    reply = Talk(Category.LINEAR).reply(op="subscribe", args=args)
    assert (reply["success"], reply["op"]) == (False, "subscribe")


def test_unsubscribing_what_was_not_subscribed_succeeds() -> None:
    reply = Talk(Category.SPOT).reply(op="unsubscribe", args=["orderbook.50.BTCUSDT"])
    assert reply == success("unsubscribe", "unsubscribe")


def test_option_trades_of_a_coin_cover_all_its_contracts() -> None:
    talk = Talk(Category.OPTION)
    assert talk.ask({"op": "subscribe", "args": ["publicTrade.BTC"]}) == [
        fates(["publicTrade.BTC"], [])
    ]
    listings = list(talk.exchange.woken)
    talk.said.clear()
    for _ in range(50):
        for listing in listings:
            talk.exchange.step(listing, NOW)
    symbols = {row["s"] for message in talk.said for row in message["data"]}
    assert symbols == {listing.instrument.symbol for listing in listings}
    assert len(symbols) == 3
    assert {message["topic"] for message in talk.said} == {"publicTrade.BTC"}


def test_a_closed_session_leaves_nothing_behind() -> None:
    talk = Talk(Category.LINEAR)
    talk.subscribe(["orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT", "tickers.ETHUSDT"])
    listings = list(talk.exchange.woken)
    talk.session.close()
    assert talk.exchange.followed == {}
    assert [listing.lines for listing in listings] == [[], []]


def test_what_a_symbol_says_does_not_depend_on_what_else_is_followed() -> None:
    alone, crowded = Talk(Category.LINEAR), Talk(Category.LINEAR)
    alone.subscribe(["orderbook.200.BTCUSDT"])
    crowded.subscribe(
        ["tickers.BTCUSDT", "orderbook.1.ETHUSDT", "orderbook.200.BTCUSDT", "publicTrade.BTCUSDT"]
    )
    heard = []
    for talk in (alone, crowded):
        talk.said.clear()
        for n in range(50):
            for listing in talk.exchange.woken:
                talk.exchange.step(listing, NOW + 100 * n)
        heard.append([m for m in talk.said if m["topic"] == "orderbook.200.BTCUSDT"])
    assert heard[0] == heard[1]
    assert len(heard[0]) == 50
