/** What a handler answers: values only. `server.ts` writes it to the wire. */
export interface Answer {
  readonly status: number;
  /** `null` only with a status that has no body. */
  readonly type: string | null;
  readonly body: string | Buffer;
  /** Further fields: name, value, name, value. */
  readonly headers: readonly string[];
  /** Told once whether the system took the whole answer before its connection was seen to close. */
  readonly onSent?: (written: boolean) => void;
}

export const JSON_TYPE = "application/json; charset=utf-8";
/** Answers are of the moment, and may concern one principal only. */
export const NOT_STORED: readonly string[] = ["Cache-Control", "no-store"];

export function json(status: number, value: unknown, headers: readonly string[] = []): Answer {
  return { status, type: JSON_TYPE, body: JSON.stringify(value), headers: [...NOT_STORED, ...headers] };
}

export function noContent(headers: readonly string[]): Answer {
  return { status: 204, type: null, body: "", headers };
}
