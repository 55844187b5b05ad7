/** Asks for an API key, which stays in this tab. */
import { useState } from "preact/hooks";
import { Icon } from "./icons.tsx";

export function KeyForm({
  problem,
  onKey,
}: {
  readonly problem: string | null;
  readonly onKey: (key: string) => void;
}) {
  const [key, setKey] = useState("");
  return (
    <main class="key-form">
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          onKey(key.trim());
        }}
      >
        <p class="brand">
          <Icon name="mark" />
          gpu-orchestrator
        </p>
        <h1>This host asks for a key</h1>
        <label>
          API key
          <input
            type="password"
            required
            autoComplete="off"
            value={key}
            // A header carries no other characters.
            pattern="[\x21-\x7e]+"
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p class="faint">It is kept in this tab until the tab is closed, and sent to this daemon only.</p>
        {problem === null ? null : (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <div class="buttons">
          <button type="submit" class="main">
            Open
          </button>
        </div>
      </form>
    </main>
  );
}
