"""Addresses: the admin, the project's own pages, and what the relay serves."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from marketfeed import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.demo, name="demo"),
    path("favicon.ico", views.favicon, name="favicon"),
    path("", include("relay.urls")),
]
