import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import type { Rule } from "../config/rules.ts";
import type { WorkConfig } from "../config/work.ts";
import { parseShape, SHAPES } from "../monitor/simulated/models.ts";
import { beside, isExecutable } from "../platform/executable.ts";
import { checkWebhookUrl, InvalidAllowedHostsError, parseAllowedHosts } from "../webhooks/address-policy.ts";
import { certificateOf } from "./certificate.ts";

/** What only the parts themselves can say of the settings that are meant for them. */
export const SETTING_RULES: readonly Rule[] = [
  {
    reads: [
      ["work", "run_as"],
      ["work", "enabled"],
      ["work", "allow_same_user"],
      ["work", "allow_root"],
    ],
    check: ({ work }) => (work.enabled ? userObjection(work) : null),
  },
  {
    reads: [["work", "enabled"]],
    check: ({ work }) =>
      work.enabled && isExecutable() && beside("executors/python") === null
        ? "the single executable alone has not all the programs that run work: install the Debian or the npm package"
        : null,
  },
  {
    reads: [
      ["work", "worker"],
      ["work", "enabled"],
    ],
    check: ({ work }) =>
      work.enabled && work.worker === "embedded" && process.env.NOTIFY_SOCKET !== undefined
        ? "embedded does not go with systemd, which would end what runs with the daemon: set external, and start " +
          "gpu-orchestrator-worker.service"
        : null,
  },
  {
    reads: [
      ["work", "worker"],
      ["work", "enabled"],
    ],
    check: ({ work }) =>
      work.enabled && work.worker === "embedded" && process.pid === 1
        ? "embedded does not go with a container whose first process is the daemon: what runs would end with it. Set " +
          "external, and start gpu-orchestrator worker elsewhere"
        : null,
  },
  {
    reads: [
      ["work", "worker"],
      ["work", "enabled"],
    ],
    check: ({ work }) =>
      work.enabled && work.worker === "embedded" && startsPrograms(work) && mayGainNothing()
        ? "embedded does not go with NoNewPrivileges (no_new_privs), which a worker that changes users cannot have: set " +
          "external, and start gpu-orchestrator-worker.service"
        : null,
  },
  {
    reads: [["server", "tls"]],
    check({ server }) {
      // Another rule reports one without the other.
      if (server.tls?.cert === "" || server.tls?.key === "") return null;
      try {
        certificateOf(server);
        return null;
      } catch (error) {
        return `cannot be used: ${(error as Error).message}`;
      }
    },
  },
  {
    reads: [["simulation", "host"]],
    check: ({ monitoring, simulation }) =>
      monitoring.source === "simulated" && parseShape(simulation.host) === null ? `expected ${SHAPES}` : null,
  },
  {
    reads: [["webhooks", "allowed_hosts"]],
    check: ({ webhooks }) => {
      try {
        parseAllowedHosts(webhooks.allowedHosts);
        return null;
      } catch (error) {
        if (error instanceof InvalidAllowedHostsError) return error.message;
        throw error;
      }
    },
  },
  {
    reads: [
      ["allocator", "foreign_use_webhook_url"],
      ["webhooks", "allowed_hosts"],
    ],
    check({ allocator: { foreignUseWebhookUrl: url }, webhooks }) {
      try {
        return url === null ? null : checkWebhookUrl(url, parseAllowedHosts(webhooks.allowedHosts));
      } catch (error) {
        // The rule before this one reports it.
        if (error instanceof InvalidAllowedHostsError) return null;
        throw error;
      }
    },
  },
];

/** Whether anything runs but stand-ins. */
function startsPrograms({ executors }: WorkConfig): boolean {
  return Object.values(executors).some(({ type }) => type !== "simulated" && type !== "echo");
}

/** As `NoNewPrivileges=` of a unit has it for all that it starts (prctl(2), PR_SET_NO_NEW_PRIVS). */
function mayGainNothing(): boolean {
  try {
    return /^NoNewPrivs:\s*1$/m.test(readFileSync("/proc/self/status", "latin1"));
  } catch {
    return false;
  }
}

/** Whose runs would be; `null`: somebody's who may. Of an external worker only the settings can be judged here. */
function userObjection({ runAs, allowSameUser, allowRoot, worker }: WorkConfig): string | null {
  const own = userInfo();
  const users = typeof runAs === "object" && runAs !== null ? Object.values(runAs) : [runAs ?? own.username];
  if (users.includes("root") && !allowRoot && (worker === "embedded" || runAs !== null)) {
    return "runs would be root's: name another user, or set work.allow_root: true";
  }
  if ((worker === "embedded" || runAs !== null) && users.includes(own.username) && !allowSameUser) {
    return `runs would be of the daemon's own user ${own.username}, who can read its keys and database: name another, or set work.allow_same_user: true`;
  }
  return null;
}
