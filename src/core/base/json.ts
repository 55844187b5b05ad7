import { compareText } from "./order.ts";

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export type JsonObject = { readonly [key: string]: JsonValue };

/**
 * JSON text of a value with the keys of every object sorted: equal values have the same text, whatever the order in
 * which their fields were written. For comparing; what is stored keeps its own order.
 */
export function canonicalJson(value: unknown): string {
  return textOf(value) ?? "null";
}

/** `undefined`: it is nothing that JSON has, and is left out of an object, as `JSON.stringify` does. */
function textOf(value: unknown): string | undefined {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => textOf(item) ?? "null").join(",")}]`;
  const fields: string[] = [];
  for (const [key, item] of Object.entries(value).sort(([a], [b]) => compareText(a, b))) {
    const text = textOf(item);
    if (text !== undefined) fields.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${fields.join(",")}}`;
}
