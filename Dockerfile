# The relay: web processes, workers and migrations are one image with different commands.
FROM python:3.11-slim

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# All dependencies come as wheels, so no compiler, and one stage. psycopg: a DATABASE_URL of Postgres.
# The lock names the versions, so that an image built later holds the same.
COPY requirements.txt deploy/requirements.lock /tmp/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir -r /tmp/requirements.txt "psycopg[binary]" \
       -c /tmp/requirements.lock \
    && useradd --system --uid 10001 --create-home --home-dir /data marketfeed

WORKDIR /opt/marketfeed
COPY manage.py ./
COPY marketfeed ./marketfeed
COPY relay ./relay
COPY templates ./templates
RUN python manage.py collectstatic --noinput

USER marketfeed
VOLUME /data
EXPOSE 8000
# By itself, without a proxy: compose.yaml, which has one, adds --proxy-headers.
CMD ["daphne", "-v", "0", "-b", "0.0.0.0", "-p", "8000", "--websocket_timeout", "-1", "marketfeed.asgi:application"]
