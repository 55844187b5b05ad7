/** Calls of the API. Every refusal becomes an {@link ApiError} that carries the daemon's own words. */

export interface FieldError {
  readonly path: string;
  readonly message: string;
}

export class ApiError extends Error {
  override readonly name = "ApiError";
  /** 0: there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly errors: readonly FieldError[];

  constructor(status: number, code: string, detail: string, errors: readonly FieldError[] = []) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** No call waits longer than this for its answer, in ms; streams are exempt. */
const TIMEOUT_MS = 15_000;

export class Api {
  readonly #fetch: Fetch;
  readonly #key: () => string | null;

  /** @param key the API key as it is now; `null`: none is given. */
  constructor(fetch: Fetch, key: () => string | null) {
    this.#fetch = fetch;
    this.#key = key;
  }

  async get<T>(path: string): Promise<T> {
    return this.#call<T>(path, { method: "GET" });
  }

  /** With a body, which is sent as JSON. */
  async send<T>(
    method: "POST" | "DELETE",
    path: string,
    body: object,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const json = { "content-type": "application/json", ...headers };
    return this.#call<T>(path, { method, body: JSON.stringify(body), headers: json });
  }

  async delete<T>(path: string): Promise<T> {
    return this.#call<T>(path, { method: "DELETE" });
  }

  /** An answer that goes on, until `signal`. */
  async open(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const answer = await this.#send(path, { method: "GET", headers, signal });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  async #call<T>(path: string, init: RequestInit): Promise<T> {
    const answer = await this.#send(path, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw await refusal(answer);
    return (answer.status === 204 ? null : await answer.json()) as T;
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const key = this.#key();
    const headers = { ...(init.headers as Record<string, string> | undefined) };
    // A bearer token is taken whatever the settings call the key's own header.
    if (key !== null) headers.authorization = `Bearer ${key}`;
    try {
      return await this.#fetch(path, { ...init, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (init.signal?.aborted === true && init.signal.reason instanceof DOMException) {
        if (init.signal.reason.name === "AbortError") throw error;
      }
      throw new ApiError(0, "unreachable", "the daemon does not answer");
    }
  }
}

async function refusal(answer: Response): Promise<ApiError> {
  try {
    const { code, detail, errors } = (await answer.json()) as Record<string, unknown>;
    return new ApiError(answer.status, String(code), String(detail), (errors as FieldError[] | undefined) ?? []);
  } catch {
    // No problem document: something between here and the daemon has answered.
    return new ApiError(answer.status, "no-problem-document", `the answer was ${answer.status}`);
  }
}
