// Fields of forms.
import { useEffect, useState } from "preact/hooks";
import { html } from "dom";

export function Field({ label, hint, error, children }) {
  return html`<label class="field"><span>${label}</span>${children}
    ${hint ? html`<small>${hint}</small>` : null}
    ${error ? html`<small class="problem" role="alert">${error}</small>` : null}
  </label>`;
}

export function TextField({ label, value, onValue, hint, error, ...more }) {
  return html`<${Field} label=${label} hint=${hint} error=${error}>
    <input value=${value} onInput=${(event) => onValue(event.target.value)} ...${more} />
  <//>`;
}

// A text that counts once Enter is pressed or the field is left, as what is asked with half a name is
// refused.
export function SettledField({ value, onValue, ...more }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return html`<${TextField} value=${typed} onValue=${setTyped} ...${more}
    onChange=${(event) => onValue(event.target.value.trim())} />`;
}

// `options`: each `[value, label]`, or a value.
export function Choice({ label, value, options, onValue, hint }) {
  return html`<${Field} label=${label} hint=${hint}>
    <select value=${value} onChange=${(event) => onValue(event.target.value)}>
      ${options.map((one) => {
        const [name, shown] = Array.isArray(one) ? one : [one, one];
        return html`<option value=${name} selected=${name === value}>${shown}</option>`;
      })}
    </select>
  <//>`;
}
