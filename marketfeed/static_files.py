"""Static files under plain Daphne, before and after anybody ran `collectstatic`.

WhiteNoise does the work. Two things are amended: its responses are synchronous iterators, which
Django warns about under ASGI, and a manifest storage without its manifest answers 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise is untyped
    """Answers below `STATIC_URL`; lets every other request pass without a thread of its own."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Return the file's response, or the next middleware's (awaitable under ASGI)."""
        if iscoroutinefunction(self):
            return self._answer(request)
        return super().__call__(request)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(self.static_prefix):
            response = await sync_to_async(self._find, thread_sensitive=False)(request)
            if response is not None:
                return response
        following: Awaitable[HttpResponseBase] = self.get_response(request)
        return await following

    def _find(self, request: HttpRequest) -> HttpResponse | None:
        path = request.path_info
        static_file = self.find_file(path) if self.autorefresh else self.files.get(path)
        return None if static_file is None else self.serve(static_file, request)

    def add_files(self, root: str | Path, prefix: str | None = None) -> None:
        """Register a folder; `STATIC_ROOT` need not exist yet."""
        if Path(root).is_dir():
            super().add_files(root, prefix=prefix)

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        """Return the file read whole: the largest is a few hundred kilobytes."""
        found = static_file.get_response(request.method, request.META)
        content = b""
        if found.file is not None:
            with found.file:
                content = found.file.read()
        response = HttpResponse(content, status=int(found.status))
        del response["Content-Type"]  # WhiteNoise's own headers are complete
        for name, value in found.headers:
            response[name] = value
        return response


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped
    """Names with hashes for what `collectstatic` has seen, plain names for the rest."""

    manifest_strict = False
    support_js_module_import_aggregation = True  # ES modules import each other by hashed names

    def stored_name(self, name: str) -> str:
        """Return the hashed name, or `name` where the manifest does not know it."""
        key = self.hash_key(self.clean_name(name))
        return str(super().stored_name(name)) if key in self.hashed_files else name
