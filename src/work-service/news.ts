/** Tells those who follow that something about work is another than before. */
import type { News } from "../http/exchange/news.ts";
import type { Clock } from "../platform/clock.ts";
import type { WorkEvent } from "../work/events.ts";
import type { Books } from "./books.ts";

/** Turns come in crowds, as when a worker reports all its runs: so many ms of them are told at once. */
const GATHER_MS = 50;

/** Each turn of the books is told within {@link GATHER_MS}, but for workers that show life and nothing else. */
export function tellOf(books: Books, clock: Clock, news: News): void {
  let isDue = false;
  books.onChange((events) => {
    if (isDue || events.every(isSignOfLife)) return;
    isDue = true;
    clock.after(GATHER_MS, () => {
      isDue = false;
      news.tell();
    });
  });
}

function isSignOfLife({ type }: WorkEvent): boolean {
  return type === "worker-seen";
}
