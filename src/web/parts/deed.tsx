/** Deeds ask first, and what an admin does wants a reason. */
import { useState } from "preact/hooks";
import type { Deed } from "../model/deeds.ts";
import { useTools } from "./context.tsx";
import { Dialog } from "./small.tsx";

export function DeedDialog({ deed, onClose }: { readonly deed: Deed; readonly onClose: () => void }) {
  const { api, refresh } = useTools();
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget as HTMLFormElement);
    const filled = [...given].filter(([, value]) => String(value).trim() !== "");
    setBusy(true);
    try {
      if (deed.method === "DELETE" && !deed.wantsReason) await api.delete(deed.path);
      else await api.send(deed.method, deed.path, Object.fromEntries(filled));
      refresh();
      onClose();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={deed.title} onClose={onClose}>
      <form class="fields" onSubmit={submit}>
        <p>{deed.what}</p>
        {deed.fields?.map((field) => (
          <label key={field.name}>
            {field.label}
            <input name={field.name} required={field.isNeeded === true} placeholder={field.hint ?? ""} />
          </label>
        ))}
        {deed.wantsReason ? (
          <label>
            Reason
            <textarea
              name="reason"
              rows={2}
              required
              maxLength={500}
              placeholder="Kept, and shown with what it explains"
            />
          </label>
        ) : null}
        {problem === null ? null : (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <div class="buttons">
          <button type="submit" class={deed.isGrave === true ? "grave" : "main"} disabled={isBusy}>
            {deed.verb}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
