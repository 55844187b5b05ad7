/**
 * The process itself, under the names that Prometheus' client libraries share
 * (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics) and prom-client's for Node.
 *
 * Not `collectDefaultMetrics`: it keeps a timer of 10 ms and an observer of every garbage collection running, and
 * reads /proc synchronously. These cost nothing between two scrapes.
 */
import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { performance } from "node:perf_hooks";
import { Gauge, type Registry } from "prom-client";
import { counter, gauge } from "./families.ts";

export function registerProcess(registry: Registry): void {
  counter(registry, "process_cpu_seconds_total", "Processor time used, user and system", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  const startedAt = performance.timeOrigin / 1_000;
  gauge(registry, "process_start_time_seconds", "When the process started, in seconds since 1970", () => startedAt);
  gauge(registry, "process_resident_memory_bytes", "Resident memory", () => process.memoryUsage.rss());
  gauge(registry, "nodejs_heap_size_used_bytes", "JavaScript heap in use", () => process.memoryUsage().heapUsed);
  counter(registry, "nodejs_eventloop_active_seconds_total", "Time in which the event loop was not idle", () => {
    return performance.eventLoopUtilization().active / 1_000;
  });
  const maxFds = openFilesLimit();
  gauge(registry, "process_max_fds", "Files and connections that may be open", () => maxFds);
  new Gauge({
    name: "process_open_fds",
    help: "Files and connections that are open",
    registers: [registry],
    async collect() {
      try {
        this.set((await readdir("/proc/self/fd")).length);
      } catch {
        // No Linux: no figure.
        this.remove();
      }
    },
  });
}

/** `null` where it cannot be told, or there is none. */
function openFilesLimit(): number | null {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}
