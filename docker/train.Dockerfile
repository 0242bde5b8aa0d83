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
# A separate layer, because the requirements change less often than the code.
COPY constraints.txt ./
RUN pip install -c constraints.txt setuptools torch
COPY pyproject.toml README.md LICENSE ./
COPY sesame sesame
COPY configs configs
COPY data_pipeline data_pipeline
COPY pretrain pretrain
COPY evaluation evaluation
COPY launch launch
RUN pip install -c constraints.txt -e .
# The cache is in the package folder, which every user can read. On another kind of processor the loops are compiled
# again, and cached if NUMBA_CACHE_DIR or ~/.cache is writable.
RUN sesame compile

ENTRYPOINT ["sesame"]
CMD ["--help"]
