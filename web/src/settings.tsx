// Settings of a chat: system prompt, sampling with the values in force, structured answers, tools.

import { useEffect, useRef, useState } from 'preact/hooks';

import { Icon } from './icons';
import { set, useStore } from './store';
import * as talk from './talk';
import type { Setting } from './types';

export function Settings() {
  const { facts, chat } = useStore();
  const now = talk.settings();
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => head.current?.focus(), []);
  const model = talk.known(talk.model());
  const put = (name: string, value: number | null) => {
    const sampling = { ...now.sampling };
    if (value === null) delete sampling[name];
    else sampling[name] = value;
    void talk.configure({ sampling });
  };
  return (
    <aside class="settings" aria-label="Settings of this chat">
      <div class="settings-head">
        <h2 ref={head} tabIndex={-1}>Settings</h2>
        <button type="button" class="tool" aria-label="Close the settings" onClick={() => set({ settings: false })}>
          <Icon name="close" />
        </button>
      </div>
      <Text
        key={`system ${chat?.id}`} label="System prompt" value={now.system ?? ''} rows={4}
        help="What the model is told before the conversation. Empty: what its own template says."
        put={(system) => void talk.configure({ system: system || undefined })}
      />
      <fieldset>
        <legend>Sampling</legend>
        <p class="help">Empty fields leave it to the model; what is in force stands beside.</p>
        {(facts?.settings ?? []).map((setting) => (
          <Amount key={`${setting.name} ${chat?.id}`} setting={setting} mine={now.sampling?.[setting.name]} theirs={model?.defaults[setting.name]} put={put} />
        ))}
        <Amount
          key={`max ${chat?.id}`} mine={now.max_tokens} theirs={model?.max_tokens ?? null}
          setting={{ name: 'max_tokens', meaning: 'Ends an answer after so many tokens', range: 'a whole number from 1', min: 1, max: 1e9, whole: true }}
          put={(_, value) => void talk.configure({ max_tokens: value ?? undefined })}
        />
      </fieldset>
      <Text
        key={`schema ${chat?.id}`} label="JSON schema" value={now.schema ?? ''} rows={5} json
        help="Answers are JSON of this form." put={(schema) => void talk.configure({ schema: schema || undefined })}
      />
      <Text
        key={`tools ${chat?.id}`} label="Tools" value={now.tools ?? ''} rows={5} json
        help="A list as OpenAI's API has it. The model may call them; you give the results."
        put={(tools) => void talk.configure({ tools: tools || undefined })}
      />
    </aside>
  );
}

/** What holds where nobody set something. */
const UNSET: Record<string, string> = {
  temperature: '1, as trained',
  seed: 'another each time',
  max_tokens: 'as many as fit',
};

interface TextProps {
  label: string;
  value: string;
  help: string;
  rows: number;
  json?: boolean;
  put: (text: string) => void;
}

/** A longer text, which holds when the field is left. */
function Text({ label, value, help, rows, json, put }: TextProps) {
  const [text, setText] = useState(value);
  const id = `set-${label.toLowerCase().replace(/\W/g, '-')}`;
  let wrong = '';
  if (json && text.trim()) {
    try {
      JSON.parse(text);
    } catch (error) {
      wrong = `No JSON yet: ${(error as Error).message}`;
    }
  }
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea
        id={id} rows={rows} class={json ? 'mono' : undefined} value={text} spellcheck={!json} aria-describedby={`${id}-help`}
        aria-invalid={wrong !== ''} onInput={(event) => setText(event.currentTarget.value)}
        onChange={(event) => put(event.currentTarget.value)}
      />
      <p id={`${id}-help`} class={wrong ? 'help warn' : 'help'}>{wrong || help}</p>
    </div>
  );
}

interface AmountProps {
  setting: Setting;
  mine: number | undefined;
  theirs: unknown;
  put: (name: string, value: number | null) => void;
}

function Amount({ setting, mine, theirs, put }: AmountProps) {
  const [text, setText] = useState(mine === undefined ? '' : String(mine));
  const id = `set-${setting.name}`;
  const value = text.trim() === '' ? null : Number(text);
  const { min, max, whole } = setting;
  const fits = value === null || (isNumber(value, whole) && (min === null || value >= min) && (max === null || value <= max));
  const force = value !== null ? `${value}, yours` : theirs !== undefined && theirs !== null ? `${String(theirs)}, the model's` : (UNSET[setting.name] ?? 'not used');
  return (
    <div class="number">
      <label for={id} title={setting.meaning}>{setting.name.replace(/_/g, ' ')}</label>
      <input
        id={id} type="text" inputMode="decimal" value={text} placeholder={theirs === undefined || theirs === null ? '' : String(theirs)}
        aria-describedby={`${id}-now`} aria-invalid={!fits} autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)} onChange={() => fits && put(setting.name, value)}
      />
      <span id={`${id}-now`} class={fits ? 'force' : 'force warn'}>{fits ? force : setting.range}</span>
    </div>
  );
}

function isNumber(value: number, whole: boolean): boolean {
  return Number.isFinite(value) && (!whole || Number.isInteger(value));
}
