# stackcast with the Pulumi CLI. Build: docker build --tag stackcast .
# The service keeps everything below /var/lib/stackcast; docker-compose.yml shows which volumes that needs.
# Modules of Python and of YAML run as they are; those of another language need its tools in an image built on this one.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG NODE_IMAGE=node:22.20.0-bookworm-slim

# Node builds GraphiQL's page and is not needed after that.
FROM ${NODE_IMAGE} AS node

# The Python environment. uv reads the pins of pyproject.toml, which pip would ignore.
FROM ${PYTHON_IMAGE} AS environment
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
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

# The CLI and its language hosts. The checksums are those that Pulumi publishes for this release, in its own formula for
# Homebrew and in pulumi-VERSION-checksums.txt beside the archives: the build fails if the archive is another one.
# Another version takes three --build-arg: PULUMI_VERSION and both checksums.
FROM ${PYTHON_IMAGE} AS pulumi
ARG PULUMI_VERSION=3.206.0
ARG PULUMI_SHA256_AMD64=e950bb0afdeac2aaf5b7edc95380cc8c93f7d43c1d6268a76a01792630cbdee0
ARG PULUMI_SHA256_ARM64=f2a9b815af6dc3ede4b5fe96d0b131e7bcb6f525140e246c784a96cd5bad9c86
# Debian keeps only the newest version of a package: one that is pinned here would soon fail to build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
# BuildKit says for which machine; a builder that doesn't builds for its own.
ARG TARGETARCH
WORKDIR /opt/pulumi
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) machine=x64; checksum="${PULUMI_SHA256_AMD64}" ;; \
        arm64) machine=arm64; checksum="${PULUMI_SHA256_ARM64}" ;; \
        *) echo "Pulumi is made for amd64 and arm64. Build with --platform linux/amd64 or linux/arm64." >&2; exit 1 ;; \
    esac; \
    curl --fail --silent --show-error --location --retry 3 --output pulumi.tar.gz \
        "https://get.pulumi.com/releases/sdk/pulumi-v${PULUMI_VERSION}-linux-${machine}.tar.gz"; \
    echo "${checksum}  pulumi.tar.gz" > checksum; \
    sha256sum --check --strict checksum; \
    tar --extract --gzip --file pulumi.tar.gz --strip-components 1 --no-same-owner; \
    rm pulumi.tar.gz checksum

FROM ${PYTHON_IMAGE}
# tini is PID 1: it hands signals on and reaps what a run may leave.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/*
# The uid is fixed, so that files on a volume keep their owner from one image to the next.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin stackcast \
    && install --directory --mode=0700 --owner=stackcast --group=stackcast \
        /var/lib/stackcast /var/lib/stackcast/data /var/lib/stackcast/state /var/lib/stackcast/pulumi
COPY --from=pulumi /opt/pulumi /usr/local/bin
COPY --from=environment /opt/stackcast /opt/stackcast

ENV PATH=/opt/stackcast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PULUMI_HOME=/var/lib/stackcast/pulumi \
    PULUMI_STATE_DIR=/var/lib/stackcast/state \
    STACKCAST_DATA_DIR=/var/lib/stackcast/data \
    STACKCAST_HOST=0.0.0.0 \
    STACKCAST_PORT=8321 \
    STACKCAST_SHUTDOWN=drain
VOLUME ["/var/lib/stackcast/data", "/var/lib/stackcast/state", "/var/lib/stackcast/pulumi"]
WORKDIR /var/lib/stackcast
# By number: an orchestrator that forbids root can tell that this is not it.
USER 10001:10001
EXPOSE 8321
# Healthy while the store answers, the worker works and there is a Pulumi CLI: /readyz answers 200 then, else 503.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['STACKCAST_PORT'] + '/readyz', timeout=5)"]
# Listening on all addresses, the service starts only with STACKCAST_TOKEN or STACKCAST_TOKEN_FILE.
ENTRYPOINT ["tini", "--", "stackcast"]
CMD ["serve"]
