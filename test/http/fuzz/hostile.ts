/** What to send that is nearly right, or not at all. */
import fc from "../../fc.ts";

// biome-ignore lint/suspicious/noExplicitAny: a schema of the document is JSON.
type Json = any;

/** What languages, databases, file systems and parsers trip over. */
const AWKWARD =
  `0|-1|1e309|NaN|null|true|undefined|__proto__|constructor|toString|..|../../etc/passwd|%00|%2e%2e|'; DROP TABLE
allocations; --|"|\\|{}|[]|\u0000|\u0007|\u202e|\u{1f600}|\u00ff|9007199254740993|2026-01-31T00:00:00Z|9999-12-31T23:59:59Z|1h|-5s|99999d|
http://127.0.0.1:1/|http://[::1]:99999/|file:///etc/passwd|GPU-|MIG-|wait=1|a, b;q=0|*|gzip`.split("|");

export const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("", "a".repeat(300), ...AWKWARD) },
  { weight: 3, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 2, arbitrary: fc.string({ maxLength: 600 }) },
);

const anything: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 2, arbitrary: text },
  { weight: 2, arbitrary: fc.constantFrom(0, -1, 1.5, 1e300, 2 ** 53, true, false, null, [], {}) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
);

/** As the schema has it, as far as a few words of JSON Schema tell; the rules behind it are for the daemon to find. */
function fitting(schema: Json): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map(fitting));
  const example = schema.example === undefined ? [] : [fc.constant(schema.example)];
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case "string":
      return fc.oneof(...example, fc.constantFrom("a", "trainer", "10s", "1h", "0", "GPU-0", "1"), text);
    case "integer":
      return fc.oneof(...example, fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 9, 9) }));
    case "number":
      return fc.oneof(...example, fc.constantFrom(0, 1, 50, 100, 3_600));
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return fc.array(fitting(schema.items ?? {}), { maxLength: 4 });
    case "object":
      return schema.properties === undefined ? fc.dictionary(text, anything, { maxKeys: 4 }) : fields(schema);
    default:
      return anything;
  }
}

/** Its required fields nearly always, the others now and then, and each wrong now and then. */
function fields({ properties, required = [] }: Json): fc.Arbitrary<unknown> {
  const whole = fc.record(
    Object.fromEntries(
      Object.entries<Json>(properties).map(([name, schema]) => [
        name,
        fc.oneof({ weight: 14, arbitrary: fitting(schema) }, { weight: 1, arbitrary: anything }),
      ]),
    ),
  );
  const optional = Object.keys(properties).filter((name) => !required.includes(name));
  const sparse = fc.tuple(
    whole,
    fc.subarray(optional, { maxLength: Math.min(4, optional.length) }),
    fc.subarray(required as string[]),
    fc.nat(9),
  );
  return sparse.map(([all, chosen, some, nearlyAlways]) => {
    const names = [...chosen, ...(nearlyAlways > 0 ? required : some)];
    return Object.fromEntries(Object.entries(all).filter(([name]) => names.includes(name)));
  });
}

/** A body of this schema, nearly one, or none. Some are no JSON. */
export function bodyOf(schema: Json): fc.Arbitrary<string | undefined> {
  const json = (arbitrary: fc.Arbitrary<unknown>) => arbitrary.map((value) => JSON.stringify(value) ?? "null");
  return fc.oneof(
    { weight: 12, arbitrary: json(fitting(schema)) },
    {
      weight: 2,
      arbitrary: json(
        fc
          .tuple(fitting(schema), text, anything)
          .map(([body, name, value]) => ({ ...(body as object), [name]: value })),
      ),
    },
    { weight: 1, arbitrary: json(anything) },
    { weight: 1, arbitrary: text },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
}

/** The value of a parameter, fitting or not. */
export function parameterOf(schema: Json): fc.Arbitrary<string> {
  return fc.oneof({ weight: 3, arbitrary: fitting(schema).map(String) }, { weight: 2, arbitrary: text });
}

/** The URI's parts as `encodeURIComponent` wants them: lone surrogates are none of HTTP's. */
export function encoded(part: string): string {
  return encodeURIComponent(part.toWellFormed());
}

/** A header field's value as node's client sends one. */
export function asField(value: string): string {
  return value.replace(/[^\t\x20-\x7e\x80-\xff]/g, "?");
}
