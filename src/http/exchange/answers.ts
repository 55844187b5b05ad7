/** What a handler answers: values only. `server.ts` writes it to the wire. */
export interface Answer {
  readonly status: number;
  /** `null` only when there is no body. */
  readonly type: string | null;
  readonly body: string | Buffer;
  /** Further fields: name, value, name, value. */
  readonly headers: readonly string[];
  /** Its body is a buffer that is in memory anyway, and that all who ask for it share. */
  readonly isHeld?: true;
  /** Told once whether the system took the whole answer before its connection was seen to close. */
  readonly onSent?: (written: boolean) => void;
}

/** An answer that goes on until its client leaves or the daemon stops. It is its connection's last. */
export interface StreamAnswer {
  readonly status: 200;
  readonly type: string;
  readonly headers: readonly string[];
  readonly pieces: Pieces;
}

/** What a stream writes: the next piece is asked for when the one before was taken. They end soon after `signal`. */
export type Pieces = (signal: AbortSignal) => AsyncGenerator<string, void, undefined>;

export const JSON_TYPE = "application/json; charset=utf-8";
/** Answers are of the moment, and may concern one principal only. */
export const NOT_STORED: readonly string[] = ["Cache-Control", "no-store"];

export function json(status: number, value: unknown, headers: readonly string[] = []): Answer {
  return jsonText(status, JSON.stringify(value), headers);
}

/** @param body is JSON already. */
export function jsonText(status: number, body: string, headers: readonly string[] = []): Answer {
  return { status, type: JSON_TYPE, body, headers: [...NOT_STORED, ...headers] };
}

/** What a HEAD is answered where a GET gets a stream: there is no length to tell. */
export function headOf({ status, type, headers }: StreamAnswer): Answer {
  return { status, type: null, body: "", headers: [...headers, "Content-Type", type] };
}

export function noContent(headers: readonly string[]): Answer {
  return { status: 204, type: null, body: "", headers };
}
