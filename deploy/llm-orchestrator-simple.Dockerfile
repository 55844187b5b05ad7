# The LLM Orchestrator Simple's name, port and calls, on the daemon's image: simulated replicas on simulated GPUs.
#   docker build -t gpu-orchestrator . && docker build -t llm-orchestrator-simple - < deploy/llm-orchestrator-simple.Dockerfile
# It listens everywhere without keys, since there is nothing to take.

ARG DAEMON=gpu-orchestrator
FROM ${DAEMON}
USER root
# What that system's Compose file looks with.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
  && printf 'development: {simulateMetrics: true}\n' > /etc/llm-orchestrator-simple.yaml
USER 10001:10001
# Of the daemon's image; this program takes its file, PORT and LOG_LEVEL.
ENV CONFIG_PATH= \
    GPU_ORCHESTRATOR_HOST=
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s --retries=3 \
  CMD ["wget", "--no-verbose", "--tries=1", "--spider", "http://127.0.0.1:8080/health"]
ENTRYPOINT ["node", "/app/dist/llm-orchestrator-simple.js", "--host", "0.0.0.0"]
CMD ["--config", "/etc/llm-orchestrator-simple.yaml"]
