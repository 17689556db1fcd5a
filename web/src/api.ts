// Requests to the server that gave the page, and to no other. The key stays in this tab: sessionStorage, never a URL.

import type { Chat, ChatSettings, Facts, Found, Head, Message, ModelRow, More } from './types';

const KEY = 'pasture-key';

/** Why a request has no answer. */
export class Failed extends Error {
  constructor(
    message: string,
    /** The status; 0 where the server could not be reached. */
    readonly status: number,
    /** Seconds after which to ask again. */
    readonly after: number | null = null,
  ) {
    super(message);
  }

  get gone(): boolean {
    return this.status === 0 || this.status === 503;
  }
}

export const key = {
  get: (): string => sessionStorage.getItem(KEY) ?? '',
  set: (text: string): void => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

function headers(body: boolean): Record<string, string> {
  const list: Record<string, string> = {};
  if (body) list['Content-Type'] = 'application/json';
  const text = key.get();
  if (text) list.Authorization = `Bearer ${text}`;
  return list;
}

/** Sends a request; an answer that is none is thrown as `Failed`. */
export async function ask(path: string, body?: unknown, more: RequestInit = {}): Promise<Response> {
  const init: RequestInit = {
    method: body === undefined ? 'GET' : 'POST',
    headers: headers(body !== undefined),
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: 'no-store',
    redirect: 'error',
    ...more,
  };
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (more.signal?.aborted) throw error;
    throw new Failed('The server cannot be reached', 0);
  }
  if (answer.ok) return answer;
  throw await refusal(answer);
}

async function refusal(answer: Response): Promise<Failed> {
  let message = `The server answered ${answer.status}`;
  try {
    const body = await answer.json();
    const said = body?.error?.message ?? body?.error;
    if (typeof said === 'string') message = said;
  } catch {
    // An answer without JSON is told by its status.
  }
  const after = Number.parseInt(answer.headers.get('retry-after') ?? '', 10);
  return new Failed(message, answer.status, Number.isFinite(after) ? after : null);
}

async function json<T>(path: string, body?: unknown, more?: RequestInit): Promise<T> {
  const answer = await ask(path, body, more);
  try {
    return (await answer.json()) as T;
  } catch {
    throw new Failed('The connection broke off', 0);
  }
}

export const facts = (): Promise<Facts> => json('/page/facts');
export const models = async (): Promise<ModelRow[]> => (await json<{ data: ModelRow[] }>('/v1/models')).data;
export const list = (from: number): Promise<{ chats: Head[]; more: boolean }> => json(`/chats?from=${from}`);
export const chat = (id: string): Promise<Chat> => json(`/chats/${id}`);
export const create = (title: string, settings: ChatSettings): Promise<Chat> =>
  json('/chats/create', { title, settings });
export const change = (id: string, what: { title?: string; settings?: ChatSettings; leaf?: number }): Promise<unknown> =>
  json(`/chats/${id}/change`, what);
export const remove = (id: string): Promise<unknown> => json(`/chats/${id}/delete`, {});
export const search = async (text: string): Promise<Found[]> =>
  (await json<{ found: Found[] }>('/chats/search', { text })).found;
export const add = (
  id: string,
  what: { parent: number | null; role: Message['role']; content: string; more?: More; leaf?: boolean },
): Promise<Message> => json(`/chats/${id}/messages`, what);
export const save = (id: string, message: Message, last = false): Promise<unknown> =>
  json(
    `/chats/${id}/messages/${message.id}`,
    { content: message.content, more: message.more },
    // A page that goes away may still send a little.
    last ? { keepalive: true } : {},
  );
export const take = (file: unknown): Promise<{ ids: string[] }> => json('/chats/import', file);
export const exported = async (): Promise<Blob> => (await ask('/chats/export')).blob();
export const alive = async (): Promise<boolean> => {
  try {
    return (await fetch('/healthz', { cache: 'no-store' })).ok;
  } catch {
    return false;
  }
};
