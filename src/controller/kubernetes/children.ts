/**
 * What workloads are made of, in the server and as it is to be.
 *
 *  1. Nothing is applied that is there already, as far as we would set it; what others set stays.
 *  2. What was as we want it and is so no longer has been changed by somebody else: it is put back, and named.
 *  3. What the server refuses is asked for again, since rights come and names become free, but with growing pauses.
 *  4. Kinds that not every cluster has are made where they are, and are missed nowhere.
 *  5. What is there under a name of ours and is somebody else's is neither taken over nor deleted: the workload says so.
 *  6. Where a kind may not be read that not every workload has, only those that have one are held up.
 */
import { isDeepStrictEqual } from "node:util";
import { canonicalJson } from "../objects/canonical.ts";
import { ControllerError } from "../objects/errors.ts";
import { Refusals } from "../reconcile/refusals.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { type Child, claimNameOf, isMadeFor, isOthers, OPTIONAL, type OptionalKind, OURS } from "./owned.ts";
import { asTrouble, called, thereIs, unlessGone } from "./trouble.ts";
import { type KubeObject, Watch } from "./watch.ts";

const KINDS = {
  deployments: "/apis/apps/v1",
  poddisruptionbudgets: "/apis/policy/v1",
  services: "/api/v1",
  configmaps: "/api/v1",
  persistentvolumeclaims: "/api/v1",
  networkpolicies: "/apis/networking.k8s.io/v1",
} as const;
type Kind = keyof typeof KINDS | OptionalKind;
/** What not every workload has. */
const OF_SOME: ReadonlySet<Kind> = new Set(["networkpolicies", "persistentvolumeclaims", "poddisruptionbudgets"]);

const DISCOVER_MS = 60_000;
const AGAIN_MS = 5_000;
interface Applied {
  readonly object: Child["object"];
  readonly version: string;
  /** What we applied as the server has written it: a quantity, for one, in its own form. */
  readonly settled: unknown;
}

export class Children {
  readonly #connection: KubeConnection;
  readonly #changed: () => void;
  readonly #watches = new Map<Kind, Watch>();
  #discoveredAt = Number.NEGATIVE_INFINITY;
  /** By path: what we applied, and the version that it had then. What a server makes of it otherwise is its own affair. */
  readonly #applied = new Map<string, Applied>();
  readonly #refusals = new Refusals();

  constructor(connection: KubeConnection, changed: () => void) {
    this.#connection = connection;
    this.#changed = changed;
    for (const [kind, base] of Object.entries(KINDS)) this.#watches.set(kind as Kind, this.#watch(kind, base));
  }

  #watch(kind: string, base: string): Watch {
    return new Watch(this.#connection, `${base}/${kind}`, { changed: this.#changed, labelSelector: OURS });
  }

  /** Those that must be up to date before anything is decided. */
  get watches(): readonly Watch[] {
    const isNeeded = (kind: Kind, { isForbidden }: Watch) => !(kind in OPTIONAL) && !(OF_SOME.has(kind) && isForbidden);
    return [...this.#watches].flatMap(([kind, watch]) => (isNeeded(kind, watch) ? [watch] : []));
  }

  /** @throws ControllerError `backend-refused` with the right that is missing to see one of them. */
  demandSeen(made: readonly Child[]): void {
    for (const { path } of made) {
      const watch = this.#watchOf(path);
      if (watch?.isForbidden === true) throw new ControllerError("backend-refused", watch.trouble ?? path);
    }
  }

  get all(): readonly Watch[] {
    return [...this.#watches.values()];
  }

  start(): void {
    for (const watch of this.#watches.values()) watch.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#watches.values()].map((watch) => watch.stop()));
  }

  /** Optional kinds that the cluster has, and that are seen. */
  get optional(): ReadonlySet<OptionalKind> {
    const seen = [...this.#watches].filter(([kind, { trouble }]) => kind in OPTIONAL && trouble === null);
    return new Set(seen.map(([kind]) => kind as OptionalKind));
  }

  /** Looks now and then which optional kinds there are. */
  async discover(now: number): Promise<void> {
    if (now - this.#discoveredAt < DISCOVER_MS) return;
    this.#discoveredAt = now;
    for (const [kind, base] of Object.entries(OPTIONAL) as [OptionalKind, string][]) {
      const asked = this.#connection.call<{ resources: { name: string }[] }>(base);
      const isThere = await thereIs(asked.then(({ resources }) => resources.some(({ name }) => name === kind)));
      // A server in trouble takes no kind away: all that is of it would be made again.
      if (isThere === null) {
        this.#discoveredAt = now - DISCOVER_MS + AGAIN_MS;
        continue;
      }
      const watch = this.#watches.get(kind);
      if (isThere && watch === undefined) {
        const made = this.#watch(kind, base);
        this.#watches.set(kind, made);
        made.start();
      } else if (!isThere && watch !== undefined) {
        this.#watches.delete(kind);
        await watch.stop();
      }
    }
  }

  /** Which versions of a workload's children are there, in one text. */
  versionsOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
    return [...this.#watches]
      .map(([kind, watch]) => watch.get(namespace, nameOf(kind, name))?.metadata.resourceVersion ?? "none")
      .join(" ");
  }

  /** What is left of a workload's children, such as `services/chat`; what cannot be seen holds nothing up. */
  left({ namespace, name }: { readonly namespace: string; readonly name: string }): readonly string[] {
    return [...this.#watches].flatMap(([kind, watch]) => {
      const own = nameOf(kind, name);
      const there = watch.trouble === null ? watch.get(namespace, own) : undefined;
      return there !== undefined && !isOthers(there, name) ? [`${kind}/${own}`] : [];
    });
  }

  live(path: string): KubeObject | undefined {
    const [name = "", , namespace = ""] = path.split("/").toReversed();
    return this.#watchOf(path)?.get(namespace, name);
  }

  /** @returns what somebody else had changed, in words. @throws ControllerError */
  async apply(workload: string, made: readonly Child[], gone: readonly string[]): Promise<readonly string[]> {
    const drifts: string[] = [];
    for (const child of made) {
      const drift = await this.#make(workload, child);
      if (drift !== null) drifts.push(drift);
    }
    for (const path of gone) await this.#unmake(workload, path);
    return drifts;
  }

  /** @returns what somebody else had changed; `null`: nobody, as far as is known. */
  async #make(workload: string, { path, object }: Child): Promise<string | null> {
    const live = this.live(path);
    const before = this.#applied.get(path);
    const applied = before !== undefined && isDeepStrictEqual(before.object, object) ? before : null;
    if (live !== undefined && applied?.version === live.metadata.resourceVersion) return null;
    const wanted = applied?.settled ?? object;
    const difference = live === undefined ? "it was deleted" : differenceIn(wanted, live);
    if (difference === null) {
      // As we want it from now on, whoever made it so.
      this.#applied.set(path, { object, version: live?.metadata.resourceVersion ?? "", settled: wanted });
      return null;
    }
    const asked = async () => {
      if (live === undefined || !isMadeFor(live, workload)) await this.#demandFree(workload, path);
      return called(this.#connection.apply<KubeObject>(path, object));
    };
    const answer = await this.#refusals.asking(path, canonicalJson(object), asked);
    const settled = asAnswered(object, answer);
    this.#applied.set(path, { object, version: answer.metadata.resourceVersion, settled });
    this.#watchOf(path)?.learn(answer);
    return applied === null ? null : `${path.split("/").slice(-2).join("/")}: ${difference}`;
  }

  /** What is not seen, or not as ours, may be somebody else's: an apply would take it, and its workload's end would end it. */
  async #demandFree(workload: string, path: string): Promise<void> {
    const there = await this.#connection.call<KubeObject>(path).catch((error) => {
      if (error instanceof KubeError && error.status === 404) return null;
      throw asTrouble(error);
    });
    if (there === null || isMadeFor(there, workload)) return;
    const what = path.split("/").slice(-2).join("/");
    throw new ControllerError(
      "backend-refused",
      `${what} is there already and was not made for this workload: delete it, or give the workload another name`,
    );
  }

  async #unmake(workload: string, path: string): Promise<void> {
    this.#refusals.forget(path);
    this.#applied.delete(path);
    const live = this.live(path);
    if (live === undefined || live.metadata.deletionTimestamp !== undefined || isOthers(live, workload)) return;
    const query = { propagationPolicy: "Background" };
    await unlessGone(this.#connection.call(path, { method: "DELETE", query }));
  }

  #watchOf(path: string): Watch | undefined {
    return this.#watches.get(path.split("/").at(-2) as Kind);
  }
}

function nameOf(kind: Kind, workload: string): string {
  if (kind === "persistentvolumeclaims") return claimNameOf(workload);
  return kind === "configmaps" ? `${workload}-config` : workload;
}

/** What `wanted` names, with the values of `answer`. */
function asAnswered(wanted: unknown, answer: unknown): unknown {
  if (Array.isArray(wanted) && Array.isArray(answer) && wanted.length === answer.length) {
    return wanted.map((one, index) => asAnswered(one, answer[index]));
  }
  if (typeof wanted !== "object" || wanted === null || Array.isArray(wanted)) return answer;
  if (typeof answer !== "object" || answer === null) return answer;
  const has = answer as Readonly<Record<string, unknown>>;
  const named = Object.entries(wanted).filter(([key]) => has[key] !== undefined);
  return Object.fromEntries(named.map(([key, value]) => [key, asAnswered(value, has[key])]));
}

/** Where `live` is first not what `wanted` says; `null`: everything that it says stands so. */
export function differenceIn(wanted: unknown, live: unknown, at = "it"): string | null {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(live) || wanted.length !== live.length) return `${at} is another list`;
    return first(wanted.map((one, index) => [`${at}[${index}]`, one, live[index]]));
  }
  if (typeof wanted !== "object" || wanted === null) {
    return wanted === live ? null : `${at} was ${live === undefined ? "taken away" : JSON.stringify(live)}`;
  }
  if (typeof live !== "object" || live === null)
    return Object.keys(wanted).length === 0 ? null : `${at} was taken away`;
  const has = live as Readonly<Record<string, unknown>>;
  return first(
    Object.entries(wanted)
      // Kind and version are not repeated in the items of a list.
      .filter(([key]) => (key !== "apiVersion" && key !== "kind") || has[key] !== undefined)
      .map(([key, value]) => [at === "it" ? key : `${at}.${key}`, value, has[key]]),
  );
}

function first(pairs: readonly (readonly [string, unknown, unknown])[]): string | null {
  for (const [at, wanted, live] of pairs) {
    const found = differenceIn(wanted, live, at);
    if (found !== null) return found;
  }
  return null;
}
