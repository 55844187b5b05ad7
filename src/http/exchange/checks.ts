import { z } from "zod";
import { type FieldError, invalid } from "./problems.ts";

/**
 * A check of one schema, compiled when it is first used: the start does not wait for it.
 *
 * @throws HttpError 422 that names every wrong field.
 */
export function checker<S extends z.ZodType>(schema: S): (input: unknown) => z.output<S> {
  let compiled: S | null = null;
  return (input) => {
    compiled ??= z.compile(schema);
    const result = compiled.safeParse(input);
    if (result.success) return result.data;
    throw invalid(fieldErrors(result.error));
  };
}

/** One error per field: the first. */
function fieldErrors(error: z.ZodError): readonly FieldError[] {
  const byPath = new Map<string, string>();
  for (const issue of error.issues) {
    const at = issue.path.map(String);
    const paths = issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...at, key]) : [at];
    // Of fields that there are not, each has a line of its own.
    const messages = issue.message.split("\n");
    for (const [n, path] of paths.entries()) {
      if (!byPath.has(path.join("."))) byPath.set(path.join("."), messages[n] ?? issue.message);
    }
  }
  return [...byPath].map(([path, message]) => ({ path, message }));
}

/**
 * For a call that has no parameters.
 *
 * @throws HttpError 422 that names each that is given.
 */
export function demandNoQuery(url: string): void {
  if (!url.includes("?")) return;
  const given = Object.keys(queryOf(url));
  if (given.length > 0)
    throw invalid(given.map((path) => ({ path, message: "no such parameter: this call has none" })));
}

/**
 * The parameters after `?`.
 *
 * @throws HttpError 422 when one is given twice: which of the two was meant cannot be told.
 */
export function queryOf(url: string): { readonly [name: string]: string } {
  const from = url.indexOf("?");
  const given: Record<string, string> = Object.create(null);
  if (from === -1) return given;
  for (const [name, value] of new URLSearchParams(url.slice(from + 1))) {
    if (name in given) throw invalid([{ path: name, message: "given twice" }]);
    given[name] = value;
  }
  return given;
}
