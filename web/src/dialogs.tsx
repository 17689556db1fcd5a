// Dialogs: the key, deleting, renaming, shortcuts. The browser keeps the focus inside of them and gives it back.

import { type ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import { key } from './api';
import { choice, set, useStore } from './store';
import * as talk from './talk';
import type { Head } from './types';

export function Dialogs() {
  const { dialog } = useStore();
  switch (dialog?.kind) {
    case 'key':
      return <Key wrong={dialog.wrong} />;
    case 'help':
      return <Help />;
    case 'delete':
      return <Delete chat={dialog.chat} />;
    case 'rename':
      return <Rename chat={dialog.chat} />;
    default:
      return null;
  }
}

const close = () => set({ dialog: null });

function Box({ title, children }: { title: string; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    box.current?.showModal();
    return () => box.current?.close();
  }, []);
  return (
    <dialog ref={box} aria-labelledby="dialog-title" onCancel={(event) => { event.preventDefault(); close(); }}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

function Key({ wrong }: { wrong: boolean }) {
  const [text, setText] = useState('');
  return (
    <Box title="This server asks for a key">
      <form method="dialog" onSubmit={(event) => { event.preventDefault(); talk.enter(text); }}>
        <p>{wrong ? 'The server does not know that key. ' : ''}It is kept in this tab until you close it, and sent to this server only.</p>
        <label for="key">Key</label>
        <input id="key" type="password" autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <div class="row">
          <button type="submit" class="main" disabled={!text.trim()}>Use it</button>
          <button type="button" onClick={close}>Not now</button>
        </div>
      </form>
    </Box>
  );
}

function Delete({ chat }: { chat: Head }) {
  return (
    <Box title="Delete this chat?">
      <p>“{chat.title || 'A chat'}” and all its branches go, and cannot be had back.</p>
      <div class="row">
        <button type="button" class="main danger" onClick={() => { close(); void talk.remove(chat); }}>Delete</button>
        <button type="button" onClick={close}>Keep it</button>
      </div>
    </Box>
  );
}

function Rename({ chat }: { chat: Head }) {
  const [title, setTitle] = useState(chat.title);
  return (
    <Box title="Rename the chat">
      <form method="dialog" onSubmit={(event) => { event.preventDefault(); close(); void talk.rename(chat, title.trim()); }}>
        <label for="title">Title</label>
        <input id="title" maxLength={200} value={title} onInput={(event) => setTitle(event.currentTarget.value)} />
        <div class="row">
          <button type="submit" class="main" disabled={!title.trim()}>Rename</button>
          <button type="button" onClick={close}>Cancel</button>
        </div>
      </form>
    </Box>
  );
}

/** Shortcuts, as the help lists them. Those of one letter work outside of fields, and can be turned off. */
export const SHORTCUTS: [string, string][] = [
  ['Enter', 'send; Shift+Enter begins a line'],
  ['Esc', 'stop the answer, close what is open'],
  ['Ctrl+K', 'search all chats'],
  ['?', 'this list'],
  ['n', 'new chat'],
  ['/', 'to the message field'],
  ['r', 'answer again'],
  ['e', 'edit the last question'],
  ['j, k', 'next message, message before'],
  ['[, ]', 'branch before, branch after'],
  ['s', 'settings'],
  ['c', 'two models side by side'],
];

function Help() {
  const [letters, setLetters] = useState(choice.get('letters') !== 'off');
  return (
    <Box title="Shortcuts">
      <dl class="keys">
        {SHORTCUTS.map(([keys, does]) => (
          <div>
            <dt><kbd>{keys}</kbd></dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox" checked={letters}
          onChange={(event) => { setLetters(event.currentTarget.checked); choice.set('letters', event.currentTarget.checked ? 'on' : 'off'); }}
        />
        Shortcuts of one letter
      </label>
      <div class="row">
        <button type="button" class="main" onClick={close}>Close</button>
        <a class="quiet small" href="/page/licences.txt" target="_blank" rel="noopener">Licences</a>
        {key.get() && <button type="button" onClick={() => { key.set(''); close(); void talk.load(); }}>Forget the key</button>}
      </div>
    </Box>
  );
}
