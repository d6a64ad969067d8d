// Dialogs: what something will do is said before it is done.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";

// `onClose` is also called for Esc.
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  useEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${cancelled}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

// Asks before `act(reason)`, an async function, is called. `says`: what it will do.
export function Confirm({ title, says, action, asksReason, act, onClose }) {
  const [reason, setReason] = useState("");
  const [problem, setProblem] = useState(null);
  const [acting, setActing] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setActing(true);
    try {
      await act(reason.trim());
      onClose();
    } catch (error) {
      setProblem(error);
      setActing(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <div class="says">${says}</div>
      ${asksReason
        ? html`<label class="field"><span>Reason</span>
            <input required value=${reason} onInput=${(event) => setReason(event.target.value)} />
          </label>`
        : null}
      ${problem ? html`<p class="problem" role="alert">${problem.message}</p>` : null}
      <div class="actions">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="strong" disabled=${acting}>${action}</button>
      </div>
    </form>
  <//>`;
}
