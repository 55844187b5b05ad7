/** What a server's refusals mean to whoever asked. */
import { ControllerError } from "../objects/errors.ts";
import { KubeError } from "./connection.ts";

/** What the server will not take however often it is asked. 401 is about ourselves, and 409 and 429 are of the moment. */
const REFUSED: ReadonlySet<number> = new Set([400, 403, 404, 405, 413, 415, 422]);

export function asTrouble(error: unknown): unknown {
  if (!(error instanceof KubeError)) return error;
  return new ControllerError(REFUSED.has(error.status) ? "backend-refused" : "backend-unavailable", error.message);
}

/** @throws ControllerError `backend-refused`, `backend-unavailable` */
export async function called<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw asTrouble(error);
  }
}

/** What a server says of something that it may not have; `null`: it said neither, and is to be asked again. */
export async function thereIs(call: Promise<boolean>): Promise<boolean | null> {
  try {
    return await call;
  } catch (error) {
    // Without the right to see it there is none.
    return error instanceof KubeError && (error.status === 404 || error.status === 403) ? false : null;
  }
}

/** Of a deletion: what is gone already is as it should be. */
export async function unlessGone(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof KubeError) || error.status !== 404) throw asTrouble(error);
  }
}
