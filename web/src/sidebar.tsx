// All chats, by the day of their last change, and a search through their texts.

import { useRef, useState } from 'preact/hooks';

import { Icon, Mark } from './icons';
import { set, useStore } from './store';
import * as talk from './talk';
import type { Head } from './types';

export function Sidebar() {
  const { chats, moreChats, chat, query, found, sidebar, facts } = useStore();
  const file = useRef<HTMLInputElement>(null);
  const take = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    const wanted = input.files?.[0];
    input.value = '';
    if (wanted) void talk.take(wanted);
  };
  return (
    <nav class={`sidebar${sidebar ? ' open' : ''}`} aria-label="Chats" id="sidebar">
      <div class="brand">
        <Mark />
        <span>Pasture</span>
        <button type="button" class="tool only-narrow" aria-label="Close the list of chats" onClick={() => set({ sidebar: false })}>
          <Icon name="close" />
        </button>
      </div>
      <button type="button" class="new" onClick={talk.fresh}>
        <Icon name="plus" /> New chat
      </button>
      <div class="search">
        <Icon name="search" />
        <input
          id="search" type="search" placeholder="Search chats" aria-label="Search chats" value={query}
          onInput={(event) => void talk.search(event.currentTarget.value)}
          onKeyDown={(event) => event.key === 'Escape' && void talk.search('')}
        />
      </div>
      {found ? (
        <Results />
      ) : (
        <div class="chats">
          {groups(chats).map(([day, list]) => (
            <section aria-label={day}>
              <h2>{day}</h2>
              <ul>
                {list.map((one) => (
                  <Row key={one.id} chat={one} current={one.id === chat?.id} />
                ))}
              </ul>
            </section>
          ))}
          {moreChats && <button type="button" class="quiet" onClick={talk.older}>Earlier chats</button>}
          {chats.length === 0 && <p class="none">Chats will stand here.</p>}
        </div>
      )}
      <div class="below">
        {facts && !facts.chats.file && <p class="warn">Chats end with the server: it has no file for them.</p>}
        <div class="row">
          <button type="button" class="quiet" onClick={() => void talk.save(null)} disabled={chats.length === 0}>
            <Icon name="save" /> Export all
          </button>
          <button type="button" class="quiet" onClick={() => file.current?.click()}>
            <Icon name="open" /> Import
          </button>
          <input ref={file} type="file" accept="application/json,.json" class="unseen" tabIndex={-1} aria-label="File of chats" onChange={take} />
        </div>
      </div>
    </nav>
  );
}

function Results() {
  const { found } = useStore();
  if (!found?.length) return <p class="none" role="status">Nothing was found.</p>;
  return (
    <ul class="chats found" aria-label="Found">
      {found.map((one) => (
        <li>
          <button type="button" class="hit" onClick={() => void talk.open(one.chat, one.message)}>
            <strong>{one.title || 'A chat'}</strong>
            {one.excerpt && <span>{one.excerpt}</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}

function Row({ chat, current }: { chat: Head; current: boolean }) {
  const [menu, setMenu] = useState(false);
  const act = (run: () => void) => () => {
    setMenu(false);
    run();
  };
  return (
    <li
      class={current ? 'current' : undefined}
      onKeyDown={(event) => {
        if (event.key === 'Escape' && menu) {
          event.stopPropagation();
          setMenu(false);
        }
      }}
    >
      <button type="button" class="chat" aria-current={current ? 'page' : undefined} onClick={() => void talk.open(chat.id)}>
        {chat.title || 'A chat'}
      </button>
      <button type="button" class="tool dots" aria-label={`More for ${chat.title}`} aria-expanded={menu} onClick={() => setMenu(!menu)}>
        ⋯
      </button>
      {menu && (
        <div class="menu">
          <button type="button" onClick={act(() => set({ dialog: { kind: 'rename', chat } }))}>Rename</button>
          <button type="button" onClick={act(() => void talk.save(chat))}>Export</button>
          <button type="button" class="danger" onClick={act(() => set({ dialog: { kind: 'delete', chat } }))}>Delete</button>
        </div>
      )}
    </li>
  );
}

function groups(chats: Head[]): [string, Head[]][] {
  const today = new Date().setHours(0, 0, 0, 0) / 1000;
  const day = 86_400;
  const name = (time: number) =>
    time >= today ? 'Today' : time >= today - day ? 'Yesterday' : time >= today - 6 * day ? 'This week' : 'Earlier';
  const list = new Map<string, Head[]>();
  for (const chat of chats) {
    const at = name(chat.changed);
    list.set(at, [...(list.get(at) ?? []), chat]);
  }
  return [...list];
}
