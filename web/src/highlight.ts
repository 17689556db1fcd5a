// highlight.js with a dozen languages, whose result becomes elements without a detour through markup.

import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import ini from 'highlight.js/lib/languages/ini';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import shell from 'highlight.js/lib/languages/shell';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import type { ComponentChildren } from 'preact';

import { span } from './code';

const languages = {
  bash, c, cpp, css, diff, go, ini, java, javascript, json, python, rust, shell, sql, typescript, xml, yaml,
};
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

/** Takes what the highlighter says, and makes elements. */
class Elements {
  private stack: { name: string; children: ComponentChildren[] }[] = [{ name: '', children: [] }];

  addText(text: string): void {
    if (text) this.stack[this.stack.length - 1].children.push(text);
  }

  startScope(name: string): void {
    this.stack.push({ name: `c-${name.split('.')[0].replace(/[^a-z_-]/gi, '')}`, children: [] });
  }

  endScope(): void {
    const done = this.stack.pop();
    if (!done || this.stack.length === 0) return;
    this.stack[this.stack.length - 1].children.push(span(done.name, done.children));
  }

  openNode(name: string): void {
    this.startScope(name);
  }

  closeNode(): void {
    this.endScope();
  }

  __addSublanguage(other: Elements): void {
    this.stack[this.stack.length - 1].children.push(...other.result());
  }

  finalize(): void {
    while (this.stack.length > 1) this.endScope();
  }

  toHTML(): string {
    return '';
  }

  result(): ComponentChildren[] {
    this.finalize();
    return this.stack[0].children;
  }
}

hljs.configure({ __emitter: Elements } as never);

/** The code in colors; as it is where its language is not known. */
export function paint(text: string, language: string): ComponentChildren {
  const name = language.toLowerCase();
  if (!hljs.getLanguage(name)) return text;
  try {
    const made = hljs.highlight(text, { language: name, ignoreIllegals: true });
    return (made as unknown as { _emitter: Elements })._emitter.result();
  } catch {
    return text;
  }
}
