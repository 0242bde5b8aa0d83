# Pretraining and evaluation on NVIDIA GPUs. From the repository root:
#   docker build -f docker/train.Dockerfile -t sesame-train .
#   docker run --gpus all --ipc host -v "$PWD/runs:/data/runs" sesame-train pretrain configs/pretrain/demo.toml
# BASE_IMAGE needs the CUDA compiler (a "devel" image), because DeepSpeed compiles its optimizers on first use.
ARG BASE_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
FROM ${BASE_IMAGE}

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-dev python3-venv build-essential \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/sesame
ENV PATH=/opt/sesame/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

WORKDIR /data
# The requirements change less often than the code, so they are a layer of their own.
COPY constraints.txt ./
RUN pip install -c constraints.txt setuptools torch
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY data_pipeline data_pipeline
COPY pretrain pretrain
COPY evaluation evaluation
COPY launch launch
RUN pip install -c constraints.txt -e .
# Beside the package, where every user can read it. On another kind of processor the loops are compiled once more, and
# kept if NUMBA_CACHE_DIR or ~/.cache can be written.
RUN sesame compile

ENTRYPOINT ["sesame"]
CMD ["--help"]
