/** Which database the settings choose. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadSettings } from "../../../src/controller/settings/settings.ts";

const folder = mkdtempSync(join(tmpdir(), "controller-settings-"));
afterAll(() => rmSync(folder, { recursive: true }));

function postgres(env: Readonly<Record<string, string>>, database?: string) {
  if (database === undefined) return loadSettings({}, env).postgres;
  const config = join(folder, "config.yaml");
  writeFileSync(config, `database: "${database}"\n`);
  return loadSettings({ config }, env).postgres;
}

describe("the database of the settings", () => {
  test("is a file of SQLite, unless DB_HOST or a URL names a PostgreSQL", () => {
    expect(loadSettings({}, {})).toMatchObject({ postgres: null, database: "data/controller.db" });
    expect(postgres({ DB_PASSWORD: "x", DB_NAME: "y" })).toBeNull();
    expect(postgres({ DB_HOST: "" })).toBeNull();
  });

  test("has the Orchestration Service's defaults, but no password, and TLS that is verified", () => {
    const at = { host: "db", port: 5_432, database: "ai_platform", user: "ai_platform", schema: "orchestration" };
    expect(postgres({ DB_HOST: "db" })).toEqual({ ...at, password: null, tls: { ca: null } });
    expect(postgres({ DB_HOST: "db", DB_SSL: "disable" })?.tls).toBeNull();
    expect(postgres({ DB_HOST: "db", DB_SSL: "require" })?.tls).toEqual({ ca: null });
  });

  test("is what a URL says, and the environment over it", () => {
    const url = "postgres://us%40er:pa%3Ass@[::1]:6543/na%2Fme?sslmode=disable";
    const at = { host: "::1", port: 6_543, database: "na/me", user: "us@er", password: "pa:ss", tls: null };
    expect(postgres({}, url)).toMatchObject(at);
    expect(postgres({ DB_HOST: "other", DB_PASSWORD: "mine" }, url)).toMatchObject({
      ...at,
      ...{ host: "other", password: "mine" },
    });
    expect(postgres({}, "postgresql://db")).toMatchObject({ host: "db", port: 5_432, database: "ai_platform" });
  });

  test("takes password and authority from files", () => {
    const [password, ca] = [join(folder, "password"), join(folder, "ca.pem")];
    writeFileSync(password, "of a file\n");
    writeFileSync(ca, "PEM");
    const env = { DB_HOST: "db", DB_PASSWORD_FILE: password, DB_PASSWORD: "other", DB_SSL_CA: ca };
    expect(postgres(env)).toMatchObject({ password: "of a file", tls: { ca: "PEM" } });
  });

  test("is refused where something of it cannot be, and no refusal has a password in it", () => {
    const wrong = {
      ...{ DB_HOST: "db", DB_PORT: "http", DB_SSL: "prefer", DB_SCHEMA: "x; DROP", DB_PASSWORD: "secret-1" },
      ...{ DB_PASSWORD_FILE: join(folder, "none"), RESOURCE_TRACK_INTERVAL: "0" },
    };
    const told = (act: () => unknown): string => {
      try {
        act();
        return "";
      } catch (error) {
        return JSON.stringify(error, Object.getOwnPropertyNames(error));
      }
    };
    const said = told(() => postgres(wrong));
    for (const name of Object.keys(wrong)) {
      if (!["DB_HOST", "DB_PASSWORD"].includes(name)) expect(said).toContain(name);
    }
    expect(said).not.toContain("secret-1");
    const url = told(() => postgres({}, "postgres://me:secret-2@host:port/x"));
    expect(url).toContain("database");
    expect(url).not.toContain("secret-2");
  });
});
