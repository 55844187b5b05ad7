# Build with `docker build -t gpu-orchestrator .`; docs/deployment.md says how to run it.
# Debian, not Alpine: the NVIDIA container toolkit mounts the host's nvidia-smi, which needs glibc.

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# With the optional packages: esbuild's native binary is one of them. Nothing of node_modules leaves this stage.
# An npm configuration (another registry, a proxy, a CA) is given as a secret and stays out of the image:
# `--secret id=npmrc,src=$HOME/.npmrc`.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc npm ci --loglevel=error
COPY tsconfig.json ./
COPY scripts ./scripts
COPY src ./src
COPY executors ./executors
RUN npm run build

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="gpu-orchestrator" \
      org.opencontainers.image.description="Leases the GPUs of one host, over HTTP, to the services that need them." \
      org.opencontainers.image.licenses="MIT"
# Owned by root and not writable by the daemon. package.json says that the bundle is an ES module.
COPY --from=build /src/package.json /app/package.json
COPY --from=build /src/dist /app/dist
COPY LICENSE /app/LICENSE
# What the LLM Orchestrator's Deployment starts.
RUN printf '#!/bin/sh\nexec node /app/dist/gpu-orchestrator.js controller "$@"\n' > /manager && chmod 0755 /manager
# Not uid 1000: with the host's process ids visible (pid: host) that would be somebody's login.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/gpu-orchestrator && install -d -m 0755 /etc/gpu-orchestrator
ENV NODE_ENV=production \
    CONFIG_PATH=/etc/gpu-orchestrator/config.yaml \
    GPU_ORCHESTRATOR_HOST=0.0.0.0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility
USER 10001:10001
# The default storage.path is relative to this: the state is /var/lib/gpu-orchestrator/data/gpu-orchestrator.db.
WORKDIR /var/lib/gpu-orchestrator
VOLUME /var/lib/gpu-orchestrator
EXPOSE 8086
# Asks /livez on the port that the daemon took from PORT or its configuration.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "/app/dist/gpu-orchestrator.js", "health"]
ENTRYPOINT ["node", "/app/dist/gpu-orchestrator.js"]
CMD ["serve"]
