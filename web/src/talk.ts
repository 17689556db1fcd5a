// What can be done with chats: open, say, answer again, branch, compare. Text that somebody typed is given up only when
// the server has it; an answer is saved while it is made.

import * as api from './api';
import { Failed } from './api';
import { type Run, type Side, type Trouble, choice, draft, set, state, touch } from './store';
import { type Asked, gather, stream } from './stream';
import { Tree } from './tree';
import type { Chat, ChatSettings, Head, Json, Message, More } from './types';

/** How often an answer is saved that is still being made. */
const SAVE_EVERY_MS = 1500;
/** How long the page waits before it looks again for a server that is gone. */
const LOOK_EVERY_MS = 1500;
const TITLE_CHARS = 60;

export const settings = (): ChatSettings => state.chat?.settings ?? state.fresh;
export const tree = (): Tree => new Tree(state.chat?.tree ?? []);
export const model = (): string => settings().model ?? usual();

/** The model that was chosen last, where it is served. */
function usual(): string {
  const last = choice.get('model');
  return state.models.find((model) => model.id === last)?.id ?? state.models[0]?.id ?? '';
}
export const known = (id: string) => state.facts?.models.find((other) => other.id === id);

/** Where a column ends. */
export function leaf(side: Side): number | null {
  if (!state.chat) return null;
  return side === 'beside' ? (settings().beside?.leaf ?? null) : state.chat.leaf;
}

// ---- trouble -------------------------------------------------------------------------------------------------------

let timer: ReturnType<typeof setTimeout> | undefined;

/** Shows what went wrong, and tries again where that may help. */
export function trouble(error: unknown, again?: () => void): void {
  clearTimeout(timer);
  if (!(error instanceof Failed)) {
    if ((error as Error)?.name !== 'AbortError') set({ trouble: { text: String(error), kind: 'refused', again } });
    return;
  }
  if (error.status === 401) {
    waiting = again ?? load;
    set({ dialog: { kind: 'key', wrong: api.key.get() !== '' }, trouble: null });
  } else if (error.status === 429) {
    retryIn(Math.max(1, error.after ?? 2), { text: error.message, kind: 'busy', again });
  } else if (error.gone) {
    set({ trouble: { text: error.message, kind: 'gone', again } });
    timer = setTimeout(look, LOOK_EVERY_MS);
  } else {
    set({ trouble: { text: error.message, kind: 'refused', again } });
  }
}

function retryIn(seconds: number, what: Trouble): void {
  const until = Date.now() + seconds * 1000;
  set({ trouble: { ...what, until } });
  if (!what.again) return;
  timer = setTimeout(() => {
    set({ trouble: null });
    what.again?.();
  }, seconds * 1000);
}

async function look(): Promise<void> {
  const now = state.trouble;
  if (now?.kind !== 'gone') return;
  if (await api.alive()) {
    set({ trouble: null, said: 'The server is back' });
    await load();
    now.again?.();
  } else timer = setTimeout(look, LOOK_EVERY_MS);
}

export function dismiss(): void {
  clearTimeout(timer);
  set({ trouble: null });
}

let waiting: (() => void) | null = null;

/** With a key what was refused is tried again. */
export function enter(text: string): void {
  api.key.set(text.trim());
  set({ dialog: null });
  const again = waiting;
  waiting = null;
  void load().then(() => (again === load ? undefined : again?.()));
}

// ---- chats ---------------------------------------------------------------------------------------------------------

export async function load(): Promise<void> {
  try {
    const [facts, models, list] = await Promise.all([api.facts(), api.models(), api.list(0)]);
    set({ facts, models, chats: list.chats, moreChats: list.more, loading: false });
    const wanted = /^#\/chat\/([0-9a-f]+)/.exec(location.hash)?.[1];
    if (wanted && state.chat?.id !== wanted) await open(wanted);
  } catch (error) {
    set({ loading: false });
    trouble(error);
  }
}

export async function older(): Promise<void> {
  try {
    const list = await api.list(state.chats.length);
    set({ chats: state.chats.concat(list.chats), moreChats: list.more });
  } catch (error) {
    trouble(error, older);
  }
}

async function refresh(): Promise<void> {
  const list = await api.list(0);
  set({ chats: list.chats, moreChats: list.more });
}

export async function open(id: string, target: number | null = null): Promise<void> {
  try {
    const chat = await api.chat(id);
    for (const message of chat.tree) {
      const live = state.runs.some((run) => run.message.id === message.id);
      // Nobody makes it any more: the page was left, or the server ended.
      if (message.more.open && !live) message.more = { ...message.more, open: undefined, broke: 'The page was left' };
    }
    for (const run of state.runs) {
      const at = chat.tree.findIndex((message) => message.id === run.message.id);
      if (at >= 0) chat.tree[at] = run.message;
    }
    if (target !== null) chat.leaf = new Tree(chat.tree).end(target);
    location.hash = `#/chat/${id}`;
    set({ chat, target, sidebar: false });
  } catch (error) {
    if (error instanceof Failed && error.status === 404) fresh();
    trouble(error, () => open(id, target));
  }
}

export function fresh(): void {
  history.replaceState(null, '', location.pathname);
  set({ chat: null, fresh: { model: state.chat?.settings.model }, sidebar: false, target: null });
}

export async function rename(chat: Head, title: string): Promise<void> {
  try {
    await api.change(chat.id, { title });
    if (state.chat?.id === chat.id) state.chat.title = title;
    await refresh();
  } catch (error) {
    trouble(error, () => rename(chat, title));
  }
}

export async function remove(chat: Head): Promise<void> {
  try {
    for (const run of state.runs.filter((run) => run.chat === chat.id)) run.abort.abort();
    await api.remove(chat.id);
    if (state.chat?.id === chat.id) fresh();
    draft.set(chat.id, '');
    await refresh();
  } catch (error) {
    trouble(error, () => remove(chat));
  }
}

export async function configure(change: ChatSettings): Promise<void> {
  const next = { ...settings(), ...change };
  if (change.model) choice.set('model', change.model);
  if (!state.chat) return set({ fresh: next });
  state.chat.settings = next;
  touch();
  try {
    await api.change(state.chat.id, { settings: next });
  } catch (error) {
    trouble(error, () => configure(change));
  }
}

let searching = 0;

export async function search(query: string): Promise<void> {
  const turn = ++searching;
  if (!query.trim()) return set({ query, found: null });
  set({ query });
  try {
    const found = await api.search(query.slice(0, 200));
    if (turn === searching) set({ found });
  } catch (error) {
    trouble(error, () => search(query));
  }
}

export async function save(chat: Head | null): Promise<void> {
  try {
    const file = chat
      ? new Blob([JSON.stringify({ pasture_chats: 1, chats: [await api.chat(chat.id)] })], { type: 'application/json' })
      : await api.exported();
    const link = document.createElement('a');
    link.href = URL.createObjectURL(file);
    link.download = chat ? `${chat.title.replace(/[^\p{L}\p{N} _-]/gu, '').trim() || 'chat'}.json` : 'pasture-chats.json';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    trouble(error, () => save(chat));
  }
}

/** Takes a file in, chat by chat, so that no request is too long. */
export async function take(file: File): Promise<void> {
  try {
    const whole = JSON.parse(await file.text());
    if (!Array.isArray(whole?.chats)) throw new Failed(`${file.name} is no export of chats`, 400);
    for (const chat of whole.chats) await api.take({ pasture_chats: whole.pasture_chats ?? 0, chats: [chat] });
    await refresh();
    set({ trouble: { text: `${whole.chats.length} chats were imported`, kind: 'note' } });
  } catch (error) {
    trouble(error instanceof SyntaxError ? new Failed(`${file.name} is no JSON`, 400) : error);
  }
}

// ---- saying and answering ------------------------------------------------------------------------------------------

/** Says something at the end of what is shown, to both models where two are compared. True when the server has it. */
export async function say(text: string): Promise<boolean> {
  dismiss();
  try {
    const chat = state.chat ?? (await begin(text));
    const beside = chat.settings.beside;
    const apart = beside && beside.leaf !== chat.leaf && chat.tree.length > 0;
    const question = await put(chat, { parent: chat.leaf, role: 'user', content: text, more: {} });
    let second = question;
    if (beside && apart) {
      second = await put(chat, { parent: beside.leaf, role: 'user', content: text, more: {} }, false);
    }
    if (beside) await configure({ beside: { ...beside, leaf: second.id } });
    // What was typed in the meantime stays.
    if (draft.get(chat.id) === text) draft.set(chat.id, '');
    void answer(question.id, 'main');
    if (beside) void answer(second.id, 'beside');
    return true;
  } catch (error) {
    trouble(error);
    return false;
  }
}

async function begin(text: string): Promise<Chat> {
  const line = text.trim().split('\n')[0];
  const title = line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS - 1)}…` : line || 'A chat';
  const chat = await api.create(title, { ...state.fresh, model: model() });
  location.hash = `#/chat/${chat.id}`;
  draft.began(chat.id);
  set({ chat, fresh: {}, chats: [chat, ...state.chats] });
  return chat;
}

async function put(
  chat: Chat,
  what: { parent: number | null; role: Message['role']; content: string; more: More },
  shown = true,
): Promise<Message> {
  const message = await api.add(chat.id, { ...what, leaf: shown });
  chat.tree = chat.tree.concat(message);
  if (shown) chat.leaf = message.id;
  touch();
  return message;
}

/** Another question instead of one, as a branch beside it. */
export async function edit(message: Message, text: string, side: Side): Promise<boolean> {
  const chat = state.chat;
  if (!chat) return false;
  dismiss();
  try {
    const question = await put(chat, { parent: message.parent, role: 'user', content: text, more: {} }, side === 'main');
    if (side === 'beside') await show(question.id, side);
    void answer(question.id, side);
    return true;
  } catch (error) {
    trouble(error);
    return false;
  }
}

/** Shows the branch through a message. */
export async function show(id: number, side: Side): Promise<void> {
  const chat = state.chat;
  if (!chat) return;
  const end = tree().end(id);
  if (side === 'beside') {
    const beside = chat.settings.beside;
    if (beside) await configure({ beside: { ...beside, leaf: end } });
    return;
  }
  set({ chat: { ...chat, leaf: end } });
  try {
    await api.change(chat.id, { leaf: end });
  } catch (error) {
    trouble(error);
  }
}

/** Results of calls, and what the model says to them. */
export async function results(message: Message, texts: string[], side: Side): Promise<void> {
  const chat = state.chat;
  if (!chat) return;
  try {
    let parent = message.id;
    for (const [at, call] of (message.more.calls ?? []).entries()) {
      const more = { call: { id: call.id, name: call.name } };
      const said = { parent, role: 'tool' as const, content: texts[at] ?? '', more };
      parent = (await put(chat, said, side === 'main')).id;
    }
    if (side === 'beside') await show(parent, side);
    void answer(parent, side);
  } catch (error) {
    trouble(error);
  }
}

/** Two models side by side from here on, or one again. */
export async function compare(second: string | null): Promise<void> {
  await configure({ beside: second === null ? undefined : { model: second, leaf: state.chat?.leaf ?? null } });
}

/** Goes on with one of two columns. */
export async function keep(side: Side): Promise<void> {
  const beside = settings().beside;
  if (!beside) return;
  if (side === 'beside') {
    if (beside.leaf !== null) await show(beside.leaf, 'main');
    await configure({ model: beside.model });
  }
  await compare(null);
}

/** Makes an answer to the last message of a branch. */
export async function answer(after: number, side: Side): Promise<void> {
  const chat = state.chat;
  if (!chat) return;
  const again = () => void answer(after, side);
  const beside = chat.settings.beside;
  const name = side === 'beside' && beside ? beside.model : model();
  const more: More = { model: name, open: true, structured: Boolean(chat.settings.schema?.trim()) };
  const message: Message = { id: -Date.now() - (side === 'main' ? 0 : 1), parent: after, role: 'assistant', content: '', more, created: 0 };
  const run: Run = {
    chat: chat.id, message, abort: new AbortController(), began: performance.now(), firstAt: null, pieces: 0, side,
  };
  let asked: Asked;
  try {
    asked = request(chat, name, tree().path(after));
  } catch (error) {
    return trouble(error);
  }
  set({ runs: [...state.runs, run], said: 'The model answers' });
  const keeper = new Keeper(run);
  try {
    await stream(asked, run.abort.signal, (piece) => {
      if (run.firstAt === null && (piece.content || piece.reasoning || piece.calls)) run.firstAt = performance.now();
      if (piece.content || piece.reasoning || piece.calls) run.pieces += 1;
      if (piece.content) message.content += piece.content;
      if (piece.reasoning) message.more.reasoning = (message.more.reasoning ?? '') + piece.reasoning;
      if (piece.calls) message.more.calls = gather(message.more.calls ?? [], piece.calls);
      if (piece.finish) message.more.finish = piece.finish;
      if (piece.usage) message.more.usage = piece.usage;
      keeper.note();
      touch();
    });
  } catch (error) {
    if (run.abort.signal.aborted) message.more.broke = 'Stopped';
    else if (error instanceof Failed && run.firstAt === null) {
      set({ runs: state.runs.filter((other) => other !== run) });
      await keeper.drop();
      return trouble(error, again);
    } else {
      message.more.broke = error instanceof Error ? error.message : String(error);
      trouble(error);
    }
  }
  if (run.firstAt !== null) {
    message.more.first = (run.firstAt - run.began) / 1000;
    message.more.took = (performance.now() - run.firstAt) / 1000;
  }
  message.more.open = undefined;
  await keeper.end();
  set({ runs: state.runs.filter((other) => other !== run), said: `Answer: ${message.content.slice(0, 300)}` });
}

/** Keeps an answer on the server while it is made. */
class Keeper {
  private saved = 0;
  private work: Promise<void> = Promise.resolve();

  constructor(private readonly run: Run) {}

  private get chat(): Chat | null {
    return state.chat?.id === this.run.chat ? state.chat : null;
  }

  note(): void {
    const now = performance.now();
    if (now - this.saved < SAVE_EVERY_MS) return;
    this.saved = now;
    this.work = this.work.then(() => this.write()).catch(() => undefined);
  }

  /** The first time adds the message, later ones change it. */
  private async write(): Promise<void> {
    const { run } = this;
    const { message } = run;
    if (message.id > 0) return void (await api.save(run.chat, message));
    const { parent, content, more } = message;
    const added = await api.add(run.chat, { parent, role: 'assistant', content, more, leaf: run.side === 'main' });
    message.id = added.id;
    message.created = added.created;
    const chat = this.chat;
    if (!chat) return;
    chat.tree = chat.tree.concat(message);
    if (run.side === 'main') chat.leaf = message.id;
    else if (chat.settings.beside) await configure({ beside: { ...chat.settings.beside, leaf: message.id } });
    touch();
  }

  async end(): Promise<void> {
    await this.work;
    const { message } = this.run;
    if (!message.content && !message.more.reasoning && !message.more.calls && message.more.broke) return;
    for (let left = 20; left > 0; left -= 1) {
      try {
        await this.write();
        return void refresh().catch(() => undefined);
      } catch (error) {
        // The server may come back; the answer is here until then.
        if (!(error instanceof Failed && error.gone)) return trouble(error);
        await new Promise((done) => setTimeout(done, LOOK_EVERY_MS));
      }
    }
  }

  async drop(): Promise<void> {
    await this.work;
  }
}

/** What is still being made is saved when the page is left. */
export function leave(): void {
  for (const run of state.runs) {
    if (run.message.id > 0) void api.save(run.chat, run.message, true).catch(() => undefined);
  }
}

export function stop(): void {
  const chat = state.chat?.id;
  for (const run of state.runs.filter((run) => run.chat === chat)) run.abort.abort();
  if (state.trouble?.until) dismiss();
}

/** The request of a conversation: only what is set is sent. */
export function request(chat: Chat, name: string, path: Message[]): Asked {
  const { system, sampling, max_tokens, schema, tools } = chat.settings;
  const messages: Json[] = [];
  if (system?.trim()) messages.push({ role: 'system', content: system });
  for (const message of path) messages.push(wire(message));
  const body: Asked = { model: name, messages, ...sampling };
  if (max_tokens) body.max_tokens = max_tokens;
  if (schema?.trim()) {
    const parsed = parse(schema, 'The JSON schema') as Json;
    body.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: parsed, strict: true } };
  }
  if (tools?.trim()) body.tools = parse(tools, 'The list of tools') as Json;
  return body;
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Failed(`${what} in the settings is no JSON: ${(error as Error).message}`, 400);
  }
}

function wire(message: Message): Json {
  if (message.role === 'tool') {
    return { role: 'tool', tool_call_id: message.more.call?.id ?? '', content: message.content };
  }
  const calls = message.more.calls;
  if (!calls?.length) return { role: message.role, content: message.content };
  const made = calls.map((call) => ({
    id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments },
  }));
  return { role: message.role, content: message.content || null, tool_calls: made };
}
