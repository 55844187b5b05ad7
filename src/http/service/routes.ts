import { json, NOT_STORED } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { HttpError } from "../exchange/problems.ts";
import type { EndpointParts, MetricsPage } from "../parts.ts";

/**
 * Alive means: the event loop turns. A sick GPU or a full disk is no reason to restart the daemon. MLOC's clients look for
 * `ok`.
 */
export const alive: Operation = { role: "read", body: "ignored", answer: () => json(200, { status: "ok", ok: true }) };

export function ready({ readiness }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer() {
      const reason = readiness();
      if (reason !== null) throw new HttpError("not-ready", reason);
      return json(200, { status: "ok" });
    },
  };
}

export function metrics(page: MetricsPage): Operation {
  return {
    role: "read",
    body: "ignored",
    async answer({ accept }) {
      const { contentType, body } = await page.render(accept);
      return { status: 200, type: contentType, body, headers: NOT_STORED };
    },
  };
}

export function openapi({ version, headerName, workCalls }: EndpointParts): Operation {
  let text: string | null = null;
  return {
    role: "read",
    body: "ignored",
    async answer() {
      if (text === null) {
        // Not needed to serve, and slow to load.
        const { openApiDocument } = await import("./openapi.ts");
        const work = await workCalls?.();
        text = JSON.stringify(openApiDocument({ version, headerName, ...(work === undefined ? {} : { work }) }));
      }
      return { status: 200, type: "application/json; charset=utf-8", body: text, headers: NOT_STORED };
    },
  };
}
