// One message: its text, what else the model gave, and what can be done with it.

import { Component, type ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import { Code, copyText } from './code';
import { Icon } from './icons';
import { Markdown } from './markdown';
import { type Run, type Side, state } from './store';
import * as talk from './talk';
import type { Message as Said } from './types';

interface Props {
  message: Said;
  siblings: Said[];
  run: Run | undefined;
  last: boolean;
  side: Side;
  /** Changes with each piece of an answer that is being made. */
  version: string;
}

/** Drawn again only when something of it changed: a chat may have thousands. */
export class Message extends Component<Props, { editing: boolean }> {
  state = { editing: false };

  shouldComponentUpdate(next: Props, own: { editing: boolean }): boolean {
    const now = this.props;
    return (
      own.editing !== this.state.editing || next.message !== now.message || next.version !== now.version ||
      next.run !== now.run || next.last !== now.last || next.siblings.length !== now.siblings.length
    );
  }

  render() {
    const { message, run, side } = this.props;
    const who = message.role === 'user' ? 'You' : message.role === 'tool' ? `Result of ${message.more.call?.name ?? 'a call'}` : (message.more.model ?? 'Model');
    const edit = () => this.setState({ editing: true });
    return (
      <article class={`message of-${message.role}`} aria-label={who} tabIndex={-1} data-id={message.id} onFocus={undefined}>
        <h3 class="who">{who}</h3>
        {this.state.editing ? (
          <Edit message={message} side={side} done={() => this.setState({ editing: false })} />
        ) : (
          <Body message={message} run={run} />
        )}
        {message.role === 'assistant' && this.props.last && !run && <Calls message={message} side={side} />}
        {message.more.broke && !run && <Broke message={message} side={side} />}
        {!run && !this.state.editing && <Foot {...this.props} edit={edit} />}
        {run && <Speed run={run} />}
      </article>
    );
  }
}

function Body({ message, run }: { message: Said; run: Run | undefined }) {
  const { content, more } = message;
  if (message.role === 'user') return <div class="bubble">{content}</div>;
  if (message.role === 'tool') return <Code text={content} language="json" />;
  const json = more.structured && !run ? pretty(content) : null;
  return (
    <>
      {more.reasoning && <Reasoning text={more.reasoning} thinking={Boolean(run) && !content} />}
      {json !== null ? <Code text={json} language="json" /> : <Markdown text={content} />}
      {run && !content && !more.reasoning && <p class="waiting">Reading…</p>}
      {(more.calls ?? []).map((call) => (
        <section class="call" aria-label={`Call of ${call.name}`}>
          <h4>Calls {call.name}</h4>
          <Code text={pretty(call.arguments) ?? call.arguments} language="json" />
        </section>
      ))}
    </>
  );
}

function pretty(text: string): string | null {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

function Reasoning({ text, thinking }: { text: string; thinking: boolean }) {
  return (
    <details class="reasoning">
      <summary>{thinking ? 'Thinking…' : 'Thoughts'}</summary>
      <Markdown text={text} />
    </details>
  );
}

function Speed({ run }: { run: Run }) {
  if (run.firstAt === null) return <p class="meta">waiting for the first token</p>;
  const seconds = (performance.now() - run.firstAt) / 1000;
  const rate = seconds > 0.3 ? `${((run.pieces - 1) / seconds).toFixed(1)} tokens/s · ` : '';
  return (
    <p class="meta">
      {rate}
      {run.pieces} tokens
    </p>
  );
}

function Broke({ message, side }: { message: Said; side: Side }) {
  const parent = message.parent;
  return (
    <p class="broke" role="status">
      <span>{message.more.broke === 'Stopped' ? 'Stopped.' : `${message.more.broke}. The answer may not be whole.`}</span>
      {parent !== null && message.more.broke !== 'Stopped' && (
        <button type="button" class="small" onClick={() => void talk.answer(parent, side)}>
          Answer again
        </button>
      )}
    </p>
  );
}

function Foot({ message, siblings, side, last, edit }: Props & { edit: () => void }) {
  const [copied, setCopied] = useState(false);
  const at = siblings.findIndex((other) => other.id === message.id);
  const go = (step: number) => void talk.show(siblings[at + step].id, side);
  const copy = () => {
    void copyText(message.content).then(() => setCopied(true));
    setTimeout(() => setCopied(false), 1500);
  };
  const parent = message.parent;
  return (
    <div class="foot">
      {siblings.length > 1 && at >= 0 && (
        <span class="siblings" role="group" aria-label="Branches">
          <Tool name="left" label="Branch before" off={at === 0} run={() => go(-1)} />
          <span aria-label={`Branch ${at + 1} of ${siblings.length}`}>
            {at + 1}/{siblings.length}
          </span>
          <Tool name="right" label="Branch after" off={at === siblings.length - 1} run={() => go(1)} />
        </span>
      )}
      <Tool name="copy" label={copied ? 'Copied' : 'Copy'} run={copy} />
      {message.role === 'user' && <Tool name="edit" label="Edit as a branch" run={edit} />}
      {message.role !== 'assistant' && last && state.runs.length === 0 && (
        <Tool name="again" label="Answer this" run={() => void talk.answer(message.id, side)} />
      )}
      {message.role === 'assistant' && parent !== null && (
        <Tool name="again" label="Answer again" run={() => void talk.answer(parent, side)} />
      )}
      {message.role === 'assistant' && <Meta message={message} />}
    </div>
  );
}

export function Tool({ name, label, run, off }: { name: string; label: string; run: () => void; off?: boolean }) {
  return (
    <button type="button" class="tool" aria-label={label} title={label} onClick={run} disabled={off}>
      <Icon name={name} />
    </button>
  );
}

/** Tokens that come within so few seconds come in one step, of which a rate says nothing. */
const SHORTEST = 0.02;

function Meta({ message }: { message: Said }) {
  const { usage, took, first, finish } = message.more;
  const parts: ComponentChildren[] = [];
  if (usage && took && took > SHORTEST) parts.push(`${(Math.max(0, usage.completion_tokens - 1) / took).toFixed(1)} tokens/s`);
  if (usage) parts.push(`${usage.completion_tokens} tokens`);
  if (first) parts.push(`first after ${first.toFixed(1)} s`);
  if (finish === 'length') parts.push('cut at its limit');
  return parts.length ? <span class="meta">{parts.join(' · ')}</span> : null;
}

function Edit({ message, side, done }: { message: Said; side: Side; done: () => void }) {
  const [text, setText] = useState(message.content);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const save = async () => {
    if (text.trim() && (await talk.edit(message, text, side))) done();
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      done();
    } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void save();
  };
  return (
    <div class="edit">
      <textarea
        ref={field} aria-label="Edited message" rows={Math.min(12, text.split('\n').length + 1)} value={text}
        onInput={(event) => setText(event.currentTarget.value)} onKeyDown={keys}
      />
      <div class="row">
        <button type="button" class="main" onClick={save}>Send as a branch</button>
        <button type="button" onClick={done}>Cancel</button>
      </div>
    </div>
  );
}

/** Calls wait for results, which somebody writes. */
function Calls({ message, side }: { message: Said; side: Side }) {
  const calls = message.more.calls ?? [];
  const [texts, setTexts] = useState<string[]>([]);
  if (calls.length === 0) return null;
  const put = (at: number, text: string) => {
    const next = texts.slice();
    next[at] = text;
    setTexts(next);
  };
  return (
    <div class="results">
      {calls.map((call, at) => (
        <label>
          Result of {call.name}
          <textarea rows={2} value={texts[at] ?? ''} onInput={(event) => put(at, event.currentTarget.value)} />
        </label>
      ))}
      <button type="button" class="main" onClick={() => void talk.results(message, texts, side)}>
        Give {calls.length > 1 ? 'results' : 'the result'}
      </button>
    </div>
  );
}

/** What tells that a message has to be drawn again. */
export function version(message: Said, run: Run | undefined): string {
  const { more } = message;
  const calls = (more.calls ?? []).reduce((sum, call) => sum + call.arguments.length + 1, 0);
  return `${message.id} ${message.content.length} ${more.reasoning?.length ?? 0} ${calls} ${run ? run.pieces : more.broke ?? ''} ${state.runs.length}`;
}
