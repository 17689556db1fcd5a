// The messages of one branch. Only the last ones are drawn; earlier ones come when they are scrolled to.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import { Icon } from './icons';
import { Message, version } from './message';
import { type Side, state, useStore } from './store';
import * as talk from './talk';

const AT_FIRST = 40;
const MORE = 60;
/** Nearer to the end than this the view follows an answer. */
const NEAR_PX = 120;

export function Thread({ side }: { side: Side }) {
  const { chat, runs, target } = useStore();
  const view = useRef<HTMLDivElement>(null);
  const top = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const [shown, setShown] = useState(AT_FIRST);
  const [away, setAway] = useState(false);
  const tree = talk.tree();
  const leaf = talk.leaf(side);
  const path = tree.path(leaf);
  const live = runs.find((run) => run.chat === chat?.id && run.side === side);
  // Until it is saved for the first time it stands in no tree.
  const apart = live && live.message.id < 0 ? live.message : null;
  if (apart) {
    const at = path.findIndex((message) => message.id === apart.parent);
    path.splice(at + 1, path.length, apart);
  }
  const wanted = target === null ? -1 : path.findIndex((message) => message.id === target);
  const from = Math.max(0, Math.min(path.length - shown, wanted < 0 ? path.length : wanted - 5));

  useEffect(() => {
    setShown(AT_FIRST);
    follow.current = true;
  }, [chat?.id]);
  // Whoever says something, or asks for another answer, wants to see it.
  const newest = live ? -live.began : path.length;
  const before = useRef(newest);
  if (before.current !== newest) {
    if (live) follow.current = true;
    before.current = newest;
  }
  useLayoutEffect(() => {
    const box = view.current;
    if (box && follow.current && wanted < 0) box.scrollTop = box.scrollHeight;
  });
  useEffect(() => {
    if (wanted < 0) return;
    const found = view.current?.querySelector<HTMLElement>(`[data-id="${target}"]`);
    follow.current = false;
    found?.scrollIntoView({ block: 'center' });
    found?.focus({ preventScroll: true });
    state.target = null;
  }, [target, chat?.id, wanted >= 0]);
  useEffect(() => {
    if (!top.current || !view.current) return;
    const seen = (entries: IntersectionObserverEntry[]) => {
      if (entries.some((entry) => entry.isIntersecting)) setShown((count) => count + MORE);
    };
    const watch = new IntersectionObserver(seen, { root: view.current, rootMargin: '1200px 0px 0px 0px' });
    watch.observe(top.current);
    return () => watch.disconnect();
  }, [from > 0, shown, chat?.id]);

  const scrolled = () => {
    const box = view.current;
    if (!box) return;
    follow.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    setAway(!follow.current);
  };
  const down = () => {
    follow.current = true;
    view.current?.scrollTo({ top: view.current.scrollHeight });
  };
  const last = path.at(-1);
  return (
    <div class="thread-frame">
      <div class="thread" ref={view} onScroll={scrolled} tabIndex={0} role="region" aria-label={side === 'main' ? 'Conversation' : 'Second conversation'}>
        <div class="column">
          {from > 0 && <div ref={top} class="earlier">Earlier messages…</div>}
          {path.slice(from).map((message) => {
            const run = live?.message === message ? live : undefined;
            return (
              <Message
                key={message.id} message={message} siblings={tree.siblings(message)} run={run}
                last={message === last} side={side} version={version(message, run)}
              />
            );
          })}
        </div>
      </div>
      {away && (
        <button type="button" class="to-end" onClick={down} aria-label="To the end of the conversation">
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}
