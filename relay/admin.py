"""The relay in Django's admin: live topics, for staff with the view permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from relay.models import LiveTopic
from relay.picture import read_page

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[LiveTopic]
else:
    _ModelAdmin = admin.ModelAdmin  # generic for the type checker alone

_live = method_decorator([require_safe, cache_control(no_store=True)])


@admin.register(LiveTopic)
class LiveTopicAdmin(_ModelAdmin):
    """One page that shows the relay at work, and its JSON twin for scripts."""

    def get_urls(self) -> list[URLPattern]:
        """Return the page and its twin; no other page of the admin has anything to show."""
        page: Callable[..., HttpResponseBase] = self.admin_site.admin_view(self.changelist_view)
        return [
            path("", page, name="relay_livetopic_changelist"),
            path("live.json", self.live_view, name="relay_livetopic_live"),
        ]

    @_live
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Answer the live page; its script fetches the numbers.

        Raises:
            PermissionDenied: the user is staff without the view permission.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Live topics",
            "opts": self.opts,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/relay/livetopic/change_list.html", context)

    @_live
    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Answer `live.json`: all topics, or with a query a page of them (see `picture.Page`).

        Whoever may not see it gets 403 with a JSON error and never the login page: a script
        that follows a redirect would take the form for an answer.
        """
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request)):
            error = {"code": "forbidden", "message": "staff with the view permission only"}
            return JsonResponse({"error": error}, status=403)
        from relay import stats  # noqa: PLC0415 - the counters start with the relay, not with the admin

        try:
            page = read_page(request.GET.dict()) if request.GET else None
        except ValueError as fault:
            error = {"code": "bad_request", "message": str(fault)}
            return JsonResponse({"error": error}, status=400)
        return JsonResponse(stats.picture(page))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one: topics follow their readers."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LiveTopic | None = None) -> bool:
        """Nobody changes one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LiveTopic | None = None) -> bool:
        """Nobody deletes one."""
        return False
