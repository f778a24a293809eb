"""What the relay serves over HTTP, besides what `marketfeed.front` answers without Django."""

from __future__ import annotations

from django.urls import URLPattern, path

from relay import views

urlpatterns: list[URLPattern] = [
    path("", views.demo, name="demo"),
    path("symbols.json", views.symbols, name="symbols"),
    path("favicon.ico", views.favicon, name="favicon"),
]
