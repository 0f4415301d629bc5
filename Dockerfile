# The server as an image: built in one stage, run in another that holds nothing else.
# How to run it, and what bubblewrap needs in a container: docs/deployment.md.

FROM python:3.11.14-slim-bookworm AS build
# `extras` adds what PostgreSQL, Redis and OpenTelemetry need.
ARG REQUIREMENTS=runtime
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/runtime.txt requirements/extras.txt requirements/build.txt requirements/
# The environment that is shipped holds neither pip nor setuptools.
RUN python -m venv --without-pip /opt/agent-server \
    && pip --python /opt/agent-server/bin/python install --no-compile --require-hashes \
        -r "requirements/${REQUIREMENTS}.txt" \
    && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY streaming streaming
COPY providers providers
COPY mcp_bridge mcp_bridge
COPY workflow_backend workflow_backend
COPY agent_server agent_server
# The root is read-only when the server runs, so the bytecode is made here, valid at any file time.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/agent-server/bin/python install --no-compile --no-deps --no-index \
        dist/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agent-server/lib

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="Agent Server" \
    org.opencontainers.image.description="OpenAI-compatible LLM gateway and workflow agent server" \
    org.opencontainers.image.version="1.2.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm"
# bubblewrap isolates steps; tini, as process 1, reaps what killed steps leave behind. Their versions
# are not pinned, since Debian replaces them by security updates. The base image has no bytecode of
# the standard library.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 agent-server \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/agent-server \
        --shell /usr/sbin/nologin agent-server \
    && install -d -m 0700 -o agent-server -g agent-server /var/lib/agent-server \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(site-packages|lib2to3|idlelib|turtledemo|tests?)/' /usr/local/lib/python3.11
COPY --from=build /opt/agent-server /opt/agent-server
ENV PATH=/opt/agent-server/bin:$PATH \
    AGENT_SERVER_DATA_DIR=/var/lib/agent-server \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/agent-server
VOLUME ["/var/lib/agent-server"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# The image has no curl; http.client, unlike urllib, never asks a proxy of the environment.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=5); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--"]
CMD ["kubiya", "mcp", "agent", "--provider", "auto", "--port", "8000"]
