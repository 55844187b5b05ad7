import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { connectRedis } from "../../src/broker/connection.ts";
import { chooseConfigFile, loadConfig } from "../../src/config/load.ts";
import { ConfigError } from "../../src/config/problems.ts";
import { eventually } from "../e2e/daemon.ts";
import { freePort } from "../e2e/free-port.ts";
import { hasRedis, NEEDS_REDIS } from "../work-service/redis.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

interface Instruction {
  readonly name: string;
  readonly rest: string;
}

/** The instructions of each stage. */
function stagesOf(dockerfile: string): Instruction[][] {
  const lines = dockerfile.replaceAll(/^#.*\n/gm, "").replaceAll(/\\\n\s*/g, "");
  const instructions = lines.split("\n").flatMap((line) => {
    const { name, rest } = /^(?<name>[A-Z]+) +(?<rest>.*)$/.exec(line)?.groups ?? {};
    return name === undefined || rest === undefined ? [] : [{ name, rest }];
  });
  const stages: Instruction[][] = [];
  for (const instruction of instructions) {
    if (instruction.name === "FROM") stages.push([]);
    stages.at(-1)?.push(instruction);
  }
  return stages;
}

const STAGES = stagesOf(read("Dockerfile"));
const FINAL = STAGES.at(-1) ?? [];
const all = (name: string, stage = FINAL) => stage.filter((one) => one.name === name).map((one) => one.rest);
const only = (name: string): string => {
  const found = all(name);
  expect(found, name).toHaveLength(1);
  return found[0] as string;
};
const IMAGE_ENV = Object.fromEntries(
  all("ENV").flatMap((rest) => rest.split(" ").map((pair) => pair.split(/=(.*)/).slice(0, 2) as [string, string])),
);

interface Service {
  readonly profiles: string[];
  readonly ports: string[];
  readonly volumes: string[];
  readonly configs?: { source: string; target: string }[];
  readonly [key: string]: unknown;
}
const COMPOSE: {
  services: Record<string, Service>;
  configs: Record<string, { content: string }>;
} = parse(read("deploy/compose.yaml"), { merge: true });
const service = (profile: string): Service => {
  const found = Object.values(COMPOSE.services).find((one) => one.profiles.includes(profile));
  if (found === undefined) throw new Error(`no service has the profile ${profile}`);
  return found;
};

/** Reads settings as the container would; a list of problems when they are refused. */
function loadInImage(yaml: string) {
  const path = join(mkdtempSync(join(tmpdir(), "image-")), "config.yaml");
  writeFileSync(path, yaml);
  try {
    return loadConfig({ path, explicit: true, env: IMAGE_ENV, flags: {} }).config;
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map((problem) => problem.path);
    throw error;
  } finally {
    rmSync(dirname(path), { recursive: true });
  }
}

describe("the image", () => {
  test("is built in one stage and runs in another, both on the same Node, which package.json accepts", () => {
    const bases = STAGES.map((stage) => stage[0]?.rest.split(" ")[0]);
    expect(bases).toHaveLength(2);
    expect(new Set(bases).size).toBe(1);
    const major = Number(/^node:(\d+)-bookworm-slim$/.exec(bases[0] ?? "")?.[1]);
    const oldest = Number(/>=(\d+)/.exec(parse(read("package.json")).engines.node)?.[1]);
    expect(major).toBeGreaterThanOrEqual(oldest);
  });

  test("runs as a numeric user that is neither root nor the first login, and that owns the state's folder", () => {
    const user = only("USER");
    const [uid, gid] = user.split(":").map(Number);
    expect(uid).toBeGreaterThan(1_000);
    expect(gid).toBeGreaterThan(1_000);
    expect(all("RUN").join("\n")).toContain(`install -d -o ${uid} -g ${gid} -m 0750 ${only("VOLUME")}`);
    expect(only("WORKDIR")).toBe(only("VOLUME"));
  });

  test("keeps the default database in its volume", () => {
    const config = loadInImage("server: { allow_unauthenticated: true }");
    if (Array.isArray(config)) throw new Error(config.join());
    expect(join(only("WORKDIR"), config.storage.path).startsWith(`${only("VOLUME")}/`)).toBe(true);
  });

  test("listens on every address at the port it exposes, and is refused without keys unless that is allowed", () => {
    expect(loadInImage("{}")).toContain("server.host");
    const config = loadInImage("server: { allow_unauthenticated: true }");
    expect(config).toMatchObject({ server: { host: "0.0.0.0", port: Number(only("EXPOSE")) } });
  });

  test("reads the settings that it names, and fails when they are not there", () => {
    const { path, explicit } = chooseConfigFile(undefined, IMAGE_ENV);
    expect(explicit).toBe(true);
    expect(all("RUN").join("\n")).toContain(`install -d -m 0755 ${dirname(path)}`);
  });

  test("starts the bundle, beside the package.json that says it is an ES module", () => {
    const { bin, type } = parse(read("package.json"));
    const [node, program] = JSON.parse(only("ENTRYPOINT"));
    expect(node).toBe("node");
    expect(program).toBe(join("/app", bin["gpu-orchestrator"]));
    expect(JSON.parse(only("CMD"))).toEqual(["serve"]);
    expect(type).toBe("module");
    expect(all("COPY")).toContain("--from=build /src/package.json /app/package.json");
  });

  test("has the LLM Orchestrator's /manager, which is the controller with the arguments that it is given", () => {
    const folder = mkdtempSync(join(tmpdir(), "manager-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const [made = ""] = all("RUN").filter((rest) => rest.includes("/manager"));
    execFileSync("sh", ["-c", made.replaceAll("/manager", `${folder}/manager`)]);
    writeFileSync(join(folder, "node"), '#!/bin/sh\nprintf "%s\\n" "$@"\n', { mode: 0o755 });
    const args = ["--config=/etc/config/config.yaml", "--leader-elect", "two words"];
    const env = { PATH: `${folder}:${process.env.PATH}` };
    const started = execFileSync(`${folder}/manager`, args, { env, encoding: "utf8" });
    expect(started.trimEnd().split("\n")).toEqual(["/app/dist/gpu-orchestrator.js", "controller", ...args]);
  });

  test("gets nothing of node_modules, and no npm configuration but by a secret", () => {
    expect(all("COPY").join("\n")).not.toContain("node_modules");
    expect(read("Dockerfile")).toMatch(/RUN --mount=type=secret,id=npmrc,target=\/root\/\.npmrc npm ci/);
    expect(read(".npmrc")).not.toMatch(/registry|_auth|cafile/i);
  });

  test("sends to the build only what the Dockerfile copies", () => {
    const rules = read(".dockerignore")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    const copied = STAGES.flatMap((stage) => all("COPY", stage))
      .filter((rest) => !rest.startsWith("--from"))
      .flatMap((rest) => rest.split(" ").slice(0, -1))
      .map((path) => path.replace(/^\.\//, ""));
    expect(rules).toEqual(["*", ...rules.slice(1)]);
    expect(new Set(rules.slice(1))).toEqual(new Set(copied.map((path) => `!${path}`)));
  });
});

describe("the image's health check", () => {
  let folder: string;
  const server = createServer((request, response) => response.writeHead(request.url === "/livez" ? 200 : 404).end());
  let port: number;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "health-"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true });
  });

  /** The exit code of the HEALTHCHECK's command, run from the sources. */
  async function check(yaml: string, env: Record<string, string> = {}): Promise<number | null> {
    const command = /CMD (\[.*\])$/.exec(only("HEALTHCHECK"))?.[1] ?? "[]";
    const [node, program, ...verbs] = JSON.parse(command);
    expect([node, program]).toEqual(JSON.parse(only("ENTRYPOINT")));
    const file = join(folder, "config.yaml");
    writeFileSync(file, yaml);
    const child = spawn(process.execPath, [join(ROOT, "src/cli/launch.ts"), ...verbs], {
      env: { PATH: process.env.PATH, ...IMAGE_ENV, CONFIG_PATH: file, ...env },
      stdio: "ignore",
    });
    return new Promise((resolve) => child.once("close", resolve));
  }

  test("asks on the port of the settings file", async () => {
    expect(await check(`server: { port: ${port}, allow_unauthenticated: true }`)).toBe(0);
  });

  test("asks on the port of the environment, which beats the file's", async () => {
    expect(await check("server: { port: 1, allow_unauthenticated: true }", { PORT: String(port) })).toBe(0);
  });

  test("fails when nobody answers there", async () => {
    expect(await check("server: { port: 1, allow_unauthenticated: true }")).toBe(1);
  });
});

describe("the compose example", () => {
  test.each(["keys", "loopback"])(
    "shuts the container of the profile %s in, GPUs and process list excepted",
    (name) => {
      const { deploy, ...given } = service(name);
      expect(given).toMatchObject({
        user: only("USER"),
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        pid: "host",
        hostname: "gpu-orchestrator",
        build: "..",
      });
      expect(given.privileged).toBeUndefined();
      expect(deploy).toEqual({
        resources: {
          reservations: { devices: [{ driver: "nvidia", count: "all", capabilities: ["gpu", "utility"] }] },
        },
      });
      expect(IMAGE_ENV.NVIDIA_DRIVER_CAPABILITIES).toBe("utility");
      expect(given.volumes).toContain(`state:${only("VOLUME")}`);
      expect(given.ports.map((port) => port.split(":").slice(-1)[0])).toEqual([only("EXPOSE")]);
    },
  );

  test("publishes the port without keys on loopback alone", () => {
    const { ports, configs } = service("loopback");
    expect(ports.every((port) => port.startsWith("127.0.0.1:"))).toBe(true);
    expect(configs).toEqual([{ source: "loopback", target: IMAGE_ENV.CONFIG_PATH }]);
    expect(loadInImage(COMPOSE.configs.loopback?.content ?? "")).toMatchObject({
      server: { allowUnauthenticated: true },
      auth: { enabled: false },
    });
  });

  test("has a Redis for this host alone, which forgets nothing that it was given and answers whoever reaches it", () => {
    const { ports, command } = service("redis") as Service & { readonly command: readonly string[] };
    expect(ports).toEqual(["127.0.0.1:6379:6379"]);
    const [program, ...options] = command;
    expect(program).toBe("redis-server");
    const pairs = Object.fromEntries(options.flatMap((word, i) => (i % 2 === 0 ? [[word, options[i + 1]]] : [])));
    expect(pairs).toMatchObject({ "--maxmemory-policy": "noeviction", "--protected-mode": "no", "--save": "" });
  });

  test.skipIf(!hasRedis)(`starts that Redis with arguments that it takes (${NEEDS_REDIS})`, async () => {
    const { command } = service("redis") as Service & { readonly command: readonly string[] };
    const port = await freePort();
    const redis = spawn("redis-server", [...command.slice(1), "--port", String(port)], {
      stdio: "ignore",
      cwd: tmpdir(),
    });
    onTestFinished(() => void redis.kill("SIGKILL"));
    const config = async () => {
      const connection = await connectRedis(`redis://127.0.0.1:${port}`);
      const told = await connection.call(["CONFIG", "GET", "maxmemory-policy", "protected-mode"]);
      connection.close();
      return told;
    };
    const told = await eventually(
      () => config().catch(() => null),
      (answer) => answer !== null,
      20_000,
    );
    expect(told).toEqual(expect.arrayContaining(["noeviction", "no"]));
  });

  test("mounts the folder of the settings with keys, so that a reload sees a file that was replaced", () => {
    const folder = dirname(IMAGE_ENV.CONFIG_PATH ?? "");
    expect(service("keys").volumes).toContain(`${folder}:${folder}:ro`);
    expect(service("keys").configs).toBeUndefined();
  });

  test("has settings with keys that are refused until the keys are real", () => {
    const example = read("deploy/config.keys.example.yaml");
    const problems = loadInImage(example);
    expect(problems).toHaveLength(2);
    const [training, operator] = [sha256("a key of my own"), sha256("another key of my own")];
    const filled = example
      .replace("PUT-64-HEX-DIGITS-HERE", training)
      .replace("PUT-64-OTHER-HEX-DIGITS-HERE", operator);
    expect(loadInImage(filled)).toMatchObject({
      server: { host: "0.0.0.0", allowUnauthenticated: false },
      auth: {
        enabled: true,
        keys: [
          { sha256: training, principal: "training", role: "allocate" },
          { sha256: operator, principal: "operator", role: "admin" },
        ],
      },
    });
  });
});

/** As `sha256sum` prints it for the key that the example's comment pipes into it. */
function sha256(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
