/** API keys, as admins see and change them. */
import type { EpochMs } from "../core/base/time.ts";
import { DomainError } from "../core/model/errors.ts";
import type { Role } from "../core/model/roles.ts";
import type { AuditEntry, Sender } from "./audit.ts";

/** A key that the database has. */
export interface StoredKey {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  readonly principal: string;
  readonly role: Role;
  readonly createdAt: EpochMs;
  /** `null`: never. */
  readonly expiresAt: EpochMs | null;
}

export interface KeyUse {
  readonly keyId: string;
  readonly at: EpochMs;
}

export interface KeyStore {
  loadKeys(): readonly StoredKey[];
  loadKeyUses(): readonly KeyUse[];
  /** @throws StorageUnavailableError when nothing was written. */
  addKey(key: StoredKey, entry: AuditEntry): Promise<void>;
  /** @throws StorageUnavailableError when nothing was written. */
  dropKey(sha256: string, entry: AuditEntry): Promise<void>;
  /** @param given ids of the keys of the settings: what was noted of keys that are neither there nor stored is dropped. */
  noteKeyUses(uses: readonly KeyUse[], given: readonly string[]): Promise<void>;
}

export interface ListedKey {
  readonly id: string;
  readonly principal: string;
  readonly role: Role;
  readonly source: "file" | "database";
  /** `null`: not known of keys of the file. */
  readonly createdAt: EpochMs | null;
  readonly expiresAt: EpochMs | null;
  /** `null`: never. */
  readonly lastUsedAt: EpochMs | null;
}

export interface KeyAsk {
  readonly principal: string;
  readonly role: Role;
  readonly expiresAt: EpochMs | null;
}

export interface Keys {
  list(): readonly ListedKey[];
  /** @returns the key itself, which is kept nowhere. */
  create(ask: KeyAsk, sender: Sender): Promise<{ readonly key: string; readonly listed: ListedKey }>;
  /** The key is out of force when this is called, whatever can be stored. */
  revoke(id: string, sender: Sender): Promise<ListedKey>;
}

export class KeyNotFoundError extends DomainError {
  readonly code = "key-not-found";
  /** @param id `null`: what was given is no id, and may be a key. */
  constructor(id: string | null) {
    super(id === null ? "there is no such key: a key's id has 12 hex digits" : `there is no key ${JSON.stringify(id)}`);
  }
}

export class KeysInFileError extends DomainError {
  readonly code = "keys-in-file";
}

/** A new one and the one before it, while clients change over, and no more. */
export class TooManyKeysError extends DomainError {
  readonly code = "too-many-keys";
  constructor(principal: string, most: number) {
    super(`${principal} has ${most} keys in the database: revoke one of them first`);
  }
}

export class RevocationNotDurableError extends DomainError {
  readonly code = "revocation-not-durable";
}

export const NO_KEYS: Keys = {
  list: () => [],
  create: () => Promise.reject(new KeysInFileError("there are no keys here")),
  revoke: (id) => Promise.reject(new KeyNotFoundError(id)),
};
