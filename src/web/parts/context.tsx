/** What every part of the page may use. */
import { Component, type ComponentType, createContext, type FunctionComponent } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import type { Me } from "../api/answers.ts";
import { type Api, ApiError } from "../api/http.ts";
import type { Deed } from "../model/deeds.ts";

export interface Tools {
  readonly api: Api;
  readonly me: Me;
  /** Asks for a deed, which is done when it is confirmed. */
  readonly propose: (deed: Deed) => void;
  readonly openGpu: (uuid: string) => void;
  readonly openRun: (run: { readonly id: string; readonly name: string }) => void;
  readonly refresh: () => void;
}

export const ToolsContext = createContext<Tools | null>(null);

export function useTools(): Tools {
  const tools = useContext(ToolsContext);
  if (tools === null) throw new Error("outside the page");
  return tools;
}

/** The same component, drawn again only when one of its properties is another. */
export function pure<P extends object>(Inner: FunctionComponent<P>): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const [a, b] = [this.props as Record<string, unknown>, next as Record<string, unknown>];
      return Object.keys(b).some((key) => a[key] !== b[key]);
    }

    override render() {
      const Drawn = Inner as FunctionComponent<object>;
      return <Drawn {...this.props} />;
    }
  };
}

const tickers = new Set<() => void>();
setInterval(() => {
  if (document.visibilityState === "visible") for (const tick of tickers) tick();
}, 1_000);

/** What `tell` says of the present time, said anew each second; drawn only when it is something else. */
export function useTold(tell: (now: number) => string): string {
  const [, draw] = useState("");
  const text = tell(Date.now());
  useEffect(() => {
    const tick = () => draw(tell(Date.now()));
    tickers.add(tick);
    return () => void tickers.delete(tick);
  });
  return text;
}

export interface Fetched<T> {
  readonly value: T | null;
  readonly problem: string | null;
}

/** What is fetched beside the list is fetched no more often than this, in ms, unless its reader says otherwise. */
const MIN_GAP_MS = 2_000;
const STALE_MS = 60_000;

/**
 * What stands at `path`, fetched again when `revision` grows and every minute; `null`: nothing is asked for.
 *
 * @param gapMs between two fetches, at least.
 */
export function useFetched<T>(path: string | null, revision: number, gapMs = MIN_GAP_MS): Fetched<T> {
  const { api } = useTools();
  const [fetched, setFetched] = useState<Fetched<T> & { path: string | null; at: number; revision: number }>(NOTHING);
  const underWay = useRef<string | null>(null);
  const wanted = useRef(path);
  const isSame = fetched.path === path;
  wanted.current = path;
  useEffect(
    () => () => {
      wanted.current = null;
    },
    [],
  );
  useEffect(() => {
    // What is under way is waited for, however often something happens meanwhile.
    if (path === null || underWay.current === path) return;
    const age = Date.now() - fetched.at;
    const wait = !isSame ? 0 : fetched.revision !== revision ? gapMs - age : STALE_MS - age;
    const timer = setTimeout(
      async () => {
        const done = { path, at: Date.now(), revision };
        underWay.current = path;
        const found: Fetched<T> = await api.get<T>(path).then(
          (value) => ({ value, problem: null }),
          (error: unknown) => ({
            value: isSame ? fetched.value : null,
            problem: error instanceof ApiError ? error.message : String(error),
          }),
        );
        if (underWay.current === path) underWay.current = null;
        if (wanted.current === path) setFetched({ ...done, ...found });
      },
      Math.max(0, wait),
    );
    return () => clearTimeout(timer);
  }, [path, revision, fetched]);
  return isSame ? fetched : NOTHING;
}

const NOTHING = { value: null, problem: null, path: null, at: 0, revision: -1 };
