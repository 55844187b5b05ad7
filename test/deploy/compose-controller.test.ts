/** The compose file of the controller with its PostgreSQL, without containers: what it says, the controller takes. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { loadSettings } from "../../src/controller/settings/settings.ts";

const COMPOSE = parse(readFileSync("deploy/compose.controller.yaml", "utf8"));
const { postgres, controller } = COMPOSE.services;
const folder = mkdtempSync(join(tmpdir(), "compose-controller-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the compose file of the controller", () => {
  test("gives the controller the database that the PostgreSQL makes, with the same password", () => {
    const password = join(folder, "password");
    writeFileSync(password, "c2VjcmV0\n");
    expect(controller.environment.DB_PASSWORD_FILE).toBe(postgres.environment.POSTGRES_PASSWORD_FILE);
    const settings = loadSettings({}, { ...controller.environment, DB_PASSWORD_FILE: password });
    expect(settings.postgres).toEqual({
      ...{ host: "postgres", port: 5432, password: "c2VjcmV0", schema: "orchestration", tls: null },
      database: postgres.environment.POSTGRES_DB,
      user: postgres.environment.POSTGRES_USER,
    });
    expect(Object.keys(COMPOSE.services)).toContain(settings.postgres?.host);
  });

  test("lets nobody but the controller reach the database, and nobody the controller without a key", () => {
    expect(postgres.ports).toBeUndefined();
    expect(postgres.networks).toEqual(["database"]);
    expect(COMPOSE.networks.database.internal).toBe(true);
    // It is told to listen on all addresses: without keys it refuses to start.
    const [, , , flag, host] = controller.command;
    expect(flag).toBe("--host");
    expect(() => loadSettings({ host }, {})).toThrow("only loopback is listened on");
  });

  test("asks the controller how it is by a program that answers yes only where it is well", async () => {
    const [kind, program, ...args] = controller.healthcheck.test;
    // What YAML takes for a map is no argument: neither compose program starts anything then.
    expect([kind, program, ...args].map((one) => typeof one)).toEqual(Array(4).fill("string"));
    expect([kind, program]).toEqual(["CMD", "node"]);
    const server = createServer((_, answer) => answer.writeHead(status).end());
    let status = 200;
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as AddressInfo;
    const asked = () =>
      new Promise((done) => {
        const own = args.map((one: string) => one.replace(":8003/", `:${port}/`));
        spawn(process.execPath, own, { stdio: "ignore" }).once("exit", done);
      });
    expect(await asked()).toBe(0);
    status = 503;
    expect(await asked()).toBe(1);
    await new Promise((done) => server.close(done));
    expect(await asked()).toBe(1);
  });

  test("gives the controller time to end", () => {
    expect(Number.parseInt(controller.stop_grace_period, 10)).toBeGreaterThan(35);
  });
});
