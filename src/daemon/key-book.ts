/**
 * The API keys in force: those of the settings, and with `auth.store: database` those of the database.
 *
 * 1. A revoked key is out of force at once. Until the database has let go of it, the marker beside the database names it,
 *    so that a restart does not bring it back.
 * 2. When a key was last used is written down once a minute at most.
 */
import type { Config } from "../config/config.ts";
import { type ApiKey, keyIdOf } from "../http/exchange/auth.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/logger.ts";
import { newKey } from "../platform/new-key.ts";
import { doneBy, type Sender } from "../ports/audit.ts";
import {
  type KeyAsk,
  KeyNotFoundError,
  type KeyStore,
  type Keys,
  KeysInFileError,
  type ListedKey,
  RevocationNotDurableError,
  type StoredKey,
  TooManyKeysError,
} from "../ports/keys.ts";
import { StorageUnavailableError } from "../ports/refusals.ts";
import type { Revocations } from "../store/revocations.ts";

/** The one in use, and the next. */
const KEYS_A_PRINCIPAL = 2;
const USES_EVERY_MS = 60_000;
const TRY_AGAIN_MS = 1_000;

export interface KeyBookParts {
  readonly auth: () => Config["auth"];
  readonly store: KeyStore;
  readonly revocations: Revocations;
  readonly clock: Clock;
  readonly log: Pick<Logger, "error" | "info">;
}

export class KeyBook implements Keys {
  readonly #parts: KeyBookParts;
  readonly #stored = new Map<string, StoredKey>();
  /** Revoked, and still in the database. */
  readonly #owed = new Map<string, Sender>();
  readonly #uses: Map<string, number>;
  #newUses = new Set<string>();
  #keys: readonly ApiKey[] = [];
  #madeOf: readonly ApiKey[] | null = null;
  #cancels: (() => void)[] = [];
  #isRunning = false;

  constructor(parts: KeyBookParts) {
    this.#parts = parts;
    this.#uses = new Map(parts.store.loadKeyUses().map(({ keyId, at }) => [keyId, at]));
    if (parts.auth().store === "file") return;
    const marked = new Set(parts.revocations.marked());
    for (const key of parts.store.loadKeys()) {
      if (marked.has(key.sha256)) this.#owed.set(key.sha256, { principal: "gpu-orchestrator", admin: true });
      else this.#stored.set(key.sha256, key);
    }
  }

  start(): void {
    const { clock, revocations } = this.#parts;
    const every = (ms: number, work: () => Promise<void>): void => {
      const cancel = clock.after(ms, async () => {
        this.#cancels = this.#cancels.filter((one) => one !== cancel);
        await work();
        if (this.#isRunning) every(ms, work);
      });
      this.#cancels.push(cancel);
    };
    this.#isRunning = true;
    if (this.#parts.auth().store === "database" && this.#owed.size === 0) revocations.prepare();
    every(USES_EVERY_MS, () => this.#writeUses());
    every(TRY_AGAIN_MS, () => this.#payOwed());
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    for (const cancel of this.#cancels) cancel();
    await this.#writeUses();
  }

  /** Another list when they change. */
  inForce(): readonly ApiKey[] {
    const { keys } = this.#parts.auth();
    if (this.#madeOf !== keys) {
      this.#madeOf = keys;
      const given = new Set(keys.map(({ sha256 }) => sha256));
      const stored = [...this.#stored.values()].filter(({ sha256 }) => !given.has(sha256));
      this.#keys = [...keys, ...stored.map(asApiKey)];
    }
    return this.#keys;
  }

  used(keyId: string): void {
    this.#uses.set(keyId, this.#parts.clock.now());
    this.#newUses.add(keyId);
  }

  list(): readonly ListedKey[] {
    const ofFile = this.#parts.auth().keys.map((key) => this.#listed(key, "file", null));
    return [
      ...ofFile,
      ...[...this.#stored.values()].map((key) => this.#listed(asApiKey(key), "database", key.createdAt)),
    ];
  }

  async create(ask: KeyAsk, sender: Sender): Promise<{ readonly key: string; readonly listed: ListedKey }> {
    const { auth, clock, store } = this.#parts;
    if (auth().store === "file") {
      throw new KeysInFileError(
        "keys stand in the settings: gpuo keys create makes their line, or set auth.store: database",
      );
    }
    const now = clock.now();
    const live = [...this.#stored.values()].filter(
      ({ principal, expiresAt }) => principal === ask.principal && (expiresAt ?? Number.POSITIVE_INFINITY) > now,
    );
    if (live.length >= KEYS_A_PRINCIPAL) throw new TooManyKeysError(ask.principal, KEYS_A_PRINCIPAL);
    const { key, sha256 } = newKey();
    const stored = { sha256, ...ask, createdAt: now };
    this.#stored.set(sha256, stored);
    try {
      await store.addKey(stored, this.#entry(sender, "create key", sha256, ask.principal));
    } catch (error) {
      this.#stored.delete(sha256);
      throw error;
    }
    this.#madeOf = null;
    return { key, listed: this.#listed(asApiKey(stored), "database", now) };
  }

  async revoke(id: string, sender: Sender): Promise<ListedKey> {
    const found = [...this.#stored.values()].find(({ sha256 }) => keyIdOf(sha256) === id);
    if (found === undefined) {
      const inFile = this.#parts.auth().keys.some(({ sha256 }) => keyIdOf(sha256) === id);
      if (inFile) throw new KeysInFileError("this key stands in the settings: take it out there, then reload");
      throw new KeyNotFoundError(id);
    }
    const listed = this.#listed(asApiKey(found), "database", found.createdAt);
    this.#stored.delete(found.sha256);
    this.#madeOf = null;
    this.#owed.set(found.sha256, sender);
    await this.#letGo(found.sha256);
    return listed;
  }

  async #letGo(sha256: string): Promise<void> {
    const { revocations } = this.#parts;
    try {
      await this.#drop(sha256).catch((error: unknown) => {
        if (!(error instanceof StorageUnavailableError) || !revocations.letBallastGo()) throw error;
        return this.#drop(sha256);
      });
    } catch (error) {
      if (!(error instanceof StorageUnavailableError)) throw error;
      const isMarked = revocations.mark([...this.#owed.keys()]);
      throw new RevocationNotDurableError(
        isMarked
          ? "the key is out of force, also after a restart; the database will let go of it as soon as it can be written"
          : "the key is out of force until the daemon ends, but a restart would bring it back: make room on the disk",
      );
    }
  }

  async #drop(sha256: string): Promise<void> {
    const sender = this.#owed.get(sha256) as Sender;
    await this.#parts.store.dropKey(sha256, this.#entry(sender, "revoke key", sha256, null));
    this.#owed.delete(sha256);
  }

  /** See 1. */
  async #payOwed(): Promise<void> {
    if (this.#owed.size === 0) return;
    const { revocations, log } = this.#parts;
    try {
      for (const sha256 of this.#owed.keys()) await this.#drop(sha256);
      revocations.mark([]);
      revocations.prepare();
      log.info({}, "the database has let go of the keys that were revoked while it could not be written");
    } catch (err) {
      if (!(err instanceof StorageUnavailableError))
        log.error({ err }, "a revoked key could not be taken out of the database");
    }
  }

  /** What is lost on a full disk is asked for again by the next use. */
  async #writeUses(): Promise<void> {
    const uses = [...this.#newUses].map((keyId) => ({ keyId, at: this.#uses.get(keyId) as number }));
    this.#newUses = new Set();
    if (uses.length === 0) return;
    const { auth, store } = this.#parts;
    const given = auth().keys.map(({ sha256 }) => keyIdOf(sha256));
    await store.noteKeyUses(uses, given).catch(() => undefined);
  }

  #entry(sender: Sender, otherwise: string, sha256: string, principal: string | null) {
    const object = principal === null ? keyIdOf(sha256) : `${keyIdOf(sha256)} of ${principal}`;
    return doneBy(sender, this.#parts.clock.now(), { otherwise, object, reason: null });
  }

  #listed(
    { sha256, principal, role, expiresAt }: ApiKey,
    source: ListedKey["source"],
    createdAt: number | null,
  ): ListedKey {
    const id = keyIdOf(sha256);
    const lastUsedAt = this.#uses.get(id) ?? null;
    return { id, principal, role, source, createdAt, expiresAt: expiresAt ?? null, lastUsedAt };
  }
}

function asApiKey({ sha256, principal, role, expiresAt }: StoredKey): ApiKey {
  return { sha256, principal, role, ...(expiresAt === null ? {} : { expiresAt }) };
}
