/** What has happened, newest first. */
import { useState } from "preact/hooks";
import { type EventLine, wanted } from "../model/events.ts";
import { pure } from "./context.tsx";
import { At, Choice, Section } from "./small.tsx";

const KINDS = ["all", "request", "gpu", "host"] as const;
type Kind = (typeof KINDS)[number];
const KIND_NAMES: { readonly [kind in Kind]: string } = { all: "all", request: "requests", gpu: "GPUs", host: "host" };
/** Lines that are shown before somebody asks for all. */
const FIRST = 16;

export const Events = pure(function Events({
  events,
  names,
}: {
  readonly events: readonly EventLine[];
  readonly names: ReadonlyMap<string, string>;
}) {
  const [kind, setKind] = useState<Kind>("all");
  const [search, setSearch] = useState("");
  const [isWhole, setWhole] = useState(false);
  const found = wanted(events, kind, search);
  const shown = isWhole ? found : found.slice(0, FIRST);
  const tools = (
    <>
      <Choice label="Of what kind" of={KINDS} names={KIND_NAMES} taken={kind} onTake={setKind} />
      <input
        type="search"
        aria-label="Search the events"
        placeholder="Search"
        value={search}
        onInput={(event) => setSearch(event.currentTarget.value)}
      />
    </>
  );
  return (
    <Section id="events" title="Events" tools={tools}>
      {shown.length === 0 ? <p class="empty">Nothing of that kind has happened lately.</p> : null}
      <ol class="events">
        {shown.map((line) => (
          <li key={line.id} class={`event-${line.tone}`}>
            <At at={line.at} />
            <span>
              <b>{line.kind === "gpu" ? (names.get(line.about) ?? line.about) : line.about}</b> {line.text}
              {line.on === null ? "" : ` on ${names.get(line.on) ?? line.on}`}
            </span>
          </li>
        ))}
      </ol>
      {found.length > shown.length ? (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show all {found.length}
        </button>
      ) : null}
    </Section>
  );
});
