"""Static files under plain Daphne, before and after anyone ran `collectstatic`.

WhiteNoise knows the files, their headers and which part of one is asked for. Its middleware would
read them within a request of Django's, and a manifest storage without its manifest answers 500;
both are amended here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from django.urls import get_script_prefix
from django_permissions_policy import PermissionsPolicyMiddleware
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

from marketfeed.answers import Answer, Headers, wrong_method


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise is untyped
    """Answers below `STATIC_URL`."""

    def __init__(self) -> None:
        super().__init__()
        policy = PermissionsPolicyMiddleware.compute_header_value(
            {**settings.PERMISSIONS_POLICY}, "PERMISSIONS_POLICY"
        )
        self._guards: Headers = [
            (b"permissions-policy", policy.encode()),
            (b"referrer-policy", settings.SECURE_REFERRER_POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def answer(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> Answer | None:
        """Return the file of a path, or the part of it that is asked for; None if there is none."""
        return wrong_method(method) or await asyncio.to_thread(self._read, path, method, headers)

    def _read(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> Answer | None:
        """Read the file whole: the largest is a few hundred kilobytes."""
        static_file = self.find_file(path) if self.autorefresh else self.files.get(path)
        if static_file is None:
            return None
        environ = {
            f"HTTP_{name.decode('latin1').upper().replace('-', '_')}": value.decode("latin1")
            for name, value in headers.items()
        }
        found = static_file.get_response(method, environ)
        content = b""
        if found.file is not None:
            with found.file:
                content = found.file.read()
        own = [(name.lower().encode(), value.encode("latin1")) for name, value in found.headers]
        return Answer(int(found.status), own + self._guards, content)

    def add_files(self, root: str | Path, prefix: str | None = None) -> None:
        """Register a folder; `STATIC_ROOT` need not exist yet."""
        if Path(root).is_dir():
            super().add_files(root, prefix=prefix)


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped
    """Names with hashes for what `collectstatic` has seen, plain names for the rest."""

    manifest_strict = False
    support_js_module_import_aggregation = True  # ES modules import each other by hashed names

    def url(self, name: str | None, force: bool = False) -> str:
        """Return the address of a file, below the root path of the request that is answered."""
        return get_script_prefix().rstrip("/") + str(super().url(name, force))

    def stored_name(self, name: str) -> str:
        """Return the hashed name, or `name` where the manifest does not know it."""
        key = self.hash_key(self.clean_name(name))
        return str(super().stored_name(name)) if key in self.hashed_files else name
