// Where a message is written. What was typed stays until the server has it, and outlives a reload.

import { useEffect, useLayoutEffect, useReducer, useRef, useState } from 'preact/hooks';

import { Icon } from './icons';
import { draft, state, useStore } from './store';
import * as talk from './talk';

export function Composer() {
  const { chat, runs, facts, target } = useStore();
  const place = draft.place();
  const text = draft.get(place);
  const [, again] = useReducer((count: number) => count + 1, 0);
  const [sending, setSending] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const busy = runs.some((run) => run.chat === chat?.id);
  const last = useRef(place);
  useEffect(() => {
    if (last.current === place) return;
    last.current = place;
    // A message that was searched for has the focus then.
    if (target === null) field.current?.focus({ preventScroll: true });
  }, [place]);
  useLayoutEffect(() => {
    const box = field.current;
    if (!box) return;
    box.style.height = 'auto';
    box.style.height = `${Math.min(box.scrollHeight, window.innerHeight * 0.4)}px`;
  }, [text]);
  const write = (next: string) => {
    draft.set(draft.place(), next);
    again(undefined as never);
  };
  const send = async () => {
    const wanted = draft.get(draft.place());
    if (!wanted.trim() || busy || sending) return;
    setSending(true);
    await talk.say(wanted);
    setSending(false);
    field.current?.focus({ preventScroll: true });
  };
  const keys = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      void send();
    }
  };
  const tooLong = facts !== null && text.length > facts.chats.text_bytes / 4;
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); void send(); }}>
      <label class="unseen" for="say">Message</label>
      <textarea
        id="say" ref={field} rows={1} value={text} placeholder="Write a message" onKeyDown={keys}
        onInput={(event) => write(event.currentTarget.value)} aria-describedby="say-help"
        enterkeyhint="send" autocomplete="off"
      />
      {busy ? (
        <button type="button" class="round stop" onClick={talk.stop} aria-label="Stop the answer" title="Stop (Esc)">
          <Icon name="stop" />
        </button>
      ) : (
        <button type="submit" class="round" disabled={!text.trim() || sending} aria-label="Send" title="Send (Enter)">
          <Icon name="send" />
        </button>
      )}
      <p id="say-help" class="hint">
        {tooLong ? <span>This is very long, and may not fit the model.</span> : <span class="keys-hint">Enter sends, Shift+Enter begins a line.</span>}
        <Room />
      </p>
    </form>
  );
}

/** How much of the model's context the conversation takes. */
function Room() {
  const name = talk.model();
  const context = talk.known(name)?.context ?? state.models.find((model) => model.id === name)?.max_model_len;
  const run = state.runs.find((run) => run.chat === state.chat?.id && run.side === 'main');
  const path = talk.tree().path(talk.leaf('main'));
  const usage = path.findLast((message) => message.more.usage)?.more.usage;
  if (!context) return null;
  const used = Math.min(context, (usage?.total_tokens ?? 0) + (run?.pieces ?? 0));
  const share = used / context;
  return (
    <span class="room">
      <meter min={0} max={context} value={used} low={context * 0.8} high={context * 0.9} optimum={0} aria-label="Context in use" />
      <span class={share > 0.9 ? 'warn' : undefined}>
        {used.toLocaleString('en')} of {context.toLocaleString('en')} tokens
      </span>
    </span>
  );
}
