// Markdown to elements. marked only splits the text into tokens; elements are made here, one by one, of text nodes.
// HTML stays text, links are http(s), and pictures are links: nothing is fetched.

import { Marked, type Token, type Tokens } from 'marked';
import { Component, type ComponentChildren } from 'preact';

import { Code } from './code';
import { Formula } from './math';

/** Deeper nesting is shown as the text that it is. */
const DEEPEST = 20;
/** Characters of a long text that are added in a frame. */
const CHARS_AT_ONCE = 40_000;
/** Blocks of a group. */
const GROUP = 64;

const marked = new Marked({ gfm: true });
marked.use({
  extensions: [
    {
      name: 'formulaBlock',
      level: 'block',
      start: (text) => /\$\$|\\\[/.exec(text)?.index,
      tokenizer(text) {
        const found = /^(?:\$\$([\s\S]{1,8000}?)\$\$|\\\[([\s\S]{1,8000}?)\\\])[ \t]*(?:\n|$)/.exec(text);
        return found ? { type: 'formulaBlock', raw: found[0], text: (found[1] ?? found[2]).trim() } : undefined;
      },
    },
    {
      name: 'formula',
      level: 'inline',
      start: (text) => /\$|\\\(|\\\[/.exec(text)?.index,
      tokenizer(text) {
        const two = /^(?:\$\$([^$]{1,4000}?)\$\$|\\\[([\s\S]{1,4000}?)\\\])/.exec(text);
        if (two) return { type: 'formula', raw: two[0], text: (two[1] ?? two[2]).trim(), display: true };
        const one = /^(?:\$([^\s$](?:[^$\n]{0,1000}?[^\s$\\])?)\$(?!\d)|\\\(([\s\S]{1,1000}?)\\\))/.exec(text);
        if (one) return { type: 'formula', raw: one[0], text: (one[1] ?? one[2]).trim(), display: false };
        return undefined;
      },
    },
  ],
});

/** A text as blocks. What is before a stream's last blocks is split once, and of a long text a part in each frame. */
export class Markdown extends Component<{ text: string }, { reach: number }> {
  state = { reach: CHARS_AT_ONCE };
  private done: Token[] = [];
  private doneLength = 0;
  private before = '';
  private frame = 0;

  shouldComponentUpdate(next: { text: string }, own: { reach: number }): boolean {
    return next.text !== this.props.text || own.reach !== this.state.reach;
  }

  componentDidMount(): void {
    this.goOn();
  }

  componentDidUpdate(): void {
    this.goOn();
  }

  componentWillUnmount(): void {
    cancelAnimationFrame(this.frame);
  }

  private goOn(): void {
    cancelAnimationFrame(this.frame);
    const { reach } = this.state;
    if (reach >= this.props.text.length) return;
    // A block longer than a part is split again with each: parts that grow keep that short.
    const step = Math.max(CHARS_AT_ONCE, reach - this.doneLength);
    this.frame = requestAnimationFrame(() => this.setState({ reach: reach + step }));
  }

  private tokens(text: string): Token[] {
    if (!text.startsWith(this.before)) {
      this.done = [];
      this.doneLength = 0;
    }
    this.before = text;
    const rest = split(text.slice(this.doneLength, this.state.reach));
    // Of a list or a table the end is not known before something else follows.
    if (rest.length > 8) {
      const settled = rest.slice(0, -3);
      this.done.push(...settled);
      this.doneLength += settled.reduce((sum, token) => sum + token.raw.length, 0);
      return this.done.concat(rest.slice(-3));
    }
    return this.done.concat(rest);
  }

  render() {
    const tokens = this.tokens(this.props.text);
    const groups: Token[][] = [];
    for (let at = 0; at < tokens.length; at += GROUP) groups.push(tokens.slice(at, at + GROUP));
    return (
      <div class="prose">
        {groups.map((group, at) => (
          <Group key={at} tokens={group} />
        ))}
      </div>
    );
  }
}

function split(text: string): Token[] {
  try {
    return marked.lexer(text);
  } catch {
    // Nested too deeply for the splitter.
    return [{ type: 'space', raw: text.slice(0, 0) }, { type: 'verbatim', raw: text, text } as Tokens.Generic];
  }
}

/** Blocks that are compared together: only the last group of a stream changes. */
class Group extends Component<{ tokens: Token[] }> {
  shouldComponentUpdate(next: { tokens: Token[] }): boolean {
    const now = this.props.tokens;
    return next.tokens.length !== now.length || next.tokens.some((token, at) => token !== now[at]);
  }

  render() {
    return this.props.tokens.map((token, at) => <Block key={at} token={token} />);
  }
}

class Block extends Component<{ token: Token }> {
  shouldComponentUpdate(next: { token: Token }): boolean {
    return next.token !== this.props.token && (next.token.raw !== this.props.token.raw || next.token.type !== this.props.token.type);
  }

  render() {
    return block(this.props.token, 0);
  }
}

function block(token: Token, depth: number): ComponentChildren {
  if (depth > DEEPEST) return <p>{token.raw}</p>;
  switch (token.type) {
    case 'space':
    case 'def':
      return null;
    case 'heading': {
      // The page has the first two ranks.
      const rank = Math.min(6, (token as Tokens.Heading).depth + 2);
      const Tag = `h${rank}` as 'h3';
      return <Tag>{inline(token.tokens, depth)}</Tag>;
    }
    case 'paragraph':
      return <p>{inline(token.tokens, depth)}</p>;
    case 'code':
      return <Code text={token.text} language={/^[\w+#.-]{1,30}/.exec(token.lang ?? '')?.[0] ?? ''} />;
    case 'blockquote':
      return <blockquote>{blocks(token.tokens, depth)}</blockquote>;
    case 'hr':
      return <hr />;
    case 'list':
      return list(token as Tokens.List, depth);
    case 'table':
      return table(token as Tokens.Table, depth);
    case 'formulaBlock':
      return <Formula text={token.text} display key={token.text} />;
    case 'html':
      return <p class="verbatim">{token.raw}</p>;
    case 'text':
      return token.tokens ? inline(token.tokens, depth) : entities(token.text);
    default:
      return <p class="verbatim">{token.raw}</p>;
  }
}

function blocks(tokens: Token[] | undefined, depth: number): ComponentChildren {
  return (tokens ?? []).map((token) => block(token, depth + 1));
}

function list(token: Tokens.List, depth: number): ComponentChildren {
  const items = token.items.map((item) => (
    <li class={item.task ? 'task' : undefined}>
      {item.task && <input type="checkbox" checked={item.checked} disabled aria-label={item.checked ? 'done' : 'open'} />}
      {item.tokens.filter((inner) => inner.type !== 'checkbox').map((inner) => block(inner, depth + 1))}
    </li>
  ));
  if (!token.ordered) return <ul>{items}</ul>;
  return <ol start={typeof token.start === 'number' ? token.start : 1}>{items}</ol>;
}

function table(token: Tokens.Table, depth: number): ComponentChildren {
  const side = (at: number) => (token.align[at] ? `to-${token.align[at]}` : undefined);
  return (
    <div class="table" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>
            {token.header.map((cell, at) => (
              <th scope="col" class={side(at)}>
                {inline(cell.tokens, depth)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((row) => (
            <tr>
              {row.map((cell, at) => (
                <td class={side(at)}>{inline(cell.tokens, depth)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inline(tokens: Token[] | undefined, depth: number): ComponentChildren {
  if (depth > DEEPEST) return (tokens ?? []).map((token) => token.raw);
  return (tokens ?? []).map((token) => piece(token, depth + 1));
}

function piece(token: Token, depth: number): ComponentChildren {
  switch (token.type) {
    case 'strong':
      return <strong>{inline(token.tokens, depth)}</strong>;
    case 'em':
      return <em>{inline(token.tokens, depth)}</em>;
    case 'del':
      return <del>{inline(token.tokens, depth)}</del>;
    case 'codespan':
      return <code>{token.text}</code>;
    case 'br':
      return <br />;
    case 'escape':
      return token.text;
    case 'formula':
      return <Formula text={token.text} display={token.display} key={token.text} />;
    case 'link':
      return link(token.href, inline(token.tokens, depth));
    case 'image':
      return link(token.href, `picture: ${token.text || token.href}`);
    case 'text':
      return token.tokens ? inline(token.tokens, depth) : entities(token.text);
    default:
      return token.raw;
  }
}

/** Only addresses of the web lead anywhere; of others the text stays. */
function link(address: string, text: ComponentChildren): ComponentChildren {
  let to: URL;
  try {
    to = new URL(address);
  } catch {
    return <span>{text}</span>;
  }
  if (to.protocol !== 'http:' && to.protocol !== 'https:') return <span>{text}</span>;
  return (
    <a href={to.href} target="_blank" rel="noopener noreferrer nofollow" title={to.host}>
      {text}
    </a>
  );
}

const NAMED: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

/** `&amp;` and numbers, as Markdown has them. */
function entities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,6}));/gi, (whole, ten, sixteen, name) => {
    if (name) return NAMED[name] ?? whole;
    const letter = ten ? Number.parseInt(ten, 10) : Number.parseInt(sixteen, 16);
    return letter > 0 && letter <= 0x10ffff ? String.fromCodePoint(letter) : whole;
  });
}
