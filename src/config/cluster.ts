/** `cluster`: several hosts over Redis, and MLOC's own workers. */
import type { z } from "zod";
import { duration, flag, httpUrl, nullable, oneOf, type Read, Refusal, section, setting, text } from "./settings.ts";

/** Not shown in messages, since it may hold a password. */
const redisUrl: Read<string> = (value) => {
  const form = /^(?:rediss?:\/\/[^\s/]+(?:\/\d*)?|rediss?\+sentinel:\/\/[^\s/]+\/[\w.-]+)$/;
  return typeof value === "string" && form.test(value)
    ? value
    : new Refusal("expected redis://HOST:PORT, rediss://HOST:PORT or rediss+sentinel://HOST:PORT,HOST:PORT/NAME");
};

/** As MLOC's environment has it: a whole number of seconds. */
const seconds: Read<number> = (value) =>
  typeof value === "string" && /^\d{1,6}$/.test(value)
    ? duration("1s", "1d")(`${value}s`)
    : duration("1s", "1d")(value);

export function cluster() {
  return section({
    role: setting(nullable(oneOf(["controller", "member"])), null),
    redis_url: setting(nullable(redisUrl), null),
    node_url: setting(nullable(httpUrl), null),
    secret_file: setting(nullable(text("the absolute path of a file", /^\/[^\p{Cc}]*$/u)), null),
    heartbeat_ttl: setting(seconds, "120s"),
    heartbeat_interval: setting(seconds, "30s"),
    mloc: setting(flag, false),
  });
}

export interface ClusterConfig {
  /** `null`: this host is alone. */
  readonly role: "controller" | "member" | null;
  readonly redisUrl: string | null;
  /** Where the controller reaches this node's API; `null`: logs and files of this node are not to be had there. */
  readonly nodeUrl: string | null;
  readonly secretFile: string | null;
  /** So long an assignment lives without an answered heartbeat. */
  readonly heartbeatTtlMs: number;
  readonly heartbeatIntervalMs: number;
  readonly mloc: boolean;
}

export function toCluster(file: z.output<ReturnType<typeof cluster>>): ClusterConfig {
  return {
    role: file.role,
    redisUrl: file.redis_url,
    nodeUrl: file.node_url,
    secretFile: file.secret_file,
    heartbeatTtlMs: file.heartbeat_ttl,
    heartbeatIntervalMs: file.heartbeat_interval,
    mloc: file.mloc,
  };
}
