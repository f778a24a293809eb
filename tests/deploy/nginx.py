"""Debian's nginx with the project's configuration, of which only ports and paths are replaced."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.processes import ROOT, Program, Programs
from tests.redis_server import free_port

FOLDER = ROOT / "deploy" / "nginx"
# What the system's own nginx.conf holds around the project's.
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 2000; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def find_nginx() -> str:
    """Return nginx's path; a skip where it is missing, a failure in CI."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        reason = "nginx is not installed, so the deployment behind it is not tested"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Nginx:
    """One nginx of a test.

    Attributes:
        port: Where it serves: TLS with `marketfeed.conf`, plain HTTP with `compose.conf`.
        redirecting: The plain port beside TLS.
        tls: Trusts the certificate of this very server.
    """

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.port, self.redirecting = free_port(), free_port()
        self.tls: ssl.SSLContext | None = None
        self._programs = programs
        self._folder = folder / "nginx"
        self._folder.mkdir()

    async def site(self, *upstreams: str, static: Path | None = None, more: str = "") -> Program:
        """Serve `marketfeed.conf` over TLS, for the web processes at those addresses.

        Args:
            static: Where `collectstatic` left the files.
            more: Replaces the commented example of a trusted proxy.
        """
        key, certificate = self_signed(self._folder)
        self.tls = ssl.create_default_context(cafile=certificate)
        site = FOLDER / "marketfeed.conf"
        lines = [line for line in site.read_text().splitlines() if "[::]" not in line]
        text = "\n".join(lines)
        if more:
            before, _, rest = text.partition("    # set_real_ip_from")
            text = before + more + rest.partition("real_ip_recursive on;")[2]
        certificates = "/etc/letsencrypt/live/feed.example.com"
        return await self._serve(
            text,
            {
                "listen 80;": f"listen 127.0.0.1:{self.redirecting};",
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "server_name feed.example.com;": "server_name localhost;",
                f"{certificates}/fullchain.pem": str(certificate),
                f"{certificates}/privkey.pem": str(key),
                "server 127.0.0.1:8000;": "".join(f"server {one};" for one in upstreams),
                "/etc/nginx/snippets": str(FOLDER),
                "/opt/marketfeed/staticfiles": str(static or self._folder),
            },
        )

    async def compose(self, resolver: str, web_port: int) -> Program:
        """Serve `compose.conf`, which finds the web processes by the name `web`."""
        return await self._serve(
            (FOLDER / "compose.conf").read_text(),
            {
                "listen 80 ": f"listen 127.0.0.1:{self.port} ",
                "resolver 127.0.0.11 ": f"resolver {resolver} ",
                "web:8000": f"web:{web_port}",
                "/etc/nginx/snippets": str(FOLDER),
            },
        )

    async def _serve(self, text: str, replaced: dict[str, str]) -> Program:
        path = find_nginx()
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        (self._folder / "site.conf").write_text(text)
        main = self._folder / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""  # pytest's folders are its owner's alone
        main.write_text(MAIN.format(folder=self._folder, user=user))
        program = self._programs.start("nginx", path, "-c", str(main), "-p", str(self._folder))
        return await self._programs.listening(program, self.port)
