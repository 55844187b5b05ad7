/** Small things that many parts of the page are made of. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import type { LeaseEnd } from "../model/host.ts";
import { aged, clock, exactly } from "../model/time.ts";
import { useTold } from "./context.tsx";
import { Icon } from "./icons.tsx";

/** How long ago that was. */
export function Age({ at }: { readonly at: string }) {
  const from = Date.parse(at);
  return (
    <time dateTime={at} title={exactly(from)}>
      {useTold((now) => aged(now - from))}
    </time>
  );
}

/** How long a lease has, at most or until it is renewed. */
export function LeaseLeft({ end }: { readonly end: LeaseEnd | null }) {
  if (end === null) return <span class="faint">no end</span>;
  if (end.kind === "hard") return <Left until={end.at} />;
  return <Renewed until={end.at} />;
}

function Renewed({ until }: { readonly until: number }) {
  const text = useTold((now) => `renews within ${aged(until - now)}`);
  return <time title={exactly(until)}>{text}</time>;
}

/** How long until then. */
export function Left({ until }: { readonly until: number }) {
  const text = useTold((now) => (until <= now ? "over now" : `${aged(until - now)} left`));
  return <time title={exactly(until)}>{text}</time>;
}

/** Whose a button is, in its name: who hears buttons one by one does not see its row. */
export function Of({ name }: { readonly name: string }) {
  return <span class="unseen"> {name}</span>;
}

export function At({ at }: { readonly at: number }) {
  return (
    <time dateTime={new Date(at).toISOString()} title={exactly(at)}>
      {clock(at, Date.now())}
    </time>
  );
}

/** A part of a whole as a bar. `null`: no reading, which is no empty bar. */
export function Bar({
  part,
  label,
  tone,
}: {
  readonly part: number | null;
  readonly label: string;
  readonly tone?: string;
}) {
  if (part === null) return <span class="bar bar-none" role="img" aria-label={`${label}: no reading`} />;
  const percent = Math.round(part * 100);
  return (
    <span class={`bar ${tone ?? ""}`} role="img" aria-label={`${label}: ${percent} %`}>
      <i style={{ width: `${percent}%` }} />
    </span>
  );
}

export function Section(given: {
  readonly id: string;
  readonly title: string;
  readonly note?: ComponentChildren;
  readonly tools?: ComponentChildren;
  readonly children: ComponentChildren;
}) {
  return (
    <section id={given.id} aria-labelledby={`${given.id}-title`}>
      <header>
        <h2 id={`${given.id}-title`}>{given.title}</h2>
        {given.note === undefined ? null : <p class="note">{given.note}</p>}
        {given.tools === undefined ? null : <div class="tools">{given.tools}</div>}
      </header>
      {given.children}
    </section>
  );
}

/** A few ways to look at something, of which one is taken. */
export function Choice<T extends string>(given: {
  readonly label: string;
  readonly of: readonly T[];
  readonly taken: T;
  readonly onTake: (one: T) => void;
  /** What each is called; itself when left out. */
  readonly names?: Readonly<Record<T, string>>;
}) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{given.label}</legend>
      {given.of.map((one) => (
        <button type="button" key={one} aria-pressed={one === given.taken} onClick={() => given.onTake(one)}>
          {given.names?.[one] ?? one}
        </button>
      ))}
    </fieldset>
  );
}

/** A dialog that takes the keyboard while it is open, and gives it back. */
export function Dialog(given: {
  readonly title: string;
  readonly kind?: "side";
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  // One may be open above another.
  const titleId = useId();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} class={given.kind ?? ""} aria-labelledby={titleId} onClose={given.onClose}>
      <div class="dialog-body">
        <header>
          <h2 id={titleId}>{given.title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </button>
        </header>
        {given.children}
      </div>
    </dialog>
  );
}

/** Text that can be taken along. */
export function Copyable({ text }: { readonly text: string }) {
  return (
    <div class="copyable">
      <pre>{text}</pre>
      <button type="button" class="quiet" onClick={() => void navigator.clipboard?.writeText(text)}>
        <Icon name="copy" />
        Copy
      </button>
    </div>
  );
}

/** A line of a list of facts. */
export function Fact({ name, children }: { readonly name: string; readonly children: ComponentChildren }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}
