# Pretraining and evaluation on NVIDIA GPUs, and every other stage. From the repository root:
#   docker build -f docker/train.Dockerfile -t sesame-train .
#   docker run --gpus all --ipc host --user "$(id -u):0" -v "$PWD/runs:/data/runs" sesame-train demo
# docs/containers.md explains the arguments.
#
# torch's wheels bring the libraries of CUDA and Sesame compiles nothing for the GPU, so the smallest CUDA image is
# enough. BUILD_IMAGE needs the CUDA compiler (a "devel" image) for FLASH_ATTENTION and TRANSFORMER_ENGINE only.
ARG BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BASE_IMAGE} AS python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM python AS list
WORKDIR /list
COPY pyproject.toml docker/requirements.py ./
ARG EXTRAS="exchange hub language web wiki s3 gcs"
# hadolint ignore=SC2086
RUN python3 requirements.py train ${EXTRAS} > requirements.txt

# A stage of its own: it is built again when a requirement changes, not when the code or the rest of pyproject.toml does.
FROM python AS requirements
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && python3 -m venv /opt/sesame
ENV PATH=/opt/sesame/bin:$PATH PIP_NO_CACHE_DIR=1
COPY constraints.txt /list/
# Address of an index with another build of torch, for CPUs or another CUDA; its "+cpu" is taken before the plain version.
ARG TORCH_INDEX=""
# torch is installed first, so that no other requirement selects another build of it.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -c /list/constraints.txt setuptools torch
COPY --from=list /list/requirements.txt /list/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install -c /list/constraints.txt -r /list/requirements.txt \
    && find /opt/sesame -type d -name tests -prune -exec rm -r {} +

# Versions of these two libraries; empty: not installed. Sesame calls neither by itself.
FROM ${BUILD_IMAGE} AS extensions
ARG FLASH_ATTENTION=""
ARG TRANSFORMER_ENGINE=""
# Processes of the compiler, each of which takes gigabytes.
ARG MAX_JOBS=4
COPY --from=requirements /opt/sesame /opt/sesame
ENV PATH=/opt/sesame/bin:$PATH PIP_NO_CACHE_DIR=1
# hadolint ignore=DL3008
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ -n "${FLASH_ATTENTION}${TRANSFORMER_ENGINE}" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends build-essential python3-dev \
        && pip install ninja packaging wheel \
            ${FLASH_ATTENTION:+"flash-attn==${FLASH_ATTENTION}"} \
            ${TRANSFORMER_ENGINE:+"transformer-engine[core_cu13,pytorch]==${TRANSFORMER_ENGINE}"} \
            --no-build-isolation; \
    fi

FROM requirements AS package
COPY . /source
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel /source

FROM python
COPY --from=extensions /opt/sesame /opt/sesame
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
LABEL org.opencontainers.image.title="sesame-train" \
      org.opencontainers.image.description="Sesame: pretraining and evaluation on NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# No HEALTHCHECK: a stage is a job that ends. Its exit code says how, and it ends by itself when a process is silent.
ENTRYPOINT ["sesame"]
CMD ["--help"]
