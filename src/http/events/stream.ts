/** `GET /gpu/events`: the committed events as server-sent events (WHATWG HTML, section 9.2). */
import type { Actor } from "../../core/model/ids.ts";
import type { EventFeed, Page, Reset } from "../../scheduler/event-feed.ts";
import { eventId, eventsQuerySchema } from "../../wire/events/asks.ts";
import type { PublicEvent } from "../../wire/events/bodies.ts";
import type { Pieces, StreamAnswer } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { News } from "../exchange/news.ts";
import { type FieldError, invalid } from "../exchange/problems.ts";
import { KEEP_ALIVE, KEEP_ALIVE_MS, STREAM_HEADERS } from "../exchange/server-sent.ts";
import type { ReadingFeed } from "../readings/feed.ts";
import { readingMessage } from "../readings/stream.ts";

export interface EventsParts {
  readonly scheduler: { readonly events: EventFeed };
  readonly readings: ReadingFeed;
  readonly workNews: News | null;
}

/** Something that comes between the events, without an id: of it the latest counts. */
interface Beside {
  readonly news: News;
  readonly message: () => string;
  readonly open: () => void;
  readonly close: () => void;
}

/** When a client whose stream broke should come back, in ms. */
const RETRY_MS = 2_000;

export function events({ scheduler, readings, workNews }: EventsParts): Operation {
  const check = checker(eventsQuerySchema);
  const texts = new Texts();
  return {
    role: "read",
    body: "ignored",
    takesQuery: true,
    answer({ url, lastEventId, actor }): StreamAnswer {
      const { last_event_id: queried, readings: wantsReadings, work: wantsWork } = check(queryOf(url));
      const after = lastSeen(lastEventId) ?? (queried === undefined ? null : eventId(queried));
      return {
        status: 200,
        type: "text/event-stream",
        headers: STREAM_HEADERS,
        pieces(signal) {
          const following = messages(scheduler.events, after, texts.for(actor), signal);
          const beside = [
            ...(wantsReadings === "true" ? [ofReadings(readings)] : []),
            ...(wantsWork === "true" && workNews !== null ? [ofWork(workNews)] : []),
          ];
          return beside.length === 0 ? following : among(following, beside, signal);
        },
      };
    },
  };
}

/** What the header says; `null` when it is not there or empty, as of a client that has seen no event (section 9.2.3). */
function lastSeen(header: string | undefined): number | null {
  if (header === undefined || header === "") return null;
  const id = eventId(header);
  if (id !== null) return id;
  const error: FieldError = { path: "Last-Event-ID", message: "expected the id of an event, or 0" };
  throw invalid([error]);
}

async function* messages(
  feed: EventFeed,
  after: number | null,
  textOfPage: TextOf,
  signal: AbortSignal,
): ReturnType<Pieces> {
  const reader = feed.open(after);
  try {
    // An id without data is no event, but from here on the client knows where it stands, even if nothing ever comes.
    yield `retry: ${RETRY_MS}\nid: ${reader.position}\n\n`;
    for (;;) {
      const page = await reader.next(KEEP_ALIVE_MS, signal);
      if (signal.aborted) return;
      yield textOf(page, textOfPage);
    }
  } finally {
    reader.close();
  }
}

function ofReadings(feed: ReadingFeed): Beside {
  return {
    news: feed.news,
    message: () => readingMessage(feed),
    open: () => feed.open(),
    close: () => feed.close(),
  };
}

/** What has changed is not said: whoever wants to know looks. */
function ofWork(news: News): Beside {
  const nothing = () => undefined;
  return { news, message: () => `event: work\ndata: {}\n\n`, open: nothing, close: nothing };
}

/** The events, and between them what is beside: a browser has few connections to give, and follows all by one. */
async function* among(
  following: ReturnType<Pieces>,
  beside: readonly Beside[],
  signal: AbortSignal,
): ReturnType<Pieces> {
  for (const one of beside) one.open();
  try {
    const told = beside.map(() => -1);
    const wait = async (i: number) => {
      const how = await (beside[i] as Beside).news.next(told[i] as number, KEEP_ALIVE_MS, signal);
      return { i, how };
    };
    let events = following.next();
    const waits = beside.map((_, i) => wait(i));
    for (;;) {
      const first = await Promise.race([events.then(() => null), ...waits]);
      if (signal.aborted) return;
      if (first === null) {
        const { value, done } = await events;
        if (done === true) return;
        yield value;
        events = following.next();
        continue;
      }
      const { i, how } = first;
      const { news, message } = beside[i] as Beside;
      told[i] = news.version;
      if (how === "news") yield message();
      waits[i] = wait(i);
    }
  } finally {
    for (const one of beside) one.close();
    await following.return();
  }
}

type TextOf = (events: readonly PublicEvent[]) => string;

function textOf(page: Page, textOfPage: TextOf): string {
  if ("reset" in page) return message(page.reset.position, "reset", JSON.stringify(resetBody(page.reset)));
  if (page.events.length === 0) return KEEP_ALIVE;
  return textOfPage(page.events);
}

/** What readers are told: admins whose each request is, others which are their own. */
class Texts {
  readonly #withOwners = new PageTexts((event) => withOwner(event));
  readonly #without = new PageTexts(({ body }) => body);

  for({ admin, principal }: Actor): TextOf {
    if (admin) return (events) => this.#withOwners.of(events);
    const own = new PageTexts((event) => (event.owner === principal ? withOwner(event) : event.body));
    return (events) => (events.some(({ owner }) => owner === principal) ? own : this.#without).of(events);
  }
}

/** A body is an object, and never an empty one; so is the part for the owner. */
function withOwner({ body, owner, ownersPart }: PublicEvent): string {
  const whose = owner === null ? "" : `,"principal":${JSON.stringify(owner)}`;
  const more = ownersPart === undefined ? "" : `,${ownersPart.slice(1, -1)}`;
  return `${body.slice(0, -1)}${whose}${more}}`;
}

/** All readers that are up to date get the same page one after the other: its text is made once. */
class PageTexts {
  readonly #bodyOf: (event: PublicEvent) => string;
  #first: PublicEvent | undefined;
  #last: PublicEvent | undefined;
  #text = "";

  constructor(bodyOf: (event: PublicEvent) => string) {
    this.#bodyOf = bodyOf;
  }

  of(events: readonly PublicEvent[]): string {
    const [first, last] = [events[0], events.at(-1)];
    if (first !== this.#first || last !== this.#last) {
      this.#text = events.map((event) => message(event.seq, event.type, this.#bodyOf(event))).join("");
      this.#first = first;
      this.#last = last;
    }
    return this.#text;
  }
}

/** JSON has no line ends of its own, so that one `data` line is always enough. */
function message(id: number, event: string, data: string): string {
  return `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`;
}

const RESET_DETAILS: { readonly [reason in Reset["reason"]]: string } = {
  trimmed: "events after your last one are not kept any more; the stream goes on with the oldest that is",
  ahead: "your last event is not in this journal; the stream goes on with what is still to come",
};

function resetBody({ reason, oldestSeq, lastSeq }: Reset) {
  return { reason, detail: RESET_DETAILS[reason], oldest_id: oldestSeq, last_id: lastSeq };
}
