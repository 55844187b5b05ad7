# A worker with the daemon's program, for hosts where everything is a container:
#   docker build -t gpu-orchestrator . && docker build -t gpu-orchestrator-worker - < deploy/worker.Dockerfile
# What it starts runs in its container and ends with it, so stop services before an update; the unit in deploy/systemd has no
# such limit. The daemon, with work.worker: external and the same settings, shares the folder of work.dir with it:
#   docker run --gpus all --init -v gpu-orchestrator-state:/var/lib/gpu-orchestrator \
#     -v /etc/gpu-orchestrator:/etc/gpu-orchestrator:ro gpu-orchestrator-worker
# Engines are not in it: build on their image with --build-arg BASE=..., which must be Debian or Ubuntu with glibc.

ARG DAEMON=gpu-orchestrator
ARG BASE=node:24-bookworm-slim
FROM ${DAEMON} AS daemon

FROM ${BASE}
# setpriv and unshare, with which runs get their user and their cage.
RUN apt-get update && apt-get install -y --no-install-recommends python3 util-linux && rm -rf /var/lib/apt/lists/*
COPY --from=daemon /app /app
COPY --from=daemon /usr/local/bin/node /opt/gpu-orchestrator/bin/node
ENV NODE_ENV=production \
    CONFIG_PATH=/etc/gpu-orchestrator/config.yaml \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# It becomes the users of work.run_as.
USER root
WORKDIR /var/lib/gpu-orchestrator
ENTRYPOINT ["/opt/gpu-orchestrator/bin/node", "/app/dist/gpu-orchestrator.js", "worker"]
