// Sign-in by the identity provider, if there is one, or with a key, which leaves the page's memory
// at once.
import { useRef, useState } from "preact/hooks";
import { html } from "dom";
import { provider, signIn, signInAddress } from "api/session";

// `why`: a sentence that says why signing in is needed again, if it is.
export function SignIn({ why, onSignedIn }) {
  const field = useRef(null);
  const [problem, setProblem] = useState(null);
  const [waiting, setWaiting] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const key = field.current.value.trim();
    field.current.value = "";
    setWaiting(true);
    setProblem(null);
    try {
      onSignedIn(await signIn(key));
    } catch (error) {
      setProblem(error);
      setWaiting(false);
      field.current.focus();
    }
  };
  return html`<main class="sign-in" id="main">
    <h1>Audit log gateway</h1>
    ${why ? html`<p class="state stale" role="status">${why}</p>` : null}
    ${provider() ? html`<p><a class="button strong" href=${signInAddress()}>
        Sign in with ${provider()}</a></p>
      <p class="quiet">Or with a provisioning key:</p>` : null}
    <form onSubmit=${submit}>
      <label class="field"><span>Provisioning key</span>
        <input ref=${field} type="password" required autocomplete="off" spellcheck="false"
          autofocus placeholder="alpk_…" />
        <small>You see what this key may see. It is not kept in the browser.</small>
      </label>
      ${problem ? html`<p class="problem" role="alert">${problem.message}</p>` : null}
      <button class=${provider() ? "" : "strong"} disabled=${waiting}>Sign in</button>
    </form>
    <p class="quiet">No key yet? <code>make run</code> prints the first one;
      <code>audit-gateway keys create</code> makes others.</p>
  </main>`;
}
