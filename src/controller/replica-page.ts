/**
 * What a replica says at `/metrics`, in vLLM's names and Prometheus's text format.
 *
 * A page of a busy engine has a thousand lines, and a large cluster thousands of pages: each is read in one pass, of the
 * lines that count here, and over a connection of its own, since engines close theirs sooner than they are asked again.
 */
import { get } from "node:http";

const TIMEOUT_MS = 2_000;
/** One that says more has a fault, and is taken for silent. */
const MAX_BYTES = 2 * 2 ** 20;

/** What a replica's page says; `null`: it does not. */
export interface ReplicaPage {
  readonly at: number;
  readonly waiting: number | null;
  readonly running: number | null;
  /** 0 to 1. */
  readonly cache: number | null;
  readonly requests: number | null;
  readonly tokens: number | null;
  readonly prefixAsked: number | null;
  readonly prefixHit: number | null;
  /** Requests that took at most so many seconds, by that. */
  readonly latency: ReadonlyMap<number, number>;
  readonly latencySum: number | null;
  /** Answers over HTTP, and those of them that were the server's own failure. */
  readonly answers: number | null;
  readonly failures: number | null;
}

type Figure = Exclude<keyof ReplicaPage, "at" | "latency" | "failures">;

const LATENCY = "vllm:e2e_request_latency_seconds_bucket";
const FIGURES: ReadonlyMap<string, Figure> = new Map<string, Figure>([
  ["vllm:num_requests_waiting", "waiting"],
  ["vllm:num_requests_running", "running"],
  ["vllm:kv_cache_usage_perc", "cache"],
  ["vllm:request_success_total", "requests"],
  ["vllm:generation_tokens_total", "tokens"],
  ["vllm:prefix_cache_queries_total", "prefixAsked"],
  ["vllm:prefix_cache_hits_total", "prefixHit"],
  ["vllm:e2e_request_latency_seconds_sum", "latencySum"],
  ["http_requests_total", "answers"],
]);

/** A name, labels whose values may hold braces, and a value; what follows, such as an exemplar, is passed over. */
const SAMPLE = /^([^\s{]+)\s*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s*(\S+)/;

/** Several label sets are added up; of how full caches are, several engines' in one replica, it is the mean. */
export function readPage(text: string, at: number): ReplicaPage {
  const sums = new Map<Figure | "failures", number>();
  const add = (figure: Figure | "failures", value: number) => sums.set(figure, (sums.get(figure) ?? 0) + value);
  const latency = new Map<number, number>();
  let caches = 0;
  for (const { name, labels, value } of samplesIn(text)) {
    if (name === LATENCY) {
      const bound = boundOf(labels);
      if (!Number.isNaN(bound)) latency.set(bound, (latency.get(bound) ?? 0) + value);
      continue;
    }
    const figure = FIGURES.get(name);
    if (figure === undefined) continue;
    add(figure, value);
    if (figure === "cache") caches++;
    if (figure === "answers" && /\bstatus="5/.test(labels)) add("failures", value);
  }
  const of = (figure: Figure | "failures") => sums.get(figure) ?? null;
  const cache = of("cache");
  return {
    at,
    latency,
    latencySum: of("latencySum"),
    answers: of("answers"),
    failures: of("failures"),
    waiting: of("waiting"),
    running: of("running"),
    cache: cache === null ? null : cache / caches,
    requests: of("requests"),
    tokens: of("tokens"),
    prefixAsked: of("prefixAsked"),
    prefixHit: of("prefixHit"),
  };
}

/** Those of vLLM and of its HTTP server. */
function* samplesIn(
  text: string,
): Generator<{ readonly name: string; readonly labels: string; readonly value: number }> {
  for (let from = 0; from < text.length; ) {
    const newline = text.indexOf("\n", from);
    const to = newline === -1 ? text.length : newline;
    const start = from;
    from = to + 1;
    if (!text.startsWith("vllm:", start) && !text.startsWith("http_requests_total", start)) continue;
    const line = text.slice(start, to);
    const [, name = "", labels = "", given = ""] = SAMPLE.exec(line) ?? [];
    const value = Number(given);
    // None of them can be less than none: such a figure says nothing, or one replica would count against the load of all.
    if (given !== "" && Number.isFinite(value) && value >= 0) yield { name, labels, value };
  }
}

function boundOf(labels: string): number {
  const [, le = ""] = /\ble="([^"]*)"/.exec(labels) ?? [];
  return le === "+Inf" ? Number.POSITIVE_INFINITY : le === "" ? Number.NaN : Number(le);
}

/** @returns the text; `null`: it does not answer with 200 in time, or says too much. */
export function pageAt(url: string): Promise<string | null> {
  // What a pod calls its address need not be one.
  if (!URL.canParse(url)) return Promise.resolve(null);
  return new Promise((resolve) => {
    const asked = get(url, { agent: false, headers: { connection: "close" } });
    const timer = setTimeout(() => end(null), TIMEOUT_MS);
    function end(text: string | null): void {
      clearTimeout(timer);
      asked.destroy();
      resolve(text);
    }
    asked.on("error", () => end(null));
    asked.on("response", (answer) => {
      if (answer.statusCode !== 200) return end(null);
      const parts: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        if (bytes > MAX_BYTES) end(null);
      });
      // Also of a connection that breaks: what it said until then says nothing.
      answer.on("error", () => end(null));
      answer.on("end", () => end(Buffer.concat(parts).toString("utf8")));
    });
  });
}
