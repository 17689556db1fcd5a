// The one state of the page, and who is told when it changes.

import { useEffect, useReducer } from 'preact/hooks';

import type { Chat, Facts, Found, Head, Message, ModelRow } from './types';

/** An answer that is being made. */
export interface Run {
  chat: string;
  message: Message;
  abort: AbortController;
  began: number;
  firstAt: number | null;
  pieces: number;
  /** Which of two columns. */
  side: Side;
}

export type Side = 'main' | 'beside';

/** What went wrong, and what the page does about it. */
export interface Trouble {
  text: string;
  kind: 'gone' | 'busy' | 'refused' | 'note';
  /** When it is tried again by itself. */
  until?: number;
  again?: () => void;
}

export type Dialog =
  | { kind: 'key'; wrong: boolean }
  | { kind: 'help' }
  | { kind: 'delete'; chat: Head }
  | { kind: 'rename'; chat: Head };

export interface State {
  facts: Facts | null;
  models: ModelRow[];
  chats: Head[];
  moreChats: boolean;
  chat: Chat | null;
  /** Settings of a chat that does not exist yet. */
  fresh: Chat['settings'];
  loading: boolean;
  runs: Run[];
  trouble: Trouble | null;
  dialog: Dialog | null;
  settings: boolean;
  sidebar: boolean;
  query: string;
  found: Found[] | null;
  /** A message to look at. */
  target: number | null;
  /** For screen readers. */
  said: string;
}

export const state: State = {
  facts: null,
  models: [],
  chats: [],
  moreChats: false,
  chat: null,
  fresh: {},
  loading: true,
  runs: [],
  trouble: null,
  dialog: null,
  settings: false,
  sidebar: false,
  query: '',
  found: null,
  target: null,
  said: '',
};

const listeners = new Set<() => void>();
let waiting = false;

/** Changes the state; what is shown follows with the next frame. */
export function set(change: Partial<State>): void {
  Object.assign(state, change);
  touch();
}

export function touch(): void {
  if (waiting) return;
  waiting = true;
  // A hidden tab draws no frames, and its state goes on.
  const tell = () => {
    waiting = false;
    for (const listener of [...listeners]) listener();
  };
  if (document.hidden) setTimeout(tell, 100);
  else requestAnimationFrame(tell);
}

/** The state, for a component that is drawn again with each change. */
export function useStore(): State {
  const [, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    const listener = () => again(undefined as never);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return state;
}

/** What is typed into a chat that does not exist yet stands under this name. */
const NEW = 'new';
const drafts = new Map<string, string>();

/** Text that is being written, by chat; a reload does not lose it. */
export const draft = {
  /** Where typed text belongs: what is drawn may be a frame behind the state. */
  place: (): string => state.chat?.id ?? NEW,
  get: (place: string): string => drafts.get(place) ?? sessionStorage.getItem(`pasture-draft-${place}`) ?? '',
  set: (place: string, text: string): void => {
    drafts.set(place, text);
    const name = `pasture-draft-${place}`;
    try {
      if (text) sessionStorage.setItem(name, text);
      else sessionStorage.removeItem(name);
    } catch {
      // A text beyond the browser's room stays in the field.
    }
  },
  /** The new chat exists now, and what is typed goes on in it. */
  began: (chat: string): void => {
    draft.set(chat, draft.get(NEW));
    draft.set(NEW, '');
  },
};

/** Choices of this browser that are no secret. */
export const choice = {
  get: (name: string): string | null => localStorage.getItem(`pasture-${name}`),
  set: (name: string, value: string): void => {
    try {
      localStorage.setItem(`pasture-${name}`, value);
    } catch {
      // A browser that keeps nothing keeps no choice.
    }
  },
};
