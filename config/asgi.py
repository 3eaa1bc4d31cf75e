"""The ASGI application: Django behind the gate that lets streams and sockets out."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from sessions_app.gate import Gate  # noqa: E402 - models load only after Django is set up
from sessions_app.handler import Handler  # noqa: E402
from sessions_app.hub import Hub  # noqa: E402
from sessions_app.sockets import EventsConsumer  # noqa: E402
from sessions_app.sse import SseStreamer  # noqa: E402

_hub = Hub()
application = Gate(Handler(), SseStreamer(_hub), EventsConsumer.as_asgi(hub=_hub))
