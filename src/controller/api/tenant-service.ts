/**
 * Whether a tenant exists, asked of the service that keeps them (`TENANT_SERVICE_URL`): `GET URL/tenants/ID`. It answers 404 for
 * one that does not; of one that does, `is_active: false` or a `status` other than `active` says that it may have nothing.
 *
 * What it said holds for a minute. Where it cannot be asked, nobody is let in.
 */
import { ControllerError } from "../objects/errors.ts";

const CACHED_MS = 60_000;
const MAX_CACHED = 10_000;
const TIMEOUT_MS = 3_000;

export class TenantService {
  readonly #url: string;
  readonly #now: () => number;
  readonly #known = new Map<string, { readonly at: number; readonly isOpen: boolean }>();

  constructor(url: string, now: () => number) {
    this.#url = url;
    this.#now = now;
  }

  /** @throws ControllerError `tenant-foreign`, `tenants-unavailable` */
  async demand(tenant: string): Promise<void> {
    // In a URL they are the way to another page, which may well be there.
    if (tenant === "." || tenant === "..") throw new ControllerError("tenant-foreign", `${tenant} names no tenant`);
    const known = this.#known.get(tenant);
    const isOpen = known !== undefined && this.#now() - known.at < CACHED_MS ? known.isOpen : await this.#ask(tenant);
    if (!isOpen) throw new ControllerError("tenant-foreign", `there is no active tenant ${tenant}`);
  }

  async #ask(tenant: string): Promise<boolean> {
    const isOpen = await this.#answer(tenant);
    if (this.#known.size >= MAX_CACHED) this.#known.clear();
    this.#known.set(tenant, { at: this.#now(), isOpen });
    return isOpen;
  }

  async #answer(tenant: string): Promise<boolean> {
    const away = (why: string) => new ControllerError("tenants-unavailable", `the tenant service: ${why}`);
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const answer = await fetch(`${this.#url}/tenants/${encodeURIComponent(tenant)}`, { signal, redirect: "error" });
      if (answer.status === 404) {
        await answer.body?.cancel();
        return false;
      }
      if (!answer.ok) {
        await answer.body?.cancel();
        throw away(`status ${answer.status}`);
      }
      const body: unknown = await answer.json();
      // A list or a word says nothing of a tenant.
      if (!isObject(body)) throw away("an answer that is no tenant");
      return body.is_active !== false && (body.status === undefined || body.status === "active");
    } catch (error) {
      throw error instanceof ControllerError ? error : away((error as Error).message);
    }
  }
}

function isObject(given: unknown): given is { readonly is_active?: unknown; readonly status?: unknown } {
  return typeof given === "object" && given !== null && !Array.isArray(given);
}
