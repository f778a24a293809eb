"""What the app serves over HTTP besides its part of the admin; a project mounts it anywhere."""

from __future__ import annotations

from django.urls import URLPattern, path

from relay import views

app_name = "relay"
urlpatterns: list[URLPattern] = [
    path("symbols.json", views.symbols, name="symbols"),
]
