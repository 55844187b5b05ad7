import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { KeyBook } from "../../src/daemon/key-book.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import type { KeyStore, KeyUse, StoredKey } from "../../src/ports/keys.ts";
import { StorageUnavailableError } from "../../src/ports/refusals.ts";
import { Revocations } from "../../src/store/revocations.ts";

const ROOT = { principal: "root", admin: true };
const ASK = { principal: "ann", role: "allocate", expiresAt: null } as const;
const FILE_KEY = { sha256: "f".repeat(64), principal: "root", role: "admin", quotas: null } as const;

/** What a disk keeps: rows, and whether there is room for more. */
class Disk implements KeyStore {
  readonly path: string;
  readonly rows = new Map<string, StoredKey>();
  uses: readonly KeyUse[] = [];
  /** The settings' keys, as they were told with the last uses. */
  given: readonly string[] = [];
  /** Full but for the ballast, full whatever is let go, or neither. */
  room: "enough" | "ballast" | "none" = "enough";

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), "keys-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    this.path = join(folder, "state.db");
  }

  loadKeys = () => [...this.rows.values()];
  loadKeyUses = () => this.uses;

  async addKey(key: StoredKey): Promise<void> {
    this.#demandRoom();
    this.rows.set(key.sha256, key);
  }

  async dropKey(sha256: string): Promise<void> {
    this.#demandRoom();
    this.rows.delete(sha256);
  }

  async noteKeyUses(uses: readonly KeyUse[], given: readonly string[]): Promise<void> {
    this.#demandRoom();
    this.uses = uses;
    this.given = given;
  }

  #demandRoom(): void {
    const hasRoom = this.room === "enough" || (this.room === "ballast" && !existsSync(`${this.path}.ballast`));
    if (!hasRoom) throw new StorageUnavailableError("the disk is full");
  }
}

function started(disk: Disk, clock = new ManualClock()) {
  const book = new KeyBook({
    auth: () => auth,
    store: disk,
    revocations: new Revocations(disk.path),
    clock,
    log: { error: () => undefined, info: () => undefined },
  });
  book.start();
  onTestFinished(() => book.stop());
  return book;
}

const auth = { enabled: true, headerName: "X-API-Key", store: "database", keys: [FILE_KEY] } as const;
const principals = (book: KeyBook) => book.inForce().map(({ principal }) => principal);

test("keys of the settings and of the database are in force side by side, and a new one at once", async () => {
  const disk = new Disk();
  const book = started(disk);
  const before = book.inForce();
  const { key, listed } = await book.create(ASK, ROOT);
  expect(key).toMatch(/^gpuo_[0-9A-Za-z]{36}$/);
  expect(JSON.stringify([...disk.rows])).not.toContain(key);
  expect(principals(book)).toEqual(["root", "ann"]);
  expect(book.inForce()).not.toBe(before);
  expect(book.list()).toMatchObject([
    { principal: "root", source: "file" },
    { id: listed.id, principal: "ann", source: "database", lastUsedAt: null },
  ]);
  await expect(book.revoke("ffffffffffff", ROOT)).rejects.toMatchObject({ code: "keys-in-file" });
  await expect(book.revoke("000000000000", ROOT)).rejects.toMatchObject({ code: "key-not-found" });
});

test("a principal has two live keys at most, and one that has expired does not count", async () => {
  const clock = new ManualClock();
  const book = started(new Disk(), clock);
  await book.create({ ...ASK, expiresAt: clock.now() + 1_000 }, ROOT);
  await book.create(ASK, ROOT);
  await expect(book.create(ASK, ROOT)).rejects.toMatchObject({ code: "too-many-keys" });
  await book.create({ ...ASK, principal: "bob" }, ROOT);
  clock.advance(1_000);
  await book.create(ASK, ROOT);
});

test("a key that cannot be stored is in force for nobody", async () => {
  const disk = new Disk();
  const book = started(disk);
  disk.room = "none";
  await expect(book.create(ASK, ROOT)).rejects.toMatchObject({ code: "storage-unavailable" });
  expect(principals(book)).toEqual(["root"]);
});

test("on a full disk the ballast makes room for a revocation", async () => {
  const disk = new Disk();
  const book = started(disk);
  const { listed } = await book.create(ASK, ROOT);
  expect(existsSync(`${disk.path}.ballast`)).toBe(true);
  disk.room = "ballast";
  await book.revoke(listed.id, ROOT);
  expect([principals(book), disk.rows.size]).toEqual([["root"], 0]);
});

test("where even that fails the key is out of force, the answer says so, and a restart does not bring it back", async () => {
  const disk = new Disk();
  const first = started(disk);
  const { listed } = await first.create(ASK, ROOT);
  disk.room = "none";
  await expect(first.revoke(listed.id, ROOT)).rejects.toMatchObject({ code: "revocation-not-durable" });
  expect([principals(first), disk.rows.size]).toEqual([["root"], 1]);

  const clock = new ManualClock();
  const second = started(disk, clock);
  expect(principals(second)).toEqual(["root"]);
  disk.room = "enough";
  clock.advance(1_000);
  await expect.poll(() => disk.rows.size).toBe(0);
  await expect.poll(() => new Revocations(disk.path).marked()).toEqual([]);
  expect(existsSync(`${disk.path}.ballast`)).toBe(true);
});

test("when a key was last used is written down once a minute, and known to the next start", async () => {
  const disk = new Disk();
  const clock = new ManualClock();
  const book = started(disk, clock);
  const at = clock.now();
  book.used("ffffffffffff");
  expect([book.list()[0]?.lastUsedAt, disk.uses]).toEqual([at, []]);
  clock.advance(60_000);
  await expect.poll(() => disk.uses).toEqual([{ keyId: "ffffffffffff", at }]);
  expect(disk.given).toEqual(["ffffffffffff"]);
  expect(started(disk).list()[0]?.lastUsedAt).toBe(at);
});
