"""A project of somebody else's that mounts the relay: nothing in it is as in `marketfeed`."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

FILES = {
    "manage.py": """
        import os, sys
        from django.core.management import execute_from_command_line

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        execute_from_command_line(sys.argv)
    """,
    "people/__init__.py": "",
    "people/models.py": """
        from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
        from django.db import models

        class People(BaseUserManager):
            def create_superuser(self, email, password):
                person = self.model(email=email, is_staff=True, is_superuser=True)
                person.set_password(password)
                person.save()
                return person

        class Person(AbstractBaseUser, PermissionsMixin):
            number = models.AutoField(primary_key=True)
            email = models.EmailField(unique=True)
            is_staff = models.BooleanField(default=False)
            is_active = models.BooleanField(default=True)
            objects = People()
            USERNAME_FIELD = "email"
    """,
    "shop/__init__.py": "",
    "shop/settings.py": """
        import os
        from pathlib import Path

        BASE_DIR = Path(__file__).resolve().parent.parent
        SECRET_KEY = "of the shop"
        DEBUG = True
        ALLOWED_HOSTS = ["127.0.0.1"]
        ROOT_URLCONF = "shop.urls"
        AUTH_USER_MODEL = "people.Person"
        DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
        INSTALLED_APPS = [
            "people",
            "relay",
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
        ]
        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ]
        TEMPLATES = [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ]
        DATABASES = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "shop.sqlite3"}
        }
        CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "channels.layers.InMemoryChannelLayer",
                "CONFIG": {"capacity": 10_000},
            }
        }
        STATIC_URL = "/files/"
        RELAY = {"upstream_url": os.environ.get("SHOP_EXCHANGE", "wss://stream.example")}
        if redis := os.environ.get("SHOP_REDIS"):
            RELAY |= {"redis_urls": [redis], "prefix": "shop"}
            CHANNEL_LAYERS["default"] = {
                "BACKEND": "relay.layers.redis.RedisChannelLayer",
                "CONFIG": {"hosts": [redis]},
            }
    """,
    "shop/urls.py": """
        import gc
        import resource

        from django.contrib import admin
        from django.http import HttpResponse, JsonResponse
        from django.urls import include, path
        from django.views.decorators.csrf import csrf_exempt

        def process(request):
            return JsonResponse(
                {
                    "thresholds": gc.get_threshold(),
                    "frozen": gc.get_freeze_count(),
                    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
                }
            )

        @csrf_exempt
        def length(request):
            return HttpResponse(str(len(request.body)))

        urlpatterns = [
            path("", lambda request: HttpResponse("the shop"), name="demo"),
            path("process", process),
            path("length", length),
            path("back/office/", admin.site.urls),
            path("market/", include("relay.urls")),
        ]
    """,
    "shop/asgi.py": """
        import os

        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
        from django.core.asgi import get_asgi_application

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        django = ASGIStaticFilesHandler(get_asgi_application())

        from channels.generic.websocket import WebsocketConsumer
        from channels.routing import ProtocolTypeRouter, URLRouter
        from django.urls import path, re_path
        from relay.routing import client_urlpatterns, lifespan, live_page_urlpatterns

        class Echo(WebsocketConsumer):
            def receive(self, text_data=None, bytes_data=None):
                self.send(text_data)

        sockets = [
            path("market/", URLRouter(client_urlpatterns)),
            *live_page_urlpatterns,
            re_path("", Echo.as_asgi()),
        ]
        application = ProtocolTypeRouter(
            {"http": django, "websocket": URLRouter(sockets), "lifespan": lifespan}
        )
    """,
}


def write(folder: Path) -> None:
    """Write the project into a folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text).lstrip())
