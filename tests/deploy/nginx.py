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
# What a test's nginx must be told beside: to stay in its folder and in the foreground.
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
{user}
"""
HTTP = """
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
"""
# What the system's own nginx.conf holds around `marketfeed.conf`.
AROUND = """
events {{ worker_connections 2000; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    {site}
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
        port: Where it serves TLS.
        plain: Where it serves, or redirects, plain HTTP.
        tls: Trusts the certificate of this very server.
    """

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.port, self.plain = free_port(), free_port()
        self._programs = programs
        self._folder = folder / "nginx"
        self._folder.mkdir()
        self._key, self._certificate = self_signed(self._folder)
        self.tls = ssl.create_default_context(cafile=self._certificate)

    async def site(self, *upstreams: str, static: Path | None = None, more: str = "") -> Program:
        """Serve `marketfeed.conf` for the web processes at those addresses.

        Args:
            static: Where `collectstatic` left the files.
            more: Replaces the commented example of a trusted proxy.
        """
        site = (FOLDER / "marketfeed.conf").read_text()
        text = "\n".join(line for line in site.splitlines() if "[::]" not in line)
        if more:
            before, _, rest = text.partition("# set_real_ip_from")
            text = before + more + rest.partition("real_ip_recursive on;")[2]
        certificates = "/etc/letsencrypt/live/feed.example.com"
        text = _replace(
            text,
            {
                "listen 80;": f"listen 127.0.0.1:{self.plain};",
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "server_name feed.example.com;": "server_name localhost;",
                f"{certificates}/fullchain.pem": str(self._certificate),
                f"{certificates}/privkey.pem": str(self._key),
                "server 127.0.0.1:8000;": "".join(f"server {one};" for one in upstreams),
                "/etc/nginx/snippets": str(FOLDER),
                "/opt/marketfeed/staticfiles": str(static or self._folder),
            },
        )
        return await self._run(AROUND.format(site=text), self.port)

    async def compose(self, resolver: str, web_port: int, *, with_tls: bool = False) -> Program:
        """Serve `compose.conf`, which finds the web processes by the name `web`."""
        if with_tls:
            text = (FOLDER / "compose-tls.conf").read_text()
            replaced = {
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "/etc/nginx/tls/certificate.pem": str(self._certificate),
                "/etc/nginx/tls/key.pem": str(self._key),
            }
            (self._folder / "tls.conf").write_text(_replace(text, replaced))
        text = _replace(
            (FOLDER / "compose.conf").read_text(),
            {
                "listen 80 ": f"listen 127.0.0.1:{self.plain} ",
                "resolver 127.0.0.11 ": f"resolver {resolver} ",
                "web:8000": f"web:{web_port}",
                "/etc/nginx/snippets": str(FOLDER),
                "/etc/nginx/tls/*": f"{self._folder}/tls*",
            },
        )
        return await self._run(text, self.plain)

    async def _run(self, text: str, port: int) -> Program:
        path = find_nginx()
        user = "user root;" if os.getuid() == 0 else ""  # pytest's folders are its owner's alone
        text = text.replace("http {", "http {" + HTTP.format(folder=self._folder), 1)
        main = self._folder / "nginx.conf"
        main.write_text(MAIN.format(folder=self._folder, user=user) + text)
        program = self._programs.start("nginx", path, "-c", str(main), "-p", str(self._folder))
        return await self._programs.listening(program, port)


def _replace(text: str, replaced: dict[str, str]) -> str:
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
