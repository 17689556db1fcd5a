// The page: what stands where, shortcuts, and the beginning.

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { Composer } from './composer';
import { Dialogs } from './dialogs';
import { Icon, Mark } from './icons';
import { Settings } from './settings';
import { Sidebar } from './sidebar';
import { type Side, choice, set, state, useStore } from './store';
import * as talk from './talk';
import { Thread } from './thread';

function Page() {
  const { chat, runs, settings, sidebar, loading, said, trouble } = useStore();
  const beside = talk.settings().beside;
  const empty = !chat || (chat.tree.length === 0 && runs.length === 0);
  useEffect(() => {
    document.title = chat?.title ? `${chat.title} – Pasture` : 'Pasture';
  }, [chat?.title]);
  return (
    <div class={`frame${settings ? ' with-settings' : ''}`}>
      <a class="skip" href="#say" onClick={(event) => { event.preventDefault(); document.getElementById('say')?.focus(); }}>To the message field</a>
      <Sidebar />
      {sidebar && <button type="button" class="veil" tabIndex={-1} aria-label="Close the list of chats" onClick={() => set({ sidebar: false })} />}
      <main>
        <Top />
        {loading ? <div class="empty" /> : empty ? <Empty /> : (
          <div class={beside ? 'threads two' : 'threads'}>
            <Column side="main" two={Boolean(beside)} />
            {beside && <Column side="beside" two />}
          </div>
        )}
        {trouble && <TroubleBar />}
        <Composer />
      </main>
      {settings && <Settings />}
      <Dialogs />
      <div class="unseen" role="status" aria-live="polite">{said}</div>
    </div>
  );
}

function Top() {
  const { chat, settings, models } = useStore();
  const beside = talk.settings().beside;
  const second = models.find((model) => model.id !== talk.model())?.id ?? talk.model();
  return (
    <header>
      <button type="button" class="tool only-narrow" aria-label="List of chats" aria-controls="sidebar" onClick={() => set({ sidebar: true })}>
        <Icon name="menu" />
      </button>
      <h1>{chat?.title || 'New chat'}</h1>
      {!beside && <Picker label="Model" value={talk.model()} put={(model) => void talk.configure({ model })} />}
      <button type="button" class="tool" aria-pressed={Boolean(beside)} aria-label="Two models side by side" title="Two models side by side (c)" onClick={() => void talk.compare(beside ? null : second)}>
        <Icon name="columns" />
      </button>
      <button type="button" class="tool" aria-pressed={settings} aria-label="Settings" title="Settings (s)" onClick={() => set({ settings: !settings })}>
        <Icon name="gear" />
      </button>
      <button type="button" class="tool" aria-label="Shortcuts" title="Shortcuts (?)" onClick={() => set({ dialog: { kind: 'help' } })}>
        <Icon name="help" />
      </button>
    </header>
  );
}

function Picker({ label, value, put }: { label: string; value: string; put: (id: string) => void }) {
  const { models } = useStore();
  return (
    <label class="picker">
      <span class="unseen">{label}</span>
      <select value={value} onChange={(event) => put(event.currentTarget.value)}>
        {models.map((model) => (
          <option key={model.id} value={model.id}>
            {model.id}
            {model.parent ? ` (on ${model.parent})` : ''}
          </option>
        ))}
        {!models.some((model) => model.id === value) && value && <option value={value}>{value} (not served)</option>}
      </select>
    </label>
  );
}

function Column({ side, two }: { side: Side; two: boolean }) {
  const beside = talk.settings().beside;
  if (!two) return <Thread side={side} />;
  const put = (model: string) =>
    side === 'beside' && beside ? talk.configure({ beside: { ...beside, model } }) : talk.configure({ model });
  return (
    <section class="half" aria-label={side === 'main' ? 'First model' : 'Second model'}>
      <div class="half-head">
        <Picker label={side === 'main' ? 'First model' : 'Second model'} value={side === 'main' ? talk.model() : (beside?.model ?? '')} put={(id) => void put(id)} />
        <button type="button" class="small" onClick={() => void talk.keep(side)}>Keep this one</button>
      </div>
      <Thread side={side} />
    </section>
  );
}

const IDEAS = ['Who are you, and what can you do?', 'Explain what a token is, in three sentences.', 'Write a short poem about a meadow.'];

function Empty() {
  const { models } = useStore();
  const beside = talk.settings().beside;
  return (
    <div class="empty">
      <Mark />
      <h2>What would you like to ask?</h2>
      <p>
        {models.length === 0
          ? 'No model is served yet.'
          : beside
            ? `${talk.model()} and ${beside.model} answer side by side.`
            : `${talk.model()} runs on this server. Nothing you write leaves it.`}
      </p>
      <ul class="ideas">
        {IDEAS.map((idea) => (
          <li>
            <button type="button" onClick={() => void talk.say(idea)} disabled={models.length === 0}>{idea}</button>
          </li>
        ))}
      </ul>
      <p class="hint">Press <kbd>?</kbd> for shortcuts.</p>
    </div>
  );
}

function TroubleBar() {
  const { trouble } = useStore();
  const [, tick] = useState(0);
  useEffect(() => {
    if (!trouble?.until) return;
    const timer = setInterval(() => tick((count) => count + 1), 250);
    return () => clearInterval(timer);
  }, [trouble]);
  if (!trouble) return null;
  const left = trouble.until ? Math.max(0, Math.ceil((trouble.until - Date.now()) / 1000)) : 0;
  const then =
    trouble.kind === 'gone' ? 'Looking for it; what you typed is kept.'
      : trouble.until && trouble.again ? `Trying again in ${left} s.`
        : trouble.until && left > 0 ? `Try again in ${left} s; what you typed is kept.` : '';
  const again = () => {
    const run = trouble.again;
    talk.dismiss();
    run?.();
  };
  return (
    <div class={`trouble ${trouble.kind}`} role={trouble.kind === 'note' ? 'status' : 'alert'}>
      <p>{trouble.text}. {then}</p>
      {trouble.again && <button type="button" class="small" onClick={again}>Try now</button>}
      <button type="button" class="tool" aria-label="Dismiss" onClick={talk.dismiss}><Icon name="close" /></button>
    </div>
  );
}

// ---- keys ----------------------------------------------------------------------------------------------------------

function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  return ['INPUT', 'TEXTAREA', 'SELECT'].includes(at.tagName) || at.isContentEditable;
}

/** The message that has the focus, else the last one. */
function current(): HTMLElement | null {
  const inside = document.activeElement?.closest<HTMLElement>('.message');
  return inside ?? [...document.querySelectorAll<HTMLElement>('.message')].at(-1) ?? null;
}

function step(by: number): void {
  const list = [...document.querySelectorAll<HTMLElement>('.message')];
  const now = document.activeElement?.closest<HTMLElement>('.message');
  const at = now ? list.indexOf(now) + by : list.length - 1;
  const next = list[Math.max(0, Math.min(list.length - 1, at))];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

const press = (within: HTMLElement | null, label: string) =>
  within?.querySelector<HTMLButtonElement>(`button[aria-label="${label}"]`)?.click();

const LETTERS: Record<string, () => void> = {
  '?': () => set({ dialog: { kind: 'help' } }),
  n: () => {
    talk.fresh();
    document.getElementById('say')?.focus();
  },
  '/': () => document.getElementById('say')?.focus(),
  s: () => set({ settings: !state.settings }),
  c: () => document.querySelector<HTMLButtonElement>('header button[aria-label="Two models side by side"]')?.click(),
  j: () => step(1),
  k: () => step(-1),
  r: () => press([...document.querySelectorAll<HTMLElement>('.of-assistant')].at(-1) ?? null, 'Answer again'),
  e: () => press([...document.querySelectorAll<HTMLElement>('.of-user')].at(-1) ?? null, 'Edit as a branch'),
  '[': () => press(current(), 'Branch before'),
  ']': () => press(current(), 'Branch after'),
};

function keys(event: KeyboardEvent): void {
  if (event.isComposing || state.dialog) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    set({ sidebar: true });
    document.getElementById('search')?.focus();
    return;
  }
  if (event.key === 'Escape') {
    if (state.runs.length) talk.stop();
    else if (state.settings) set({ settings: false });
    else if (state.sidebar) set({ sidebar: false });
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || choice.get('letters') === 'off') return;
  const act = LETTERS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

document.addEventListener('keydown', keys);
window.addEventListener('pagehide', talk.leave);
window.addEventListener('hashchange', () => {
  const wanted = /^#\/chat\/([0-9a-f]+)/.exec(location.hash)?.[1];
  if (wanted && wanted !== state.chat?.id) void talk.open(wanted);
});

render(<Page />, document.getElementById('page')!);
void talk.load();
