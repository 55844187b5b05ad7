/** `GET /work`: workloads, tasks and their runs as one answer. */
import { json } from "../../http/exchange/answers.ts";
import { type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { overview } from "../overview.ts";
import { type MaybeParts, working } from "./parts.ts";

export function overviewEndpoints(parts: MaybeParts): readonly Endpoint[] {
  const looking = { role: "read", body: "ignored" } as const;
  const answer = working(parts, looking, ({ books, settings }) =>
    json(200, overview(books.state, settings.serviceHost)),
  );
  return [endpoint("/work", "key", { GET: answer })];
}
