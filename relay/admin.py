"""The relay in Django's admin: live topics, for staff with the view permission, and pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_http_methods, require_safe

from relay.models import LiveTopic, OperatorAction, PinnedTopic, pin_sentence
from relay.ops.topic_table import read_page
from relay.web import query
from relay.web.actions import ACTIONS, Action, ActionFault

if TYPE_CHECKING:
    _LiveTopics = admin.ModelAdmin[LiveTopic]
    _PinnedTopics = admin.ModelAdmin[PinnedTopic]
    _OperatorActions = admin.ModelAdmin[OperatorAction]
else:
    _LiveTopics = _PinnedTopics = _OperatorActions = (
        admin.ModelAdmin
    )  # generic for the type checker alone

_action = method_decorator([require_http_methods(["GET", "HEAD", "POST"]), never_cache])
_live = method_decorator([require_safe, cache_control(no_store=True)])


@admin.register(LiveTopic)
class LiveTopicAdmin(_LiveTopics):
    """One page that shows the relay at work, and its JSON twin for scripts."""

    def get_urls(self) -> list[URLPattern]:
        """Return the page and its twin; no other page of the admin has anything to show."""
        page: Callable[..., HttpResponseBase] = self.admin_site.admin_view(self.changelist_view)
        return [
            path("", page, name="relay_livetopic_changelist"),
            path("live.json", self.live_view, name="relay_livetopic_live"),
            *(
                path(
                    f"{name}/",
                    self.action_view,
                    {"action": action},
                    name=f"relay_livetopic_{name}",
                )
                for name, action in ACTIONS.items()
            ),
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
            "can_resync": _may(request, ACTIONS["resync"]),
            "can_pin": _may(request, ACTIONS["pin"]),
            "can_disconnect": _may(request, ACTIONS["disconnect"]),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/relay/livetopic/change_list.html", context)

    @_action
    def action_view(self, request: HttpRequest, action: Action) -> HttpResponseBase:
        """Ask whether an action is really meant (GET), or do it (POST).

        A page of the admin that posts its form is led back to the live page with a message; a
        script is answered in JSON.
        """
        if request.method != "POST":
            return self.admin_site.admin_view(self._confirm_view)(request, action)
        may_look = self.admin_site.has_permission(request) and self.has_view_permission(request)
        if not (may_look and _may(request, action)):
            return _refused(request, ActionFault(403, "forbidden", "you may not do this"))
        assert not isinstance(request.user, AnonymousUser)
        try:
            message = action.run(request.user, action.read(request.POST))
        except ActionFault as fault:
            return _refused(request, fault)
        if _wants_json(request):
            return JsonResponse({"done": True, "message": message})
        messages.success(request, message)
        return redirect("admin:relay_livetopic_changelist")

    def _confirm_view(self, request: HttpRequest, action: Action) -> HttpResponse:
        if not (self.has_view_permission(request) and _may(request, action)):
            raise PermissionDenied
        try:
            target = action.read(request.GET)
        except ActionFault as fault:
            return _led_back(request, fault)
        context = {
            **self.admin_site.each_context(request),
            "title": action.title,
            "opts": self.opts,
            "action": action,
            "target": target,
        }
        return TemplateResponse(request, "admin/relay/livetopic/confirm.html", context)

    @_live
    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Answer `live.json`: all topics, or with a query a page of them (see `topic_table.Page`).

        A page comes without the last minutes of the totals, unless the query has `history`.

        A user who may not see it gets 403 with a JSON error and never the login page: a script
        that follows a redirect would take the form for an answer.
        """
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request)):
            error = {"code": "forbidden", "message": "staff with the view permission only"}
            return JsonResponse({"error": error}, status=403)
        try:
            page = read_page(request.GET.dict()) if request.GET else None
        except ValueError as fault:
            error = {"code": "bad_request", "message": str(fault)}
            return JsonResponse({"error": error}, status=400)
        shown = query.overview(page)
        if page is None or "history" in request.GET:
            shown["history"] = query.history()
        return JsonResponse(shown)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No user adds one: topics follow their readers."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LiveTopic | None = None) -> bool:
        """No user changes one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LiveTopic | None = None) -> bool:
        """No user deletes one."""
        return False


def _may(request: HttpRequest, action: Action) -> bool:
    return request.user.has_perm(action.permission)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["application/json", "text/html"]) != "text/html"


def _refused(request: HttpRequest, fault: ActionFault) -> HttpResponse:
    """Say why an action is not done, to a script or to a person."""
    if _wants_json(request):
        error = {"code": fault.code, "message": str(fault)}
        return JsonResponse({"error": error}, status=fault.status)
    if fault.status == 403:
        raise PermissionDenied
    return _led_back(request, fault)


def _led_back(request: HttpRequest, fault: ActionFault) -> HttpResponse:
    messages.error(request, f"Nothing was done: {fault}.")
    return redirect("admin:relay_livetopic_changelist")


@admin.register(PinnedTopic)
class PinnedTopicAdmin(_PinnedTopics):
    """Pins can be added and deleted; there is nothing about one that could change."""

    list_display = ("topic", "category", "pinned_by", "pinned_at")
    list_filter = ("category",)
    search_fields = ("topic",)

    def save_model(self, request: HttpRequest, obj: PinnedTopic, form: Any, change: bool) -> None:
        """Remember who pinned it."""
        obj.pinned_by = None if isinstance(request.user, AnonymousUser) else request.user
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, obj: PinnedTopic, message: Any) -> LogEntry:
        """Record a pin in the words in which the live page records it."""
        return super().log_addition(request, obj, pin_sentence(obj, ADDITION))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """Record each pin that is deleted in the words in which the live page records it."""
        assert request.user.pk is not None
        return [
            LogEntry.objects.log_actions(
                request.user.pk,
                [pinned],
                DELETION,
                change_message=pin_sentence(pinned, DELETION),
                single_object=True,
            )
            for pinned in queryset
        ]

    def has_change_permission(self, request: HttpRequest, obj: PinnedTopic | None = None) -> bool:
        """No user changes one."""
        return False


@admin.register(OperatorAction)
class OperatorActionAdmin(_OperatorActions):
    """Who did what to the relay, and when: of all users, for those with the permission."""

    list_display = ("action_time", "user", "sentence")
    list_display_links = None
    list_filter = ("action_time", ("user", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("change_message", "object_repr")
    fields = ("action_time", "user", "sentence")
    show_full_result_count = False  # the log grows for as long as the relay is operated

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        """Return what a search looks at; the project decides what its users are called."""
        name = get_user_model().USERNAME_FIELD
        return [f"user__{name}", *super().get_search_fields(request)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No user adds one: acting does."""
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: OperatorAction | None = None
    ) -> bool:
        """No user changes one."""
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: OperatorAction | None = None
    ) -> bool:
        """No user deletes one."""
        return False
