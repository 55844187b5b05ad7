/** What several replicas of a task have answered, as one answer. */
import { isObject } from "./documents/shape.ts";

/**
 * Items in the order of the prompts, which were dealt out in turn.
 *
 * @param texts the `responses.json` of each replica; `null`: it is not there yet.
 */
export function mergedResponses(texts: readonly (string | null)[]): string {
  const replicas = texts.length;
  const parts = texts.map((text) => (text === null ? null : parsed(text)));
  // A run writes what it likes: what is no item is left out.
  const items = parts.flatMap((part, replica) =>
    (Array.isArray(part?.items) ? part.items : []).flatMap((item: unknown, index) =>
      isObject(item)
        ? [{ ...item, index: (Number.isInteger(item.index) ? Number(item.index) : index) * replicas + replica }]
        : [],
    ),
  );
  const usage: Record<string, number> = {};
  for (const part of parts) {
    for (const [key, value] of Object.entries(part?.usage ?? {})) {
      if (typeof value !== "number") continue;
      const sofar = usage[key] ?? 0;
      // They ran beside each other.
      usage[key] = key === "latency_sec" ? Math.max(sofar, value) : sofar + value;
    }
  }
  return JSON.stringify({
    ok: parts.every((part) => part !== null && part.ok !== false),
    ...agreed(parts),
    replicas: parts.map((part) => (part === null ? null : { ...part, items: undefined })),
    ...(items.length === 0 ? {} : { items: items.sort((a, b) => a.index - b.index), usage }),
  });
}

/** What all of them say of themselves, and say alike. */
function agreed(parts: readonly (Readonly<Record<string, unknown>> | null)[]): Record<string, unknown> {
  const [first] = parts;
  return Object.fromEntries(
    ["executor", "model", "simulated"].flatMap((key) => {
      const value = first?.[key];
      const isShort = typeof value === "string" || value === true;
      return isShort && parts.every((part) => part?.[key] === value) ? [[key, value]] : [];
    }),
  );
}

function parsed(text: string): { ok?: unknown; items?: unknown; usage?: Record<string, unknown> } | null {
  try {
    return JSON.parse(text);
  } catch {
    return { ok: false };
  }
}
