# Text to dataset, on machines without a GPU; torch is not installed. From the repository root:
#   docker build -f docker/data.Dockerfile -t sesame-data .
#   docker run --user "$(id -u):0" -v "$PWD/runs:/data/runs" sesame-data prepare demo --output runs/dataset
# docs/containers.md explains the arguments.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS list
WORKDIR /list
COPY pyproject.toml docker/requirements.py ./
ARG EXTRAS="cluster language web wiki s3 gcs"
# hadolint ignore=SC2086
RUN python3 requirements.py data ${EXTRAS} > requirements.txt

# A stage of its own: it is built again when a requirement changes, not when the code or the rest of pyproject.toml does.
FROM ${BASE_IMAGE} AS requirements
RUN python3 -m venv /opt/sesame
ENV PATH=/opt/sesame/bin:$PATH PIP_NO_CACHE_DIR=1
COPY constraints.txt /list/
COPY --from=list /list/requirements.txt /list/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install -c /list/constraints.txt -r /list/requirements.txt \
    && find /opt/sesame -type d -name tests -prune -exec rm -r {} +

FROM requirements AS package
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install -c /list/constraints.txt setuptools
COPY . /source
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel /source

FROM ${BASE_IMAGE}
COPY --from=requirements /opt/sesame /opt/sesame
# Loops are compiled for every processor of this architecture, not only for the one that builds the image. Programs
# write nothing outside of /data and /tmp, so that the root file system may be read-only and the user may have any
# number, also one without a name. PID 1 is `sesame` itself.
ENV PATH=/opt/sesame/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NUMBA_CPU_NAME=generic HOME=/tmp USER=sesame
RUN --mount=type=bind,from=package,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl && sesame compile && install -d -m 1777 /data /data/runs
WORKDIR /data
USER 1000:0

ARG BASE_IMAGE
ARG REVISION=""
LABEL org.opencontainers.image.title="sesame-data" \
      org.opencontainers.image.description="Sesame: raw text to a dataset for pretraining" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# No HEALTHCHECK: a stage is a job that ends. Its exit code says how, and it ends by itself when a process is silent.
ENTRYPOINT ["sesame"]
CMD ["--help"]
