/** The page's own pictures. Each is drawn on a 16 by 16 grid in the colour of the text around it. */
import type { ComponentChildren } from "preact";
import { type Look, lookOf, type Shape } from "../model/states.ts";

const SHAPES: { readonly [shape in Shape]: ComponentChildren } = {
  ring: <circle cx="8" cy="8" r="5.25" fill="none" stroke="currentColor" stroke-width="1.75" />,
  disc: <circle cx="8" cy="8" r="6" />,
  half: (
    <>
      <circle cx="8" cy="8" r="5.25" fill="none" stroke="currentColor" stroke-width="1.5" />
      <path d="M8 2.5a5.5 5.5 0 0 0 0 11z" />
    </>
  ),
  dashes: (
    <circle cx="8" cy="8" r="5.25" fill="none" stroke="currentColor" stroke-width="1.75" stroke-dasharray="3.4 2.1" />
  ),
  square: <rect x="2.75" y="2.75" width="10.5" height="10.5" rx="1.5" />,
  triangle: <path d="M8 1.8 15 14H1zM7.2 6v4h1.6V6zm0 5.2v1.5h1.6v-1.5z" fill-rule="evenodd" />,
  diamond: <path d="M8 .9 15.1 8 8 15.1.9 8zM7.2 4.4v4.5h1.6V4.4zm0 5.8v1.6h1.6v-1.6z" fill-rule="evenodd" />,
  cross: <path d="m3.2 3.2 9.6 9.6m0-9.6-9.6 9.6" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" />,
  bars: <path d="M3.5 2.5h3v11h-3zm6 0h3v11h-3z" />,
  question: (
    <>
      <circle cx="8" cy="8" r="6.25" fill="none" stroke="currentColor" stroke-width="1.3" stroke-dasharray="1.6 1.9" />
      <path d="M6 6.3a2 2 0 1 1 2.7 1.9c-.5.2-.7.5-.7 1" fill="none" stroke="currentColor" stroke-width="1.4" />
      <circle cx="8" cy="11.2" r=".95" />
    </>
  ),
  lock: <path d="M4.5 7V5.2a3.5 3.5 0 0 1 7 0V7h1v7h-9V7zm1.7 0h3.6V5.2a1.8 1.8 0 0 0-3.6 0z" fill-rule="evenodd" />,
  grid: <path d="M2.5 2.5h5v5h-5zm6 0h5v5h-5zm-6 6h5v5h-5zm6 0h5v5h-5z" />,
  pair: <path d="M4.2 4.4a3.6 3.6 0 1 0 0 7.2zm7.6 0v7.2a3.6 3.6 0 1 0 0-7.2z" />,
  check: (
    <path d="m2.5 8.6 3.7 3.7 7.3-8.1" fill="none" stroke="currentColor" stroke-width="2.3" stroke-linecap="round" />
  ),
  moon: <path d="M13.4 10.2A6 6 0 0 1 5.8 2.6a6 6 0 1 0 7.6 7.6z" />,
};

const GLYPHS = {
  close: <path d="m4 4 8 8m0-8-8 8" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />,
  copy: <path d="M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z" fill="none" stroke="currentColor" stroke-width="1.3" />,
  down: <path d="m4 6 4 4 4-4" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />,
  plus: <path d="M8 3v10M3 8h10" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" />,
  key: (
    <path
      d="M10.5 2a3.5 3.5 0 1 1-2.9 5.4L2 13v1.5h2.5V13H6v-1.5h1.5V10l1-1A3.5 3.5 0 0 1 10.5 2zm1 2.4a1 1 0 1 0 0 .2z"
      fill-rule="evenodd"
    />
  ),
  heat: (
    <path d="M6.5 9.2V3a1.5 1.5 0 0 1 3 0v6.2a3 3 0 1 1-3 0z" fill="none" stroke="currentColor" stroke-width="1.3" />
  ),
  bolt: <path d="M9.2 1 3 9h4l-.8 6L12.5 7h-4z" />,
  mark: (
    <>
      <rect x="1.5" y="3.5" width="13" height="9" rx="2" fill="none" stroke="currentColor" stroke-width="1.5" />
      <path d="M4 6h2v4H4zm3 0h2v4H7zm3 0h2v4h-2z" />
    </>
  ),
} as const;

function Picture({ children }: { readonly children: ComponentChildren }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="currentColor" aria-hidden="true">
      {children}
    </svg>
  );
}

export function ShapeIcon({ shape }: { readonly shape: Shape }) {
  return <Picture>{SHAPES[shape]}</Picture>;
}

export function Icon({ name }: { readonly name: keyof typeof GLYPHS }) {
  return <Picture>{GLYPHS[name]}</Picture>;
}

/** A GPU's state by shape, word and colour. */
export function StateMark({ state }: { readonly state: string }) {
  return <Mark look={lookOf(state)} />;
}

export function Mark({ look }: { readonly look: Look }) {
  const { word, shape, tone, means } = look;
  return (
    <span class={`state tone-${tone}`} title={means}>
      <ShapeIcon shape={shape} />
      {word}
    </span>
  );
}
