# stackcast with the Pulumi CLI. Build: docker build -t stackcast .
# The service keeps everything below /var/lib/stackcast; docker-compose.yml shows which volumes that needs.
ARG PYTHON_VERSION=3.11
ARG PULUMI_VERSION=3.206.0

# The Python environment. uv reads the pins of pyproject.toml, which pip would ignore.
FROM python:${PYTHON_VERSION}-slim-bookworm AS environment
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir "uv==${UV_VERSION}"
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/stackcast
WORKDIR /src
# The dependencies first: they change less often than the code.
COPY pyproject.toml README.md ./
RUN uv sync --no-dev --no-install-project
COPY graphql_api graphql_api
COPY runners runners
RUN uv sync --no-dev --no-editable

# The CLI and its language hosts of exactly that release. To have the bytes pinned as well, give the digest with the
# version: --build-arg PULUMI_VERSION=3.206.0@sha256:...
FROM pulumi/pulumi-base:${PULUMI_VERSION} AS pulumi

FROM python:${PYTHON_VERSION}-slim-bookworm
# tini is PID 1: it hands signals on and reaps what a run may leave.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/*
# The uid is fixed, so that files on a volume keep their owner from one image to the next.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin stackcast \
    && install --directory --mode=0700 --owner=stackcast --group=stackcast \
        /var/lib/stackcast /var/lib/stackcast/data /var/lib/stackcast/state /var/lib/stackcast/pulumi
COPY --from=pulumi /pulumi/bin/ /usr/local/bin/
COPY --from=environment /opt/stackcast /opt/stackcast

ENV PATH=/opt/stackcast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PULUMI_HOME=/var/lib/stackcast/pulumi \
    PULUMI_STATE_DIR=/var/lib/stackcast/state \
    PULUMI_SKIP_UPDATE_CHECK=true \
    STACKCAST_DATA_DIR=/var/lib/stackcast/data \
    STACKCAST_HOST=0.0.0.0 \
    STACKCAST_PORT=8321
ENV PULUMI_BACKEND_URL=file://${PULUMI_STATE_DIR}
VOLUME ["/var/lib/stackcast/data", "/var/lib/stackcast/state", "/var/lib/stackcast/pulumi"]
WORKDIR /var/lib/stackcast
USER stackcast
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['STACKCAST_PORT'] + '/readyz', timeout=5)"]
# Listening on all addresses, the service starts only with STACKCAST_TOKEN set.
ENTRYPOINT ["tini", "--", "stackcast"]
CMD ["serve"]
